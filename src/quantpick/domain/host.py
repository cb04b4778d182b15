"""The machine as read once: memory, devices, engine; and what the flags change about it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

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


class Ram(NamedTuple):
    """System memory in bytes: installed, and available now (None where unknown)."""

    total: int
    available: int | None
    source: str


#: Types whose matrices llama.cpp keeps a second time in RAM, in an order that suits the kernels
#: of a processor feature: ggml-cpu/repack.cpp and ggml-cpu/amx at build b11540.
_REPACKED = {
    "avx2": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "avx512f": frozenset({"Q2_K"}),
    "amx_int8": frozenset({"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"}),
    "asimddp": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "Q8_0", "MXFP4"}),
}

#: The features that decide about memory, as the kernel spells them.
CPU_FEATURES = tuple(_REPACKED)


class Cpu(NamedTuple):
    """Processor name and logical cores, None where unknown.

    ``features`` are those of ``CPU_FEATURES`` that it has, None where that is unknown.
    """

    name: str | None
    cores: int | None
    features: tuple[str, ...] | None = None

    @property
    def repacked_types(self) -> frozenset[str]:
        """Tensor types that the CPU backend keeps twice; any that it could, where unknown."""
        features = CPU_FEATURES if self.features is None else self.features
        return frozenset().union(*(_REPACKED.get(name, ()) for name in features))


class Device(NamedTuple):
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


class Engine(NamedTuple):
    """The llama.cpp build that will load the file."""

    build: int
    source: str


class Caveat(NamedTuple):
    """A warning as a value: what the user should know about the figures, with a stable code."""

    code: str
    message: str


class Host(NamedTuple):
    """One machine. ``devices`` is empty where llama.cpp would compute on the CPU."""

    ram: Ram
    cpu: Cpu
    devices: tuple[Device, ...] = ()
    engine: Engine | None = None
    warnings: tuple[Caveat, ...] = ()

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
    has no device and was given no memory for one, and for GPU memory on the CPU backend.
    """
    if ram is not None:
        host = _with_ram(host, Ram(total=ram, available=None, source="--ram"))
    if build is not None:
        host = host._replace(engine=Engine(build, "--llama-cpp"))
    if backend is Backend.CPU and vram:
        raise UsageError(
            "--backend cpu uses no GPU, so --vram does not go with it", "leave one out"
        )
    if backend is Backend.CPU:
        return host._replace(devices=())
    if vram:
        return host._replace(devices=_stated_devices(vram, backend))
    if backend is None:
        return host
    if not host.devices and backend is Backend.METAL:
        return host._replace(devices=(unified_metal_device(host.ram),))
    if not host.devices:
        raise UsageError(
            f"--backend {backend} needs a GPU and none was found",
            "state its memory, for example --vram 24GiB",
        )
    return host._replace(devices=tuple(d._replace(backend=backend) for d in host.devices))


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


def _with_ram(host: Host, ram: Ram) -> Host:
    """Return the host with other RAM, of which a unified device cannot have more than all."""
    devices = (
        device._replace(total=ram.total, usable=min(device.usable, ram.total), free=None)
        if device.memory_kind is MemoryKind.UNIFIED
        else device
        for device in host.devices
    )
    return host._replace(ram=ram, devices=tuple(devices))


def _stated_devices(sizes: Sequence[int], backend: Backend | None) -> tuple[Device, ...]:
    kind = MemoryKind.UNIFIED if backend is Backend.METAL else MemoryKind.DEDICATED
    return tuple(
        Device(f"GPU {index}", backend, kind, size, size, None, "--vram")
        for index, size in enumerate(sizes)
    )
