"""What the flags change about a machine: stated figures in place of the probed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Backend, Caveat, Cut, Device, Engine, Host, MemoryKind, Ram
from quantpick.domain.working_set import working_set
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The source of a device of which the memory was stated and nothing else.
STATED = "--vram"


class Stated(NamedTuple):
    """What the user says of a machine; sizes in bytes, None and empty where nothing is said.

    ``vram`` and ``free_vram`` have one size a device, ``gpus`` the devices of named machines.
    ``devices`` are words for ``choice.with_devices``, ``ram_source`` the flag that says ``ram``.
    """

    vram: tuple[int, ...] = ()
    ram: int | None = None
    backend: Backend | None = None
    build: int | None = None
    devices: tuple[str, ...] = ()
    free_vram: tuple[int, ...] = ()
    gpus: tuple[Device, ...] = ()
    ram_source: str = "--ram"

    @property
    def whole(self) -> bool:
        """Whether the GPUs need no probing: they are stated, or not wanted."""
        return bool(self.vram or self.gpus) or self.backend is Backend.CPU


def override_host(host: Host, stated: Stated) -> Host:
    """Return the host with the user's figures in place of the probed ones.

    Raises UsageError for a GPU backend on a machine that has no device and was given no memory for
    one, for GPU memory on the CPU backend, and for free memory of other devices than there are;
    NotFoundError for a device that is not there.
    """
    if stated.gpus:
        host = host._replace(devices=stated.gpus)
    if stated.ram is not None:
        host = _with_ram(host, Ram(stated.ram, available=None, source=stated.ram_source))
    if stated.build is not None:
        engine = host.engine or Engine(stated.build, "--llama-cpp")
        host = host._replace(engine=engine._replace(build=stated.build, source="--llama-cpp"))
    if stated.backend is Backend.CPU and (stated.vram or stated.gpus):
        flag = "--vram" if stated.vram else "--gpu"
        raise UsageError(
            f"--backend cpu uses no GPU, so {flag} does not go with it", "leave one out"
        )
    if stated.vram:
        host = host._replace(devices=_stated_devices(stated.vram, stated.backend))
    if stated.backend is not None and not stated.vram:
        host = _with_backend(host, stated.backend)
    if stated.devices:
        from quantpick.domain.choice import with_devices

        host = with_devices(host, stated.devices)
    return _with_free(host, stated.free_vram) if stated.free_vram else host


def unified_metal_device(ram: Ram) -> Device:
    """Return the GPU of an Apple Silicon machine, from its memory alone."""
    usable = working_set(ram.total, macos=None)
    return Device(
        name="Apple GPU",
        backend=Backend.METAL,
        memory_kind=MemoryKind.UNIFIED,
        total=ram.total,
        usable=usable,
        free=None,
        source="share of RAM that macOS lets a GPU use",
        backends=(Backend.METAL,),
        fp16=True,
        bf16=True,
        integrated=True,
    )


def _with_backend(host: Host, backend: Backend) -> Host:
    if backend is Backend.CPU:
        return host._replace(devices=())
    from quantpick.domain.choice import with_backend

    there = with_backend(host, backend)
    if there.devices:
        return there
    if host.devices:
        # The user may know better; that nobody else does is worth a word.
        names = ", ".join(device.name for device in host.devices)
        caveat = Caveat("backend_unproven", f"nothing says that {backend} drives {names}")
        devices = tuple(device._replace(backend=backend) for device in host.devices)
        return host._replace(devices=devices, warnings=(*host.warnings, caveat))
    if backend is Backend.METAL:
        return host._replace(devices=(unified_metal_device(host.ram),))
    raise UsageError(
        f"--backend {backend} needs a GPU and none was found",
        "state its memory, for example --vram 24GiB",
    )


def _with_ram(host: Host, ram: Ram) -> Host:
    """Return the host with other RAM, of which a device cannot share more than all."""
    return host._replace(ram=ram, devices=tuple(_sharing(device, ram) for device in host.devices))


def _sharing(device: Device, ram: Ram) -> Device:
    """Return a device beside other RAM: what it shares is at most all of that."""
    if device.memory_kind is MemoryKind.UNIFIED:
        return device if device.total == ram.total else _sharing_all(device, ram)
    gtt = min(device.gtt, ram.total)
    lost = device.gtt - gtt
    free = None if device.gtt else device.free
    cuts = (Cut("gtt_beyond_ram", lost, "GTT beyond the RAM there is"),) if lost else ()
    return device._replace(
        usable=device.usable - lost, gtt=gtt, free=free, cuts=(*device.cuts, *cuts)
    )


def _sharing_all(device: Device, ram: Ram) -> Device:
    """Return a device that has a part of other RAM: by Apple's rule, or as much as it had."""
    if device.backend is Backend.METAL:
        again = unified_metal_device(ram)
        cut = Cut("working_set", ram.total - again.usable, "macOS keeps it from the GPU by default")
        return device._replace(
            total=ram.total,
            usable=again.usable,
            free=None,
            usable_source=again.source,
            free_source=None,
            cuts=(cut,),
        )
    whole = device.usable == device.total
    usable = ram.total if whole else min(device.usable, ram.total)
    return device._replace(total=ram.total, usable=usable, free=None)


def _stated_devices(sizes: Sequence[int], backend: Backend | None) -> tuple[Device, ...]:
    kind = MemoryKind.UNIFIED if backend is Backend.METAL else MemoryKind.DEDICATED
    return tuple(
        Device(f"GPU {index}", backend, kind, size, size, None, STATED)
        for index, size in enumerate(sizes)
    )


def _with_free(host: Host, sizes: Sequence[int]) -> Host:
    """Return the host with so much free on its devices, and no more planned for."""
    if len(sizes) != len(host.devices):
        raise UsageError(
            f"--free-vram: {len(sizes)} given, where the devices are {len(host.devices)}",
            "give it once a device, in the order of: quantpick hardware",
        )
    pairs = zip(host.devices, sizes, strict=True)
    return host._replace(devices=tuple(_left_free(device, size) for device, size in pairs))


def _left_free(device: Device, size: int) -> Device:
    free = min(size, device.usable)
    held = device.usable - free
    cut = Cut("in_use", held, "in use by other programs (--free-vram)")
    gtt = max(0, device.gtt - held)
    return device._replace(
        usable=free,
        free=free,
        gtt=gtt,
        usable_source="--free-vram",
        free_source="--free-vram",
        cuts=(*device.cuts, *([cut] if held else [])),
    )
