"""What both sources of NVIDIA cards share: memory, trouble, and what CUDA programs get to see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.capability import cuda_capability
from quantpick.domain.host import Backend, Caveat, Cut, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.domain.visible import Unit, hides_devices, visible_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from quantpick.domain.host import Ram

#: What the driver calls the GPU of a Jetson board, which has no memory of its own.
_JETSON = "(nvgpu)"

_PCI = re.compile(r"([0-9a-f]{4,8})(:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])", re.IGNORECASE)


class Memory(NamedTuple):
    """A card's memory in bytes: all of it, what the driver keeps for itself, what is free now."""

    total: int
    reserved: int
    free: int | None


class Trouble(NamedTuple):
    """Why a driver or a card did not answer, and what to do about it."""

    state: State
    detail: str
    advice: str = ""


class Card(NamedTuple):
    """A card as the driver lists it: itself or its MIG slices, or why it did not answer.

    Cards of one ``model`` are alike.
    """

    uuid: str | None = None
    model: str | None = None
    seen: tuple[Sighting, ...] = ()
    sliced: bool = False
    trouble: Trouble | None = None


#: NVML's statuses, with which nvidia-smi ends as well.
_TROUBLE = {
    4: Trouble(
        State.NO_PERMISSION, "no permission to use the driver", "get access to /dev/nvidia*"
    ),
    9: Trouble(State.FAILED, "the driver is installed but not loaded", "run: sudo modprobe nvidia"),
    15: Trouble(State.LOST, "the device fell off the bus", "reboot"),
    18: Trouble(State.MISMATCH, "driver and library differ in version", "reboot"),
}


def find_trouble(status: int, words: str) -> Trouble:
    """Return what a status of NVML means, ``words`` being what the driver says of it."""
    return _TROUBLE.get(status, Trouble(State.FAILED, words))


def with_memory(sighting: Sighting, memory: Memory | None, ram: Ram) -> Sighting:
    """Return a card with its memory, or with the host's where it reports none of its own.

    The addressing mode tells nothing here: GH200 says ATS and has memory of its own, and discrete
    cards say HMM.
    """
    if memory is None or memory.total <= 0 or _JETSON in sighting.name:
        return _sharing(sighting, ram)
    return with_own_memory(sighting, memory)


def with_own_memory(sighting: Sighting, memory: Memory) -> Sighting:
    """Return a card or a MIG slice with memory that is its own."""
    reserved = min(max(0, memory.reserved), memory.total)
    usable = memory.total - reserved
    return sighting._replace(
        memory_kind=MemoryKind.DEDICATED,
        total=memory.total,
        usable=usable,
        free=None if memory.free is None else min(memory.free, usable),
        cuts=(Cut("reserved", reserved, "kept by the driver"),) if reserved else (),
        integrated=False,
    )


def with_capability(sighting: Sighting, version: tuple[int, int] | None) -> Sighting:
    """Return a card with its CUDA compute capability, if that is known."""
    if version is None:
        return sighting
    fp16, bf16 = cuda_capability(*version)
    return sighting._replace(arch="{}.{}".format(*version), fp16=fp16, bf16=bf16)


def parse_pci(text: str) -> str | None:
    """Return an address such as ``00000000:01:00.0`` as the kernel writes it."""
    match = _PCI.fullmatch(text.strip())
    return f"{int(match[1], 16):04x}{match[2].lower()}" if match else None


def new_sighting(
    source: str, name: str, *, uuid: str | None = None, pci: str | None = None
) -> Sighting:
    """Return a card of which no more is known than what tells it from others."""
    return Sighting(source, name, uuid=uuid, pci=pci, backends=(Backend.CUDA, Backend.VULKAN))


def troubled(source: str, trouble: Trouble) -> Answer:
    """Return the answer of a driver that as a whole is not to be read."""
    state = SourceState(source, *trouble)
    return Answer((), (state,), (_caveat("NVIDIA", trouble),))


def answer(source: str, cards: Sequence[Card], environ: Mapping[str, str]) -> Answer:
    """Return the answer of a driver that lists these cards, the visible ones first."""
    if not cards:
        detail = hides_devices(environ) or "the driver lists no device"
        return Answer((), (SourceState(source, State.NOTHING, detail),))
    sightings, unclear = _visible(cards, environ)
    count = len(sightings)
    fine = SourceState(source, State.OK, f"{count} device{'s' if count > 1 else ''}")
    troubles = [(number, card.trouble) for number, card in enumerate(cards) if card.trouble]
    states = [
        SourceState(source, trouble.state, f"GPU {number}: {trouble.detail}", trouble.advice)
        for number, trouble in troubles
    ]
    caveats = [
        _caveat(f"NVIDIA GPU {number}", trouble)
        for number, trouble in troubles
        # A job that is given some of a machine's cards may not touch the others: nothing is wrong.
        if not (sightings and trouble.state is State.NO_PERMISSION)
    ]
    return Answer(
        sightings,
        (*([fine] if sightings else []), *states),
        (*caveats, *([unclear] if unclear else [])),
    )


def _sharing(sighting: Sighting, ram: Ram) -> Sighting:
    return sighting._replace(
        memory_kind=MemoryKind.UNIFIED,
        total=ram.total,
        usable=ram.total,
        free=None if ram.available is None else min(ram.available, ram.total),
        usable_source=ram.source,
        free_source=ram.source,
        integrated=True,
    )


def _visible(
    cards: Sequence[Card], environ: Mapping[str, str]
) -> tuple[tuple[Sighting, ...], Caveat | None]:
    """Return what the cards show, what programs get first and in their order."""
    # CUDA does not count a card that it may not touch.
    counted = (c for c in cards if not (c.trouble and c.trouble.state is State.NO_PERMISSION))
    pairs = [pair for number, card in enumerate(counted) for pair in _units(number, card)]
    visible = visible_units([unit for unit, _ in pairs], environ)
    places = [*visible.order, *sorted(visible.hidden)]
    seen = [_hide(pairs[place][1], visible.hidden.get(place)) for place in places]
    return tuple(sighting for sighting in seen if sighting), visible.caveat


def _units(number: int, card: Card) -> Iterable[tuple[Unit, Sighting | None]]:
    """Yield what a card can give to programs; a lost one is counted, and shows nothing."""
    unit = Unit(number, card.model, card.uuid)
    if not card.seen:
        yield unit, None
    for sighting in card.seen:
        if card.sliced:
            unit = Unit(number, card.model, sighting.uuid, card.uuid, is_slice=True)
        yield unit, sighting


def _hide(sighting: Sighting | None, why: str | None) -> Sighting | None:
    return sighting and sighting._replace(hidden=sighting.hidden or why)


def _caveat(what: str, trouble: Trouble) -> Caveat:
    words = [what, trouble.detail, *([trouble.advice] if trouble.advice else [])]
    return Caveat("nvidia_unreadable", ": ".join(words))
