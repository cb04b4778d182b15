"""AMD's compute nodes as the kernel lists them (KFD): what ROCm sees, in the order it counts them.

A node is a GPU, or a part of one that is partitioned; the processors are nodes too and left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantpick.probes.protocol import Place

_NODES = "/sys/class/kfd/kfd/topology/nodes"

_ROW = re.compile(r"^(\w{1,64}) (\d{1,20})$", re.MULTILINE | re.ASCII)
_VERSION = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{1,2})", re.ASCII)

#: Kinds of memory bank that are a GPU's own: frame buffer, seen by the processor or not
#: (HSA_MEM_HEAP_TYPE_FB_PUBLIC and _PRIVATE in the kernel's kfd_crat.h).
_FRAME_BUFFER = {1, 2}

#: Targets whose memory is HBM2, which moves twice a clock. With HBM3 and GDDR6 the clock that KFD
#: tells stands for another rate.
_HBM2 = {"gfx900", "gfx906", "gfx908", "gfx90a"}

#: One hexadecimal digit each for minor version and stepping.
_LARGEST_DIGIT = 15


class Node(NamedTuple):
    """One GPU node: its number, place, gfx target and memory, None where KFD does not tell.

    ``pool`` is the memory in bytes that ROCm programs get; ``bandwidth`` is in bytes a second.
    """

    number: int
    pci: str | None
    render: int | None
    gfx: str | None
    uuid: str | None
    pool: int | None
    bandwidth: int | None


def probe_nodes(place: Place) -> tuple[Node, ...]:
    """Read the GPU nodes that this process may use, in the order of their numbers."""
    names = (path.name for path in place.list(_NODES))
    numbers = sorted(int(n) for n in names if re.fullmatch(r"\d{1,6}", n, re.ASCII))
    return tuple(node for number in numbers if (node := _probe_node(place, number)) is not None)


def parse_rows(text: str) -> dict[str, int]:
    """Return the numbers of a KFD properties file by name; other lines are left out."""
    return {name: int(number) for name, number in _ROW.findall(text)}


def parse_gfx(version: int) -> str | None:
    """Return the target of KFD's ``gfx_target_version``: gfx90a for 90010, None for zero."""
    return _gfx(version // 10000, version // 100 % 100, version % 100)


def parse_override(text: str) -> str | None:
    """Return the target that HSA_OVERRIDE_GFX_VERSION asks for: gfx1100 for ``11.0.0``."""
    match = _VERSION.fullmatch(text.strip())
    return _gfx(*map(int, match.groups())) if match else None


def parse_location(rows: Mapping[str, int]) -> str | None:
    """Return a node's PCI address. The upper bits number the partitions of one device."""
    location = rows.get("location_id")
    if location is None:
        return None
    bus, device, function = location >> 8 & 0xFF, location >> 3 & 0x1F, location & 7
    return f"{rows.get('domain', 0) & 0xFFFFFFFF:04x}:{bus:02x}:{device:02x}.{function}"


def parse_uuid(number: int | None) -> str | None:
    """Return the UUID as ROCm prints it; a GPU without one says zero."""
    return f"GPU-{number:016x}" if number else None


def bank_size(banks: Sequence[Mapping[str, int]]) -> int | None:
    """Return the bytes of a GPU's own memory banks together, None where none tells."""
    own = (bank for bank in banks if bank.get("heap_type") in _FRAME_BUFFER)
    return sum(bank.get("size_in_bytes", 0) for bank in own) or None


def bank_bandwidth(banks: Sequence[Mapping[str, int]], gfx: str | None) -> int | None:
    """Return bytes a second of HBM2 memory: width in bits, clock in MHz, two transfers a clock."""
    if gfx not in _HBM2:
        return None
    # The banks are parts of one memory and tell the same width and clock.
    rates = [bank.get("width", 0) // 8 * bank.get("mem_clk_max", 0) for bank in banks]
    return max(rates, default=0) * 2 * 10**6 or None


def _probe_node(place: Place, number: int) -> Node | None:
    folder = f"{_NODES}/{number}"
    try:
        rows = parse_rows(place.read(f"{folder}/properties") or "")
        paths = place.list(f"{folder}/mem_banks", "*/properties")
        names = [f"{folder}/mem_banks/{path.parent.name}/properties" for path in paths]
        banks = [parse_rows(place.read(name) or "") for name in names]
    except PermissionError:
        # The kernel denies the nodes that a container was not given, and ROCm leaves them out.
        return None
    if not rows.get("simd_count"):
        return None
    gfx = parse_gfx(rows.get("gfx_target_version", 0))
    return Node(
        number,
        parse_location(rows),
        rows.get("drm_render_minor"),
        gfx,
        parse_uuid(rows.get("unique_id")),
        bank_size(banks),
        bank_bandwidth(banks, gfx),
    )


def _gfx(major: int, minor: int, stepping: int) -> str | None:
    if not 0 < major < 100 or max(minor, stepping) > _LARGEST_DIGIT:  # noqa: PLR2004 -- two digits
        return None
    return f"gfx{major}{minor:x}{stepping:x}"
