"""The machine as read once: memory, devices, engine; and what the flags change about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from quantpick.domain.units import GIB
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Backend(StrEnum):
    """Software that computes: llama.cpp's backends."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    METAL = "metal"
    SYCL = "sycl"


class MemoryKind(StrEnum):
    """Whether a device's memory is its own, or a view of the host's."""

    DEDICATED = "dedicated"
    UNIFIED = "unified"


@dataclass(frozen=True)
class Ram:
    """System memory in bytes: installed, and available now (None where unknown)."""

    total: int
    available: int | None
    source: str


@dataclass(frozen=True)
class Cpu:
    """Processor name and logical cores; None where unknown."""

    name: str | None
    cores: int | None


@dataclass(frozen=True)
class Device:
    """A thing with its own memory, in bytes: on the sticker, usable, free now.

    ``usable`` is what programs can have when nothing else runs; ``free`` is None where unknown.
    ``backend`` is None where only the memory was stated.
    """

    name: str
    backend: Backend | None
    memory_kind: MemoryKind
    total: int
    usable: int
    free: int | None
    source: str


@dataclass(frozen=True)
class Engine:
    """The llama.cpp build that will load the file."""

    build: int
    source: str


@dataclass(frozen=True)
class Warning:  # noqa: A001 -- a warning about the host; the built-in is not used here
    """Something the user should know about the figures: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class Host:
    """One machine. ``devices`` is empty where llama.cpp would compute on the CPU."""

    ram: Ram
    cpu: Cpu
    devices: tuple[Device, ...] = ()
    engine: Engine | None = None
    warnings: tuple[Warning, ...] = ()

    @property
    def backend(self) -> Backend | None:
        """The backend that computes: the first device's, CPU without one, None if not stated."""
        return self.devices[0].backend if self.devices else Backend.CPU

    @property
    def vram(self) -> int:
        """Usable memory of all devices together, in bytes."""
        return sum(device.usable for device in self.devices)

    @property
    def dedicated_vram(self) -> int:
        """Usable memory that is the devices' own, in bytes."""
        return sum(d.usable for d in self.devices if d.memory_kind is MemoryKind.DEDICATED)

    @property
    def pool(self) -> int:
        """All memory a model can use, in bytes; unified memory is the host's and counts once."""
        return self.ram.total + self.dedicated_vram


def override_host(
    host: Host,
    *,
    vram: Sequence[int] = (),
    ram: int | None = None,
    backend: Backend | None = None,
    build: int | None = None,
) -> Host:
    """Return the host with the user's figures in place of the probed ones.

    ``vram`` has one size in bytes a device. Raises UsageError for a GPU backend on a machine that
    has no device and was given no memory for one.
    """
    if ram is not None:
        host = replace(host, ram=Ram(total=ram, available=None, source="--ram"))
    if build is not None:
        host = replace(host, engine=Engine(build, "--llama-cpp"))
    if backend is Backend.CPU:
        return replace(host, devices=())
    if vram:
        return replace(host, devices=_stated_devices(vram, backend))
    if backend is None:
        return host
    if not host.devices and backend is Backend.METAL:
        return replace(host, devices=(unified_metal_device(host.ram),))
    if not host.devices:
        raise UsageError(
            f"--backend {backend} needs a GPU and none was found",
            "state its memory, for example --vram 24GiB",
        )
    return replace(host, devices=tuple(replace(d, backend=backend) for d in host.devices))


def unified_metal_device(ram: Ram) -> Device:
    """Return the GPU of an Apple Silicon machine, from its memory alone.

    Metal lets programs use a share of RAM: two thirds up to 32 GiB and three quarters above, as
    macOS up to 15 does (read off llama.cpp logs of 16 to 192 GiB machines). macOS 26 gives more, so
    this is a lower bound; ``--vram`` states the true figure.
    """
    usable = ram.total * 2 // 3 if ram.total <= 32 * GIB else ram.total * 3 // 4
    return Device(
        name="Apple GPU",
        backend=Backend.METAL,
        memory_kind=MemoryKind.UNIFIED,
        total=ram.total,
        usable=usable,
        free=None,
        source="share of RAM that macOS 15 lets a GPU use",
    )


def _stated_devices(sizes: Sequence[int], backend: Backend | None) -> tuple[Device, ...]:
    kind = MemoryKind.UNIFIED if backend is Backend.METAL else MemoryKind.DEDICATED
    return tuple(
        Device(f"GPU {index}", backend, kind, size, size, None, "--vram")
        for index, size in enumerate(sizes)
    )
