"""Graphics cards as Linux lists them below /sys/class/drm, for the vendors that have no library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from quantpick.probes.protocol import Place

_CARDS = "/sys/class/drm"

_CARD = re.compile(r"card(\d{1,6})", re.ASCII)
_RENDER = re.compile(r"renderD(\d{1,6})", re.ASCII)
_HEX = re.compile(r"0[xX]([0-9a-fA-F]{1,16})")
_SLOT = re.compile(
    r"^PCI_SLOT_NAME=([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$",
    re.MULTILINE | re.IGNORECASE,
)


class Card(NamedTuple):
    """One card: its folder, PCI vendor and product numbers, and where it sits on the bus."""

    path: str
    vendor: int
    product: int | None
    pci: str | None

    @property
    def device(self) -> str:
        """The folder of the PCI device behind the card."""
        return f"{self.path}/device"

    @property
    def label(self) -> str:
        """What to call the card where nothing tells its name, such as ``[1002:73df]``."""
        product = "????" if self.product is None else f"{self.product:04x}"
        return f"[{self.vendor:04x}:{product}]"


def probe_cards(place: Place, vendor: int) -> tuple[Card, ...]:
    """Read the cards of one vendor, in the order of their numbers.

    Raises PermissionError.
    """
    paths = place.list(_CARDS, "card[0-9]*")
    # The outputs of a card are listed beside it, such as card0-DP-1.
    numbers = sorted(int(m.group(1)) for path in paths if (m := _CARD.fullmatch(path.name)))
    cards = (_probe_card(place, f"{_CARDS}/card{number}") for number in numbers)
    return tuple(card for card in cards if card is not None and card.vendor == vendor)


def probe_renders(place: Place, card: Card) -> frozenset[int]:
    """Read the numbers of a card's render nodes: /dev/dri/renderD128 has 128."""
    names = (path.name for path in place.list(f"{card.device}/drm", "renderD*"))
    return frozenset(int(match.group(1)) for name in names if (match := _RENDER.fullmatch(name)))


def module_loaded(place: Place, *names: str) -> bool:
    """Whether the kernel has one of the modules, loaded or built in."""
    return any(place.list("/sys/module", name) for name in names)


def parse_hex(text: str) -> int | None:
    """Return the number of a text such as ``0x1002``, None for anything else."""
    match = _HEX.fullmatch(text.strip())
    return int(match.group(1), 16) if match else None


def parse_slot(uevent: str) -> str | None:
    """Return the PCI address that a device's uevent file tells, None where it tells none."""
    match = _SLOT.search(uevent)
    return match.group(1).lower() if match else None


def _probe_card(place: Place, path: str) -> Card | None:
    vendor = parse_hex(place.read(f"{path}/device/vendor", 64) or "")
    if vendor is None:
        return None
    product = parse_hex(place.read(f"{path}/device/device", 64) or "")
    return Card(path, vendor, product, parse_slot(place.read(f"{path}/device/uevent") or ""))
