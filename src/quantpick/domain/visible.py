"""Which NVIDIA devices CUDA programs get: CUDA_VISIBLE_DEVICES, and the limits of MIG.

The rules are those of the CUDA Programming Guide, "CUDA Environment Variables", and of the MIG User
Guide, "CUDA Device Enumeration".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Caveat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VARIABLE, _ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"

#: Texts that the container runtime takes for no device at all.
_NO_DEVICE = ("void", "none")

#: CUDA reads the digits that an entry begins with, as strtol does, and ignores what follows them.
_NUMBER = re.compile(r"[0-9]{1,9}")

_OTHER_SLICE = "a CUDA program uses one MIG slice"
_BESIDE_SLICE = "CUDA programs use no whole card beside a MIG slice"
_UNCLEAR = (
    "counts different cards from the fastest on, which only CUDA can tell; all are shown: "
    f"set {_ORDER}=PCI_BUS_ID, name the cards by UUID, or give llama.cpp with --engine"
)


class Unit(NamedTuple):
    """What a program can be given: a card, or a MIG slice, for which ``parent`` is its card's UUID.

    ``card`` counts the cards in PCI order. Cards of one ``model`` are alike; None is like no other.
    """

    card: int
    model: str | None
    uuid: str | None
    parent: str | None = None
    is_slice: bool = False


class Visible(NamedTuple):
    """Positions that programs get, in the order in which they count them, and why not the others.

    ``caveat`` is None where the variable says clearly what it means.
    """

    order: tuple[int, ...]
    hidden: Mapping[int, str]
    caveat: Caveat | None = None


def visible_units(units: Sequence[Unit], environ: Mapping[str, str]) -> Visible:
    """Return which units CUDA programs get in this environment."""
    everything = tuple(range(len(units)))
    setting = environ.get(_VARIABLE)
    if setting is None:
        return _with_one_slice(units, everything, {}, None)
    said = f"{_VARIABLE}={setting}"
    chosen = _choose(parse_visible_devices(setting), units)
    if chosen is None:
        why = f"{said} names a device twice, so CUDA programs get none"
        caveat = Caveat("visible_devices_invalid", why) if units else None
        return Visible((), dict.fromkeys(everything, why), caveat)
    if chosen and _in_unknown_order(setting, units, environ):
        all_named = {units[place].card for place in chosen} == {unit.card for unit in units}
        caveat = Caveat("visible_devices_unclear", f"{said} {_UNCLEAR}")
        return _with_one_slice(units, everything, {}, None if all_named else caveat)
    hidden = {place: said for place in everything if place not in chosen}
    return _with_one_slice(units, chosen, hidden, None)


def parse_visible_devices(text: str) -> tuple[int | str, ...]:
    """Return what CUDA_VISIBLE_DEVICES lists, numbers or UUIDs, up to the first bad entry."""
    entries: list[int | str] = []
    for word in text.split(","):
        entry = _parse_entry(word.strip())
        # Numbers and UUIDs do not mix: the first of the other kind is a bad entry.
        if entry is None or (entries and type(entry) is not type(entries[0])):
            break
        entries.append(entry)
    return tuple(entries)


def hides_devices(environ: Mapping[str, str]) -> str:
    """Return the variable that keeps all NVIDIA devices out of this container, or nothing."""
    setting = environ.get("NVIDIA_VISIBLE_DEVICES", "")
    return f"NVIDIA_VISIBLE_DEVICES={setting}" if setting in _NO_DEVICE else ""


def _parse_entry(word: str) -> int | str | None:
    if number := _NUMBER.match(word):
        return int(number[0])
    return word if word.startswith(("GPU-", "MIG-")) else None


def _choose(entries: Sequence[int | str], units: Sequence[Unit]) -> tuple[int, ...] | None:
    """Return the positions that a list names up to its first bad entry, None for one named twice.

    Numbers count the cards in PCI order.
    """
    groups: list[tuple[int, ...]] = []
    for entry in entries:
        group = _named(entry, units)
        if not group:
            break
        if group in groups:
            return None
        groups.append(group)
    return tuple(dict.fromkeys(place for group in groups for place in group))


def _named(entry: int | str, units: Sequence[Unit]) -> tuple[int, ...]:
    """Return the positions of the one card or slice that an entry names, nothing without one."""
    if isinstance(entry, int):
        return tuple(place for place, unit in enumerate(units) if unit.card == entry)
    slices = [place for place, unit in enumerate(units) if unit.is_slice and _has(unit.uuid, entry)]
    if slices:
        return tuple(slices) if len(slices) == 1 else ()
    owners = [unit.parent if unit.is_slice else unit.uuid for unit in units]
    cards = {unit.card for unit, owner in zip(units, owners, strict=True) if _has(owner, entry)}
    return _named(cards.pop(), units) if len(cards) == 1 else ()


def _has(uuid: str | None, prefix: str) -> bool:
    return uuid is not None and uuid.startswith(prefix)


def _in_unknown_order(setting: str, units: Sequence[Unit], environ: Mapping[str, str]) -> bool:
    """Whether the setting has numbers, and CUDA counts the cards in an order that is not PCI's."""
    numbers = any(isinstance(entry, int) for entry in parse_visible_devices(setting))
    models = {unit.card: unit.model for unit in units}
    alike = None not in models.values() and len(set(models.values())) == 1
    return numbers and not alike and environ.get(_ORDER) != "PCI_BUS_ID"


def _with_one_slice(
    units: Sequence[Unit],
    chosen: tuple[int, ...],
    hidden: Mapping[int, str],
    caveat: Caveat | None,
) -> Visible:
    """Return the chosen units without what CUDA leaves out: one MIG slice is all it takes."""
    first = next((place for place in chosen if units[place].is_slice), None)
    if first is None:
        return Visible(chosen, hidden, caveat)
    others = {
        place: _OTHER_SLICE if units[place].is_slice else _BESIDE_SLICE
        for place in chosen
        if place != first
    }
    return Visible((first,), {**hidden, **others}, caveat)
