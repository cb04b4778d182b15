"""Intel GPUs on Linux by the files of the drivers xe and i915.

A card's memory is often not told there: then it is unknown here. The GPU inside a processor has
none of its own and shares the host's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Backend, Caveat, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.domain.units import format_gib
from quantpick.probes.drm import module_loaded, probe_cards

if TYPE_CHECKING:
    from quantpick.domain.host import Ram
    from quantpick.probes.drm import Card
    from quantpick.probes.protocol import Place

SOURCE = "Intel driver"
SYSTEMS = ("linux",)
TIME_LIMIT = 5.0

_VENDOR = 0x8086

#: Where a processor's own GPU always sits.
_INTEGRATED = "0000:00:02."

#: The window on a card's memory, by its place among the PCI resources.
_MEMORY_BAR = 2
_RESOURCE = re.compile(r"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x[0-9a-f]{1,16}", re.IGNORECASE)


class _Vram(NamedTuple):
    """A card's own memory and what is free of it, in bytes; None where no file tells."""

    total: int | None
    free: int | None


def probe_devices(place: Place, ram: Ram) -> Answer:
    """Read all Intel GPUs; what cannot be read of one leaves the others."""
    cards = probe_cards(place, _VENDOR)
    if not cards:
        return Answer(states=(_absence(place),))
    sightings: list[Sighting] = []
    remarks, denied = [], []
    for card in cards:
        try:
            sighting = _probe_card(place, ram, card)
            remarks += _remarks(place, card, sighting)
        except PermissionError as error:
            denied.append(f"{card.pci or card.path}: {error.filename}")
            continue
        sightings.append(sighting)
    return Answer(tuple(sightings), *_states(len(sightings), remarks, denied))


def parse_window(resource: str) -> int | None:
    """Return the bytes of a card's memory that the bus shows, by its PCI resource file."""
    lines = resource.splitlines()
    match = _RESOURCE.fullmatch(lines[_MEMORY_BAR]) if len(lines) > _MEMORY_BAR else None
    if match is None:
        return None
    start, end = (int(group, 16) for group in match.groups())
    return end - start + 1 if end > start else None


def _absence(place: Place) -> SourceState:
    if module_loaded(place, "xe", "i915"):
        return SourceState(SOURCE, State.NOTHING, "the driver has no card")
    return SourceState(SOURCE, State.NOT_INSTALLED, "no Intel GPU, or no driver for it")


def _probe_card(place: Place, ram: Ram, card: Card) -> Sighting:
    vram = _probe_vram(place, card)
    sighting = Sighting(
        SOURCE,
        f"Intel GPU {card.label}",
        MemoryKind.DEDICATED,
        vram.total,
        free=vram.free,
        backends=(Backend.VULKAN,),
        integrated=False,
        pci=card.pci,
    )
    if vram.total is None and (card.pci or "").startswith(_INTEGRATED):
        free = None if ram.available is None else min(ram.available, ram.total)
        return sighting._replace(
            memory_kind=MemoryKind.UNIFIED, total=ram.total, free=free, integrated=True
        )
    return sighting


def _probe_vram(place: Place, card: Card) -> _Vram:
    # xe lists each tile; one tile that does not tell makes the sum unknown.
    tiles = place.list(card.device, "tile[0-9]*")
    sizes = [place.number(f"{card.device}/{t.name}/physical_vram_size_bytes") for t in tiles]
    known = [size for size in sizes if size]
    if known and len(known) == len(sizes):
        return _Vram(sum(known), None)
    # Intel's own i915 packages have these beside the card; the kernel's i915 has them nowhere.
    for folder in (card.path, card.device):
        total = place.number(f"{folder}/lmem_total_bytes")
        if total:
            free = place.number(f"{folder}/lmem_avail_bytes")
            return _Vram(total, None if free is None else min(free, total))
    return _Vram(None, None)


def _remarks(place: Place, card: Card, sighting: Sighting) -> list[str]:
    if sighting.total is not None:
        return []
    remark = f"{card.pci or card.path} does not tell its memory"
    window = parse_window(place.read(f"{card.device}/resource") or "")
    return [remark if window is None else f"{remark} ({format_gib(window)} or more)"]


def _states(
    count: int, remarks: list[str], denied: list[str]
) -> tuple[tuple[SourceState, ...], tuple[Caveat, ...]]:
    states, caveats = [], []
    if count:
        detail = "; ".join((f"{count} device{'s' if count > 1 else ''}", *remarks))
        states.append(SourceState(SOURCE, State.OK, detail))
    if denied:
        advice = "add yourself to the groups render and video, and log in again"
        detail = f"may not read {', '.join(denied)}"
        states.append(SourceState(SOURCE, State.NO_PERMISSION, detail, advice))
        caveats.append(Caveat("intel_unreadable", f"Intel GPU: {detail}"))
    return tuple(states), tuple(caveats)
