"""One picture from many sources: which sightings are the same device, and what is known of it.

Devices are matched by PCI address, by UUID, or by name, never by index: every source counts in an
order of its own. Two devices that one source lists are two devices.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.host import Cut, Device, MemoryKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quantpick.domain.host import Backend, Ram
    from quantpick.domain.sighting import Sighting

#: Words of a name that some sources print and others leave out.
_DECORATION = re.compile(
    r"\([^()]*\)|\b(?:nvidia|amd|intel|geforce|radeon|graphics|corporation|microsoft)\b"
)

#: Fields that the first source to tell them decides.
_FIRST_WINS = (
    *("memory_kind", "arch", "fp16", "bf16", "bandwidth", "integrated"),
    *("pci", "uuid", "engine_id"),
)


class Card(NamedTuple):
    """One device as all sources see it; the engine's own view has its place apart.

    ``listed`` are the engine's sightings of it: none where the engine does not use it, several
    where the engine offers it by more than one backend.
    """

    native: tuple[Sighting, ...] = ()
    listed: tuple[Sighting, ...] = ()

    @property
    def sightings(self) -> tuple[Sighting, ...]:
        """All sightings, those of the machine's own sources first."""
        return (*self.native, *self.listed)

    @property
    def name(self) -> str:
        """The name that the first source gives."""
        return self.sightings[0].name

    @property
    def hidden(self) -> str | None:
        """Why programs do not get it, None where they do.

        That is the first source's word; where a later one says so it is of its backends alone.
        """
        return self.sightings[0].hidden

    @property
    def backends(self) -> tuple[Backend, ...]:
        """What can drive it, the engine's choice first."""
        told = (*self.listed, *(s for s in self.native if not s.hidden or s is self.native[0]))
        barred = {backend for s in self.native[1:] if s.hidden for backend in s.backends}
        found = dict.fromkeys(backend for sighting in told for backend in sighting.backends)
        kept = {backend for sighting in self.listed for backend in sighting.backends}
        return tuple(backend for backend in found if backend in kept or backend not in barred)

    @property
    def software(self) -> bool:
        """Whether it is a processor that poses as a GPU."""
        return any(sighting.software for sighting in self.sightings)


def match(native: Iterable[Sighting], listed: Sequence[Sighting] = ()) -> tuple[Card, ...]:
    """Return the devices that the machine's sources and the engine's list show, each once.

    What the engine lists comes first, in its order.
    """
    cards = _merged(native)
    used: dict[int, list[Sighting]] = {}
    alone: list[list[Sighting]] = []
    for sighting in listed:
        index = _native_of(sighting, cards, used)
        if index is not None:
            used.setdefault(index, []).append(sighting)
            continue
        for twins in alone:
            if all(_same_elsewhere(sighting, twin) for twin in twins):
                twins.append(sighting)
                break
        else:
            alone.append([sighting])
    known = [Card(cards[index], tuple(rows)) for index, rows in used.items()]
    known += [Card((), tuple(rows)) for rows in alone]
    order = {id(sighting): place for place, sighting in enumerate(listed)}
    known.sort(key=lambda card: order[id(card.listed[0])])
    rest = [Card(rows) for index, rows in enumerate(cards) if index not in used]
    return (*known, *rest)


def simple_name(name: str) -> str:
    """Return a device's name without the decoration that differs between sources."""
    text = _DECORATION.sub(" ", name.lower().replace("(r)", " ").replace("(tm)", " "))
    return " ".join(text.replace("/", " ").split()) or " ".join(name.lower().split())


def device_of(card: Card, ram: Ram) -> Device | None:
    """Return a card as one device; None where no source knows its memory.

    What the engine is given is what is usable. What that is below the sticker, the cuts explain to
    the byte; free memory never exceeds the usable, and shared memory never the host's.
    """
    card = _with_borrowed(card, ram)
    known = {field: _first(card.sightings, field) for field in _FIRST_WINS}
    kind = known["memory_kind"]
    if kind is None:
        kind = MemoryKind.UNIFIED if known["integrated"] else MemoryKind.DEDICATED
    memory = _memory(card, ram, kind)
    if memory is None:
        return None
    own = _own(card, memory.usable)
    backends = card.backends
    return Device(
        name=card.name,
        backend=backends[0] if backends else None,
        memory_kind=kind,
        **memory._asdict(),
        gtt=memory.usable - own if kind is MemoryKind.CARVE_OUT_GTT else 0,
        backends=backends,
        arch=known["arch"],
        fp16=known["fp16"],
        bf16=known["bf16"],
        bandwidth=known["bandwidth"],
        integrated=bool(known["integrated"]),
        pci=known["pci"],
        uuid=known["uuid"],
        engine_id=known["engine_id"],
    )


def _with_borrowed(card: Card, ram: Ram) -> Card:
    """Return a GPU inside a processor with the RAM that the engine has beside the GPU's own part.

    Windows tells that part, the carve-out, of AMD's APUs, and leaves it to others to say that
    they are some.
    """
    first = card.sightings[0]
    own = first.usable or first.total
    inside = first.integrated is None and _first(card.sightings, "integrated")
    if first.memory_kind is not MemoryKind.DEDICATED or not inside or not own:
        return card
    offered = max((row.usable or 0 for row in card.listed), default=0)
    borrowed = min(max(0, offered - own), ram.total)
    both = first._replace(
        memory_kind=MemoryKind.CARVE_OUT_GTT,
        total=(first.total or own) + borrowed,
        usable=own + borrowed,
        gtt=borrowed,
    )
    return card._replace(native=(both, *card.native[1:]))


class _Memory(NamedTuple):
    total: int
    usable: int
    free: int | None
    source: str
    usable_source: str | None
    free_source: str | None
    cuts: tuple[Cut, ...]


def _memory(card: Card, ram: Ram, kind: MemoryKind) -> _Memory | None:
    """Return the figures, None where there is no total."""
    totals = [s for s in card.sightings if s.total] or [s for s in card.listed if s.usable]
    if not totals:
        return None
    first = totals[0]
    total = first.total or first.usable or 0
    usable, usable_source = _figure(card, "usable")
    usable = total if usable is None else min(usable, total)
    free, free_source = _figure(card, "free")
    if kind is MemoryKind.UNIFIED:
        usable = min(usable, ram.total)
        # An engine's own figure leaves out what other programs hold.
        free = free if free is None or ram.available is None else min(free, ram.available)
    return _Memory(
        total=total,
        usable=usable,
        free=None if free is None else min(free, usable),
        source=first.source,
        usable_source=None if usable_source == first.source else usable_source,
        free_source=None if free_source == first.source else free_source,
        cuts=_cuts(card, total - usable),
    )


def _figure(card: Card, figure: str) -> tuple[int | None, str | None]:
    """Return a figure and where it is from: the engine's, else the first other source's."""
    for sighting in (*card.listed, *card.native):
        size: int | None = getattr(sighting, figure)
        if size is not None:
            return size, getattr(sighting, f"{figure}_source") or sighting.source
    return None, None


def _cuts(card: Card, missing: int) -> tuple[Cut, ...]:
    """Return why ``missing`` bytes of the sticker are not usable; the sizes sum up to them."""
    kept: list[Cut] = []
    # First of the source whose figure it is.
    natives = sorted(card.native, key=lambda sighting: sighting.usable is None)
    for cut in (cut for sighting in natives for cut in sighting.cuts):
        size = min(cut.size, missing)
        if size > 0:
            kept.append(cut._replace(size=size))
            missing -= size
    if missing > 0:
        message = "not given to llama.cpp" if card.listed else "not given to programs"
        kept.append(Cut("not_given", missing, message))
    return tuple(kept)


def _own(card: Card, usable: int) -> int:
    """Bytes of ``usable`` that are not the host's RAM, by the source that tells the parts."""
    for sighting in card.native:
        if sighting.usable is not None and sighting.memory_kind is MemoryKind.CARVE_OUT_GTT:
            return min(sighting.usable - sighting.gtt, usable)
    return usable


def _merged(sightings: Iterable[Sighting]) -> list[tuple[Sighting, ...]]:
    """Group what the machine's sources see by device."""
    groups: list[tuple[Sighting, ...]] = []
    for sighting in sightings:
        for index, group in enumerate(groups):
            if _same(sighting, group):
                groups[index] = (*group, sighting)
                break
        else:
            groups.append((sighting,))
    return groups


def _same(sighting: Sighting, group: Sequence[Sighting]) -> bool:
    """Whether a sighting is of the device that other sources' sightings are of."""
    if any(other.source == sighting.source for other in group):
        return False
    for key in ("pci", "uuid"):
        mine = getattr(sighting, key)
        theirs = {getattr(other, key) for other in group} - {None}
        if mine and theirs:
            return mine in theirs
    return simple_name(sighting.name) in {simple_name(other.name) for other in group}


def _native_of(
    sighting: Sighting, cards: Sequence[tuple[Sighting, ...]], used: dict[int, list[Sighting]]
) -> int | None:
    """Return which native device an engine's device is, None where none is like it.

    By name; among equal ones the nearest in memory. Without one of that name the only one that the
    same backend can drive, where its memory is not smaller.
    """
    free = [
        index
        for index in range(len(cards))
        if all(not set(sighting.backends) & set(row.backends) for row in used.get(index, ()))
    ]
    name = simple_name(sighting.name)
    named = [i for i in free if name in {simple_name(s.name) for s in cards[i]}]
    visible = [i for i in named if not any(s.hidden for s in cards[i])] or named
    if visible:
        return min(visible, key=lambda index: _distance(sighting, cards[index]))
    able = [index for index in free if _could_be(sighting, cards[index])]
    return able[0] if len(able) == 1 else None


def _distance(sighting: Sighting, group: Sequence[Sighting]) -> tuple[int, int]:
    """How far the memory of two sightings is apart: usable, then free."""
    first = group[0]
    usable = abs((sighting.usable or 0) - (first.usable or first.total or 0))
    return usable, abs((sighting.free or 0) - (first.free or 0))


def _could_be(sighting: Sighting, group: Sequence[Sighting]) -> bool:
    backends = {backend for other in group for backend in other.backends}
    total = next((other.total for other in group if other.total), None)
    fits = total is None or sighting.usable is None or sighting.usable <= total
    hidden = any(other.hidden or other.software for other in group)
    return fits and not hidden and bool(backends & set(sighting.backends))


def _same_elsewhere(sighting: Sighting, other: Sighting) -> bool:
    """Whether two rows of an engine's list are one device by two backends."""
    same = simple_name(sighting.name) == simple_name(other.name)
    return same and not set(sighting.backends) & set(other.backends)


def _first(sightings: Iterable[Sighting], field: str) -> Any:  # noqa: ANN401 -- of any field
    return next((v for s in sightings if (v := getattr(s, field)) is not None), None)
