"""NVIDIA devices through NVML; the only door to nvidia-ml-py (imported as ``pynvml``).

Memory is read in NVML's second version, which tells apart what the driver keeps for itself: CUDA
programs get total minus reserved. A device without memory of its own (Grace and Jetson boards
answer "not supported") shares the host's. A card cut into MIG slices shows those in its place.
"""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from quantpick.domain.host import Backend, SourceState, State
from quantpick.domain.sighting import Answer
from quantpick.domain.visible import hides_devices
from quantpick.probes.nvidia_card import (
    Card,
    Memory,
    Trouble,
    answer,
    find_trouble,
    new_sighting,
    parse_pci,
    troubled,
    with_capability,
    with_memory,
    with_own_memory,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from quantpick.domain.host import Ram
    from quantpick.domain.sighting import Sighting
    from quantpick.probes.protocol import Place

SOURCE = "NVML"
SYSTEMS = ("linux", "win32")

#: Without the persistence daemon the driver wakes each card first, which takes seconds a card.
TIME_LIMIT = 20.0

_LIBRARY_NOT_FOUND = 12
_MEMORY_CLOCK = 2

_LIBRARY = "libnvidia-ml.so.1"
_WSL_FOLDER = "/usr/lib/wsl/lib"
_KERNEL_CARDS = "/proc/driver/nvidia/gpus"

#: Jetson boards have had NVML since JetPack 6; every release has this file.
_JETSON_RELEASE, _BOARD_NAME = "/etc/nv_tegra_release", "/proc/device-tree/model"

#: Packages that come before nvidia-ml-py under the same module name lack the second version.
_SHADOWED = Trouble(
    State.FAILED,
    "an outdated pynvml stands in front of nvidia-ml-py",
    "run: pip uninstall pynvml nvidia-ml-py3; pip install --force-reinstall nvidia-ml-py",
)

_UNSLICED = "MIG is on and the card has no MIG slice"

_T = TypeVar("_T")


def probe_devices(place: Place, ram: Ram) -> Answer:
    """Read all devices; what is wrong with one leaves the others as they are."""
    nvml = _load()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value == _LIBRARY_NOT_FOUND:
            return _without_library(place, ram)
        return troubled(SOURCE, find_trouble(error.value, str(error)))
    try:
        if not hasattr(nvml, "nvmlMemory_v2"):
            return troubled(SOURCE, _SHADOWED)
        cards = [_read_card(nvml, index, ram) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        return troubled(SOURCE, find_trouble(error.value, str(error)))
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
    return answer(SOURCE, cards, place.environ)


def parse_model(information: str) -> str | None:
    """Return the name that the kernel's driver gives a card."""
    match = re.search(r"^Model:[ \t]*(\S.*)$", information, re.MULTILINE)
    return match[1].strip() if match else None


def bandwidth(clock: int | None, width: int | None) -> int | None:
    """Return bytes a second of memory with a clock in MHz and a bus of so many bits."""
    # Two transfers a clock, whatever the memory: 9751 MHz and 384 bits are the RTX 3090's 936 GB/s.
    return 2 * clock * width // 8 * 10**6 if clock and width else None


def _load() -> ModuleType:
    with warnings.catch_warnings():
        # The deprecated package of the same name says on import that it is.
        warnings.simplefilter("ignore")
        import pynvml  # noqa: PLC0415 -- loading it takes long, and not every command asks
    module: ModuleType = pynvml
    return module


def _read_card(nvml: ModuleType, index: int, ram: Ram) -> Card:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        card = _describe(nvml, handle)
        mig = _known(nvml, nvml.nvmlDeviceGetMigMode, handle)
        slices = () if mig and not mig[0] else _read_slices(nvml, handle, card)
        if slices:
            return Card(card.uuid, card.name, slices, sliced=True)
        whole = with_memory(card, _read_memory(nvml, handle), ram)
    except nvml.NVMLError as error:
        return Card(trouble=find_trouble(error.value, str(error)))
    if mig and mig[0]:
        whole = whole._replace(hidden=_UNSLICED)
    return Card(card.uuid, f"{card.name} {whole.total}", (whole,))


def _describe(nvml: ModuleType, handle: object) -> Sighting:
    """Return all that is known of a card but its memory."""
    pci = _known(nvml, nvml.nvmlDeviceGetPciInfo, handle)
    clock = _known(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, _MEMORY_CLOCK)
    width = _known(nvml, nvml.nvmlDeviceGetMemoryBusWidth, handle)
    found = new_sighting(
        SOURCE,
        nvml.nvmlDeviceGetName(handle),
        uuid=_known(nvml, nvml.nvmlDeviceGetUUID, handle),
        pci=parse_pci(pci.busId) if pci else None,
    )._replace(bandwidth=bandwidth(clock, width))
    return with_capability(found, _known(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle))


def _read_slices(nvml: ModuleType, handle: object, card: Sighting) -> tuple[Sighting, ...]:
    """Return a card's MIG slices; their numbers have gaps."""
    limit = _known(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    found = [
        _known(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        for index in range(limit)
    ]
    return tuple(_read_slice(nvml, slice_, card) for slice_ in found if slice_ is not None)


def _read_slice(nvml: ModuleType, handle: object, card: Sighting) -> Sighting:
    """Return a MIG slice: its share of the bandwidth is not told, nor is memory always."""
    found = card._replace(
        name=_known(nvml, nvml.nvmlDeviceGetName, handle) or card.name,
        uuid=_known(nvml, nvml.nvmlDeviceGetUUID, handle),
        bandwidth=None,
        integrated=False,
        backends=(Backend.CUDA,),
    )
    memory = _known(nvml, _read_memory, nvml, handle)
    return with_own_memory(found, memory) if memory and memory.total else found


def _read_memory(nvml: ModuleType, handle: object) -> Memory | None:
    """Return a device's own memory, None where it reports none."""
    try:
        return _reported_memory(nvml, handle)
    except nvml.NVMLError_NotSupported:
        return None


def _reported_memory(nvml: ModuleType, handle: object) -> Memory:
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_FunctionNotFound:
        # Drivers before 510 know the first version only, which counts the reserved part as used.
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
        return Memory(info.total, 0, info.free)
    return Memory(info.total, info.reserved, info.free)


def _known(nvml: ModuleType, call: Callable[..., _T], *arguments: object) -> _T | None:
    """Return what NVML tells, None where it does not."""
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None


def _without_library(place: Place, ram: Ram) -> Answer:
    """Return why there is no library, which most often is that there is no NVIDIA device."""
    missing = SourceState(SOURCE, State.NOT_INSTALLED, hides_devices(place.environ))
    if place.read(_JETSON_RELEASE, 1) is not None:
        return _read_jetson(place, ram, missing)
    folders = [folder.name for folder in place.list(_KERNEL_CARDS)]
    if folders and not missing.detail:
        texts = [place.read(f"{_KERNEL_CARDS}/{name}/information") or "" for name in folders]
        names = ", ".join(parse_model(text) or "an NVIDIA card" for text in texts)
        detail = f"{_LIBRARY} is missing for {names}"
        advice = "install the driver's library, or start the container with --gpus all"
        return troubled(SOURCE, Trouble(State.FAILED, detail, advice))
    if place.list(_WSL_FOLDER, _LIBRARY):
        detail = f"{_LIBRARY} is in {_WSL_FOLDER} and not found"
        advice = f"add {_WSL_FOLDER} to LD_LIBRARY_PATH"
        return troubled(SOURCE, Trouble(State.FAILED, detail, advice))
    return Answer((), (missing,))


def _read_jetson(place: Place, ram: Ram, missing: SourceState) -> Answer:
    """Return the GPU of a Jetson board whose release has no NVML."""
    name = (place.read(_BOARD_NAME, 256) or "").strip("\0 \n") or "NVIDIA Jetson"
    board = with_memory(new_sighting(_JETSON_RELEASE, name), None, ram)
    found = answer(_JETSON_RELEASE, [Card(None, name, (board,))], place.environ)
    return found._replace(states=(*found.states, missing))
