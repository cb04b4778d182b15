"""One picture of a machine's devices: matched, weighed against the engine's list, chosen from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.choice import NOT_IN_ENGINE, choose
from quantpick.domain.host import Caveat, SetAside
from quantpick.domain.matching import device_of, match
from quantpick.domain.units import format_gib

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quantpick.domain.host import Device, Host
    from quantpick.domain.matching import Card
    from quantpick.domain.sighting import Sighting

#: Names of drivers that compute on the processor.
_SOFTWARE = ("llvmpipe", "lavapipe", "swiftshader", "softpipe", "softwarerasterizer")


def picture(host: Host, native: Iterable[Sighting], listed: Sequence[Sighting] | None) -> Host:
    """Return the host with its devices, those set aside, and what the user should know of them.

    ``listed`` is what the engine can use, None where no engine told. What it does not list, it
    cannot use, whatever the machine has.
    """
    open_devices: list[Device] = []
    aside: list[SetAside] = []
    caveats: list[Caveat] = []
    for card in match(native, listed or ()):
        device = device_of(card, host.ram)
        if device is None:
            caveats += _memory_unknown(card)
            continue
        barred = _barred(card, asked=listed is not None)
        if barred is None:
            open_devices.append(device)
        else:
            aside.append(SetAside(device, *barred))
    devices, others = choose(open_devices)
    aside = [*others, *aside]
    if listed is not None:
        caveats += _engine_caveats(devices, aside, host)
    return host._replace(
        devices=devices, set_aside=tuple(aside), warnings=(*host.warnings, *caveats)
    )


def _barred(card: Card, *, asked: bool) -> tuple[str, str] | None:
    """Return the code and the reason why a card does not count, None where it does."""
    if card.software or (not card.native and card.name.lower().startswith(_SOFTWARE)):
        return "software", "a processor that poses as a GPU"
    if card.listed:
        return None
    if card.hidden is not None:
        return "hidden", card.hidden
    return (NOT_IN_ENGINE, "llama.cpp does not list it") if asked else None


def _memory_unknown(card: Card) -> list[Caveat]:
    if card.software or card.hidden or any(sighting.integrated for sighting in card.sightings):
        return []
    return [Caveat("memory_unknown", f"{card.name}: its memory is unknown; state it with --vram")]


def _engine_caveats(
    devices: Sequence[Device], aside: Sequence[SetAside], host: Host
) -> Iterable[Caveat]:
    """Say out loud which GPUs the engine cannot use."""
    missed = [item.device for item in aside if item.code == NOT_IN_ENGINE]
    if devices:
        missed = [device for device in missed if not device.integrated]
    if not missed:
        return
    names = ", ".join(f"{device.name} ({format_gib(device.total)})" for device in missed)
    program = (host.engine.path or host.engine.source) if host.engine else "llama.cpp"
    if devices:
        yield Caveat("engine_misses_device", f"{program} does not list {names}: not counted")
    else:
        yield Caveat(
            "engine_without_gpu",
            f"{program} lists no GPU, so it would run on the CPU, though there is {names}: "
            "get a build with a backend for it, or name another program with --engine",
        )
