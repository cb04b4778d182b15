"""What llama.cpp's programs print, as values: the devices, the version, the log's extras."""

from __future__ import annotations

import re
from typing import NamedTuple

from quantpick.domain.capability import cuda_capability, gfx_capability
from quantpick.domain.host import Backend
from quantpick.domain.sighting import Sighting

_MIB = 2**20

#: Longer lines are no devices, and more devices are no machine.
_LINE_LIMIT, _DEVICE_LIMIT = 400, 64

#: No device has more, so a larger figure is garbage.
_MEMORY_LIMIT = 2**50

#: "  CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23861 MiB free)": common/arg.cpp.
_DEVICE = re.compile(
    r"\s*([A-Za-z]+)(\d*): (\S.*) \((\d{1,12}) MiB, (\d{1,20}) MiB free\)\s*", re.ASCII
)

#: llama.cpp's names of its backends, as they stand before a device's number.
_BACKENDS = {
    "CUDA": Backend.CUDA,
    "ROCm": Backend.ROCM,
    "HIP": Backend.ROCM,
    "Vulkan": Backend.VULKAN,
    "MTL": Backend.METAL,
    "Metal": Backend.METAL,
    "SYCL": Backend.SYCL,
}

#: "version: 6795 (abc1234)", since 2026 "version: 0.5.0-dev (build 11540, commit 0c1e570)".
_VERSION = re.compile(
    r"^version: (?:(\d{1,7}) \(|\S{1,40} \(build (\d{1,7})[,)])", re.MULTILINE | re.ASCII
)

#: Log lines beside the list, one device each: ggml-vulkan.cpp and ggml-cuda.cu.
_VULKAN_LOG = re.compile(r"ggml_vulkan: (\d{1,3}) = .{1,200} \| uma: ([01]) \| fp16: (\S{1,12})")
_BF16_LOG = re.compile(r"\| bf16: ([01])")
_CUDA_LOG = re.compile(r"\s*Device (\d{1,3}): .{1,200}, compute capability (\d{1,2})\.(\d)")
_GFX_LOG = re.compile(r"\s*Device (\d{1,3}): .{1,200}, (gfx[0-9a-f]{3,5})\b")


class Extra(NamedTuple):
    """What an engine's log adds on one of its devices."""

    arch: str | None = None
    fp16: bool | None = None
    bf16: bool | None = None
    integrated: bool | None = None


def parse_devices(stdout: str, source: str) -> tuple[Sighting, ...]:
    """Return the devices of ``--list-devices``; ``(none)`` and an empty list are the same.

    Left out are rows without memory (BLAS), the processor, and devices of other machines (RPC).
    Free memory never exceeds the total: an unsigned figure can run under.
    """
    found: list[Sighting] = []
    for line in stdout.splitlines():
        match = _DEVICE.fullmatch(line) if len(line) <= _LINE_LIMIT else None
        if match is None or len(found) >= _DEVICE_LIMIT:
            continue
        kind, number, name, total, free = match.groups()
        size = int(total) * _MIB
        if size == 0 or size > _MEMORY_LIMIT or kind in {"CPU", "BLAS", "RPC"}:
            continue
        backend = _BACKENDS.get(kind)
        found.append(
            Sighting(
                source=source,
                name=name.strip(),
                usable=size,
                free=min(int(free) * _MIB, size),
                backends=(backend,) if backend else (),
                # Where no driver says otherwise: Apple's GPUs share the host's memory.
                integrated=True if backend is Backend.METAL else None,
                engine_id=f"{kind}{number}",
            )
        )
    return tuple(found)


def is_list(stdout: str) -> bool:
    """Whether a program printed the heading of a list of devices, of which there may be none."""
    return "Available devices:" in stdout


def parse_version(text: str) -> tuple[int | None, str | None]:
    """Return the build number and the line it is in; both None where there is no such line."""
    match = _VERSION.search(text)
    if match is None:
        return None, None
    line = text[match.start() :].splitlines()[0][:_LINE_LIMIT].strip()
    return int(match.group(1) or match.group(2)) or None, line


def parse_extras(log: str) -> dict[str, Extra]:
    """Return what the log says of devices, by the engine's name for each."""
    extras: dict[str, Extra] = {}
    for line in log.splitlines():
        if len(line) > _LINE_LIMIT:
            continue
        if match := _VULKAN_LOG.match(line):
            bf16 = _BF16_LOG.search(line)
            extras[f"Vulkan{int(match[1])}"] = Extra(
                fp16=match[3] != "0",
                bf16=bf16[1] == "1" if bf16 else None,
                integrated=match[2] == "1",
            )
        elif match := _CUDA_LOG.match(line):
            capability = cuda_capability(int(match[2]), int(match[3]))
            extras[f"CUDA{int(match[1])}"] = Extra(f"{match[2]}.{match[3]}", *capability)
        elif match := _GFX_LOG.match(line):
            extras[f"ROCm{int(match[1])}"] = Extra(match[2], *gfx_capability(match[2]))
    return extras
