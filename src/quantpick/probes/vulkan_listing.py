"""What the process that asks the Vulkan loader prints, as values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: VkPhysicalDeviceType, and the PCI vendor.
INTEGRATED, DISCRETE, CPU = 1, 2, 4
NVIDIA = 0x10DE

#: Up to this size NVIDIA's second device-local heap is the window through which the processor
#: writes to the first one, and no memory besides (llama.cpp#22368).
_WINDOW = 256 * MIB


class Heap(NamedTuple):
    """One heap of a device's memory in bytes; budget and usage None where not offered."""

    size: int
    device_local: bool
    budget: int | None
    usage: int | None

    @property
    def free(self) -> int | None:
        """What the driver would still give this process, within the heap (VMA#157)."""
        if self.budget is None or self.usage is None:
            return None
        return max(0, min(self.budget - self.usage, self.size))


class Gpu(NamedTuple):
    """A physical device as Vulkan describes it; ``number`` is its index in the loader's list."""

    number: int
    name: str
    type: int | None
    vendor: int | None
    driver: int | None
    uuid: str | None
    luid: str | None
    pci: str | None
    heaps: tuple[Heap, ...]
    fp16: bool | None
    bf16: bool | None
    storage16: bool | None

    @property
    def shares_ram(self) -> bool:
        """Whether its heaps are the host's memory."""
        return self.type in {INTEGRATED, CPU}

    @property
    def memory(self) -> tuple[Heap, ...]:
        """The heaps to add up.

        Device-local ones; on NVIDIA without the window into the others, which on AMD is memory
        apart from the rest (llama.cpp#5441).
        """
        local = tuple(heap for heap in self.heaps if heap.device_local and heap.size)
        if self.vendor == NVIDIA:
            return tuple(heap for heap in local if heap.size > _WINDOW) or local
        return local


class Listing(NamedTuple):
    """What the child printed: devices, or what is missing, or the call that failed."""

    gpus: tuple[Gpu, ...] = ()
    missing: str | None = None
    call: str | None = None
    result: int | None = None


def parse_listing(text: str) -> Listing | None:
    """Read the child's output, None where it has no answer; drivers may print lines before it."""
    line = next((line for line in reversed(text.split("\n")) if line.startswith("{")), "")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    rows = document.get("devices")
    if isinstance(rows, list):
        gpus = (_gpu(number, row) for number, row in enumerate(rows) if isinstance(row, dict))
        return Listing(tuple(gpus))
    missing, call = _text(document, "missing"), _text(document, "call")
    result = document.get("result")
    if missing is None and call is None:
        return None
    return Listing((), missing, call, result if type(result) is int else None)


def _gpu(number: int, row: Mapping[str, object]) -> Gpu:
    heaps = row.get("heaps")
    return Gpu(
        number=number,
        name=_text(row, "name") or "unnamed device",
        type=_number(row, "type"),
        vendor=_number(row, "vendor"),
        driver=_number(row, "driver") or None,
        uuid=_identifier(row, "uuid", 32),
        luid=_identifier(row, "luid", 16),
        pci=_pci(row.get("pci")),
        heaps=tuple(_heaps(heaps)) if isinstance(heaps, list) else (),
        fp16=_flag(row, "fp16"),
        bf16=_flag(row, "bf16"),
        storage16=_flag(row, "storage16"),
    )


def _heaps(rows: list[object]) -> Iterator[Heap]:
    for row in rows:
        size = _number(row, "size") if isinstance(row, dict) else None
        if isinstance(row, dict) and size is not None:
            local = row.get("device_local") is True
            yield Heap(size, local, _number(row, "budget"), _number(row, "usage"))


def _pci(numbers: object) -> str | None:
    """Return a PCI address such as ``0000:01:00.0``."""
    if not isinstance(numbers, list) or len(numbers) != 4:  # noqa: PLR2004
        return None
    if not all(type(number) is int and 0 <= number < 1 << 32 for number in numbers):
        return None
    domain, bus, device, function = numbers
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}"


def _text(row: Mapping[str, object], key: str) -> str | None:
    value = row.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _number(row: Mapping[str, object], key: str) -> int | None:
    value = row.get(key)
    return value if type(value) is int and 0 <= value < 1 << 64 else None


def _flag(row: Mapping[str, object], key: str) -> bool | None:
    value = row.get(key)
    return value if isinstance(value, bool) else None


def _identifier(row: Mapping[str, object], key: str, length: int) -> str | None:
    """Return hex digits of that number, None for what no driver filled in."""
    text = _text(row, key)
    if text is None or not re.fullmatch(rf"[0-9a-f]{{{length}}}", text):
        return None
    return text if text.strip("0") else None
