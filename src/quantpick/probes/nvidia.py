"""NVIDIA devices through NVML; the only door to nvidia-ml-py (imported as ``pynvml``).

Memory is read in NVML's second version, which tells apart what the driver keeps for itself: CUDA
programs get total minus reserved. A device without memory of its own (Grace and Jetson boards
answer "not supported") shares the host's.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pynvml

from quantpick.domain.host import Backend, Caveat, Device, MemoryKind
from quantpick.probes.protocol import Found
from quantpick.probes.ram import probe_ram

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = "NVML"

_ADVICE = {
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the driver is installed but not loaded",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to use the driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver and library differ in version: reboot",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the device fell off the bus: reboot",
}


def probe_devices() -> Found:
    """Read all devices; a lost one becomes a warning and the others stay."""
    try:
        with _nvml():
            answers = [_probe_device(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        # No library is the ordinary case of a machine without an NVIDIA driver.
        if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return Found()
        return Found(caveats=(_caveat("NVIDIA", error),))
    devices = tuple(answer for answer in answers if isinstance(answer, Device))
    caveats = tuple(answer for answer in answers if isinstance(answer, Caveat))
    return Found(devices, caveats)


@contextmanager
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _probe_device(index: int) -> Device | Caveat:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(handle)
        total, reserved, free = _memory(handle)
    except pynvml.NVMLError as error:
        return _caveat(f"NVIDIA GPU {index}", error)
    if total == 0:
        ram = probe_ram()
        return Device(
            name, Backend.CUDA, MemoryKind.UNIFIED, ram.total, ram.total, ram.available, _SOURCE
        )
    usable = total - reserved
    return Device(
        name, Backend.CUDA, MemoryKind.DEDICATED, total, usable, min(free, usable), _SOURCE
    )


def _memory(handle: object) -> tuple[int, int, int]:
    """Return total, reserved and free bytes; zeros for a device without its own memory."""
    try:
        return _reported_memory(handle)
    except pynvml.NVMLError_NotSupported:
        return 0, 0, 0


def _reported_memory(handle: object) -> tuple[int, int, int]:
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError_FunctionNotFound:
        # Drivers before 510 know the first version only, which counts the reserved part as used.
        info = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return info.total, 0, info.free
    return info.total, info.reserved, info.free


def _caveat(what: str, error: pynvml.NVMLError) -> Caveat:
    advice = _ADVICE.get(error.value, str(error))
    return Caveat("nvidia_unreadable", f"{what}: {advice}")
