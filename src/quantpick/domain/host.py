"""The machine as read once: memory, devices, engine; and what the flags change about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Backend(StrEnum):
    """Software that computes: llama.cpp's backends."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    VULKAN = "vulkan"
    METAL = "metal"
    SYCL = "sycl"


class MemoryKind(StrEnum):
    """Whether a device's memory is its own, a view of the host's, or (AMD APUs) some of each."""

    DEDICATED = "dedicated"
    UNIFIED = "unified"
    CARVE_OUT_GTT = "carve-out+gtt"


class Cut(NamedTuple):
    """Why programs get less memory than there is: ``size`` bytes taken off, with a stable code."""

    code: str
    size: int
    message: str


class Ram(NamedTuple):
    """System memory in bytes: what programs can have, and available now (None where unknown).

    ``cuts`` say why ``total`` is less than ``installed``, which is None where they are the same.
    """

    total: int
    available: int | None
    source: str
    installed: int | None = None
    cuts: tuple[Cut, ...] = ()


#: Types whose matrices llama.cpp keeps a second time in RAM, in an order that suits the kernels
#: of a processor feature: ggml-cpu/repack.cpp and ggml-cpu/amx at build b11540.
_REPACKED = {
    "avx2": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "avx512f": frozenset({"Q2_K"}),
    "amx_int8": frozenset({"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"}),
    "asimddp": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "Q8_0", "MXFP4"}),
}

#: Features with which a processor works on numbers of 16 bits, as llama.cpp's CPU backend uses
#: them: ggml-cpu/vec.cpp and ggml-cpu/simd-mappings.h.
_FP16 = ("f16c", "asimdhp")
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")

#: The features that decide about memory and about 16-bit types, as the kernel spells them.
CPU_FEATURES = (*_REPACKED, *_FP16, *_BF16)


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

    @property
    def fp16(self) -> bool | None:
        """Whether FP16 is in hardware, None where the features are unknown."""
        return None if self.features is None else any(name in self.features for name in _FP16)

    @property
    def bf16(self) -> bool | None:
        """Whether BF16 is in hardware, None where the features are unknown."""
        return None if self.features is None else any(name in self.features for name in _BF16)


class Device(NamedTuple):
    """A thing with its own memory, in bytes: on the sticker, usable, free now.

    ``usable`` is what programs can have when nothing else runs, and ``cuts`` say why it is less
    than ``total``; ``free`` is None where unknown. ``gtt`` bytes of ``usable`` are the host's RAM
    (with unified memory all of it is). ``backend`` is None where only the memory was stated, and
    ``backends`` are all that can drive the device. ``arch`` is the CUDA compute capability
    (``8.6``), the gfx target or the Metal family; ``bandwidth`` is in bytes a second, from
    ``source`` unless ``bandwidth_source`` says otherwise;
    ``engine_id`` is llama.cpp's name for it, such as ``CUDA0``.
    """

    name: str
    backend: Backend | None
    memory_kind: MemoryKind
    total: int
    usable: int
    free: int | None
    source: str
    usable_source: str | None = None
    free_source: str | None = None
    cuts: tuple[Cut, ...] = ()
    gtt: int = 0
    backends: tuple[Backend, ...] = ()
    arch: str | None = None
    fp16: bool | None = None
    bf16: bool | None = None
    bandwidth: int | None = None
    bandwidth_source: str | None = None
    integrated: bool = False
    pci: str | None = None
    uuid: str | None = None
    engine_id: str | None = None

    @property
    def own(self) -> int:
        """Usable bytes that are the device's own and not the host's RAM."""
        return 0 if self.memory_kind is MemoryKind.UNIFIED else self.usable - self.gtt


class SetAside(NamedTuple):
    """A device that is there and does not count, with a stable code and the reason in words."""

    device: Device
    code: str
    why: str


class Engine(NamedTuple):
    """The llama.cpp build that will load the file; ``build`` is None where it does not tell.

    ``path`` is its program, ``version`` the line it prints.
    """

    build: int | None
    source: str
    path: str | None = None
    version: str | None = None


class State(StrEnum):
    """How a source of facts about the machine answered."""

    OK = "ok"
    NOTHING = "nothing found"
    NOT_INSTALLED = "not installed"
    OTHER_SYSTEM = "other system"
    NO_PERMISSION = "no permission"
    MISMATCH = "mismatch"
    LOST = "lost"
    TIMED_OUT = "timed out"
    FAILED = "failed"


class SourceState(NamedTuple):
    """One source, how it answered, details in words, and what to do about it."""

    source: str
    state: State
    detail: str = ""
    advice: str = ""


class Caveat(NamedTuple):
    """A warning as a value: what the user should know about the figures, with a stable code."""

    code: str
    message: str


class Host(NamedTuple):
    """One machine. ``devices`` is empty where llama.cpp would compute on the CPU.

    ``set_aside`` are the devices that are there and not used, ``sources`` who was asked, and
    ``environment`` the variables that decide what programs see. With ``device_flag`` the devices
    are not those that llama.cpp would use untold.
    """

    ram: Ram
    cpu: Cpu
    devices: tuple[Device, ...] = ()
    engine: Engine | None = None
    warnings: tuple[Caveat, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    sources: tuple[SourceState, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    device_flag: bool = False

    @property
    def backend(self) -> Backend | None:
        """The backend that computes: the first device's, CPU without one, None if not stated."""
        return self.devices[0].backend if self.devices else Backend.CPU

    @property
    def device_words(self) -> tuple[str, ...]:
        """What llama-server has to be told to use these devices, nothing where it would anyway."""
        if not self.device_flag:
            return ()
        names = [device.engine_id or "" for device in self.devices]
        return ("--device", ",".join(names) or "none") if all(names) else ()

    @property
    def vram(self) -> int:
        """Usable memory of all devices together, in bytes; what they share with RAM counts once."""
        borrowed = sum(device.usable - device.own for device in self.devices)
        return self.own_vram + min(borrowed, self.ram.total)

    @property
    def own_vram(self) -> int:
        """Usable memory that is the devices' own, in bytes."""
        return sum(device.own for device in self.devices)

    @property
    def pool(self) -> int:
        """All memory a model can use, in bytes; what devices share with RAM counts once."""
        return self.ram.total + self.own_vram
