"""GPUs on Windows, from the registry; what is in use, from the performance counters.

A driver leaves its card's memory in the key of its display class as 64 bits; the 32 bits of WMI's
``AdapterRAM`` stop at 4 GiB. Keys of removed cards stay, so only those count that DirectX lists
too. DirectX also names the adapter as the counters do, and tells how much of the memory it gives to
programs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

from quantpick.domain.host import Backend, Cut, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.domain.units import GIB, MIB
from quantpick.probes.windows_doors import LocalMachine, read_dedicated_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from quantpick.domain.host import Ram
    from quantpick.probes.protocol import Place

SOURCE = "Windows registry"
SYSTEMS = ("win32",)
TIME_LIMIT = 10.0

#: Keys below HKEY_LOCAL_MACHINE.
_DISPLAY = "{4d36e968-e325-11ce-bfc1-08002be10318}"
DISPLAY_CLASS = rf"SYSTEM\CurrentControlSet\Control\Class\{_DISPLAY}"
DIRECTX = r"SOFTWARE\Microsoft\DirectX"
PCI_DEVICES = r"SYSTEM\CurrentControlSet\Enum\PCI"

_COUNTERS = "GPU Adapter Memory"

#: PCI vendors whose GPUs compute; virtual machines' and servers' display adapters do not.
_NVIDIA, _AMD, _INTEL = 0x10DE, (0x1002, 0x1022), 0x8086
_VENDORS = (_NVIDIA, *_AMD, _INTEL)

#: The vendor of Windows' renderer in software.
_MICROSOFT = 0x1414

#: Intel's integrated GPUs sit there, and show up to this much memory as their own.
_INTEL_SLOT, _INTEL_CARVE_OUT = "0000:00:02.0", 2 * GIB

_CLASS_KEY = re.compile(r"\d{4}", re.ASCII)
_PCI_ID = re.compile(r"pci\\(ven_([0-9a-f]{4})(?:&dev_([0-9a-f]{4}))?)", re.ASCII | re.IGNORECASE)
_PCI_PLACE = re.compile(r"\((\d{1,5}),(\d{1,2}),(\d)\)\s*$", re.ASCII)
_INSTANCE = re.compile(r"luid_0x([0-9a-f]{1,8})_0x([0-9a-f]{1,8})_phys_", re.ASCII | re.IGNORECASE)


class Registry(Protocol):
    """The keys below HKEY_LOCAL_MACHINE; empty where there is no key, or none to be read."""

    def subkeys(self, path: str, /) -> Sequence[str]:
        """Return the names of the keys below a key."""

    def values(self, path: str, /) -> Mapping[str, object]:
        """Return the values of a key by name."""


class Card(NamedTuple):
    """A display adapter that a driver is installed for, present or not.

    ``model`` is its PCI vendor and device as the registry spells them, and ``memory`` in bytes.
    """

    key: str
    name: str
    model: str
    vendor: int
    device: int | None
    memory: int | None


class Site(NamedTuple):
    """Where a card sits, and its key below DirectX; None where unknown."""

    pci: str | None = None
    guid: str | None = None


class Adapter(NamedTuple):
    """An adapter that DirectX lists, with its name in the counters and sizes in bytes.

    ``dedicated`` is what it gives to programs of the adapter's own memory and ``shared`` of the
    host's. ``seen`` is when it was there last, in the registry's own units.
    """

    guid: str
    name: str
    ids: tuple[int | None, int | None]
    luid: int | None
    dedicated: int | None
    shared: int | None
    seen: int | None


def probe_devices(
    place: Place,  # noqa: ARG001 -- the registry and the counters are no files and no programs
    ram: Ram,
    *,
    registry: Registry | None = None,
    usage: Callable[[], Mapping[str, int]] | None = None,
) -> Answer:
    """Read the cards that are there. ``registry`` and ``usage`` stand for the real ones."""
    found = _present(registry or LocalMachine())
    if not found:
        return Answer(states=(SourceState(SOURCE, State.NOTHING),))
    used = _used(usage or read_dedicated_usage)
    sightings = tuple(_sighting(*row, ram, used) for row in found)
    count = f"{len(found)} device{'s' if len(found) > 1 else ''}"
    return Answer(sightings, (SourceState(SOURCE, State.OK, count),))


def parse_card(key: str, values: Mapping[str, object]) -> Card | None:
    """Return the GPU of a key of the display class; None for anything that does not compute."""
    name, matching = values.get("driverdesc"), values.get("matchingdeviceid")
    if not isinstance(name, str) or not isinstance(matching, str):
        return None
    match = _PCI_ID.match(matching)
    if match is None or int(match[2], 16) not in _VENDORS:
        return None
    device = int(match[3], 16) if match[3] else None
    return Card(key, name, match[1].lower(), int(match[2], 16), device, parse_memory(values))


def parse_memory(values: Mapping[str, object]) -> int | None:
    """Return a card's memory in bytes, from the 64 bit value or, without it, from the older one."""
    size = parse_number(values.get("hardwareinformation.qwmemorysize"))
    if size:
        return size
    older = parse_number(values.get("hardwareinformation.memorysize")) or 0
    # Documented in megabytes, and written in bytes by most drivers.
    if older < MIB:
        return older * MIB or None
    # Drivers of larger cards stop short of 2 or 4 GiB: 0x7ffff000 of an Arc A770 with 16 GiB
    # (oshi issue 2907), 0xfff00000 of a card with 8 GiB.
    capped = 0 < -older % (2 * GIB) <= MIB
    return None if capped or older >= 4 * GIB else older


def parse_number(value: object) -> int | None:
    """Return a registry value as a number: drivers also write them as binary."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) in {4, 8} else None
    return value if isinstance(value, int) and value >= 0 else None


def parse_adapter(guid: str, values: Mapping[str, object]) -> Adapter | None:
    """Return the adapter of a key below DirectX, None for a renderer in software."""
    name = values.get("description")
    ids = (parse_number(values.get("vendorid")), parse_number(values.get("deviceid")))
    if not isinstance(name, str) or ids[0] == _MICROSOFT or name == "Microsoft Basic Render Driver":
        return None
    names = ("adapterluid", "dedicatedvideomemory", "sharedsystemmemory", "lastseen")
    luid, dedicated, shared, seen = (parse_number(values.get(field)) for field in names)
    return Adapter(guid.lower(), name, ids, luid, dedicated or None, shared or None, seen)


def parse_location(text: str) -> str | None:
    """Return the PCI address in a text that ends in bus, device and function: ``...;(1,0,0)``."""
    match = _PCI_PLACE.search(text)
    if match is None:
        return None
    bus, device, function = (int(number) for number in match.groups())
    return f"{bus >> 8:04x}:{bus & 0xFF:02x}:{device:02x}.{function}"


def parse_usage(counters: Mapping[str, int]) -> dict[int, int]:
    """Return the bytes in use by adapter, from counters such as ``luid_0x0_0x1532a_phys_0``."""
    used: dict[int, int] = {}
    for instance, size in counters.items():
        match = _INSTANCE.match(instance)
        if match:
            luid = int(match[1], 16) << 32 | int(match[2], 16)
            used[luid] = used.get(luid, 0) + size
    return used


def _used(usage: Callable[[], Mapping[str, int]]) -> dict[int, int]:
    """Return the bytes in use by adapter, nothing where Windows has no counters to give."""
    try:
        return parse_usage(usage())
    except OSError:
        return {}


def _present(registry: Registry) -> list[tuple[Card, Site, Adapter | None]]:
    """Return the cards with their places and adapters, without those that were removed."""
    listed = _adapters(registry)
    last = parse_number(_values(registry, DIRECTX).get("lastseen"))
    # Adapters that are there are all seen at the last time that any is.
    current = [a for a in listed if last is None or a.seen is None or a.seen >= last] or listed
    found: list[tuple[Card, Site, Adapter | None]] = []
    for card, site in _placed_cards(registry):
        own = [adapter for adapter in listed if adapter.guid == site.guid]
        here = [a for a in own or listed if a in current and (own or _alike(card, a))]
        if len(here) == 1:
            found.append((card, site, here[0]))
        elif here:
            # Twins: they have the same sizes, and nothing tells which counter is whose.
            found.append((card, site, here[0]._replace(luid=None)))
        elif not listed:
            found.append((card, site, None))
    return found


def _placed_cards(registry: Registry) -> list[tuple[Card, Site]]:
    """Return the cards with their places; without those that no device has, if any has one."""
    keys = [key for key in registry.subkeys(DISPLAY_CLASS) if _CLASS_KEY.fullmatch(key)]
    read = (parse_card(key, _values(registry, rf"{DISPLAY_CLASS}\{key}")) for key in keys)
    pairs = [(card, _site(registry, card)) for card in read if card]
    placed = [(card, site) for card, site in pairs if site]
    return placed or [(card, Site()) for card, _ in pairs]


def _adapters(registry: Registry) -> list[Adapter]:
    keys = [key for key in registry.subkeys(DIRECTX) if key.startswith("{")]
    adapters = (parse_adapter(key, _values(registry, rf"{DIRECTX}\{key}")) for key in keys)
    return [adapter for adapter in adapters if adapter]


def _alike(card: Card, adapter: Adapter) -> bool:
    return adapter.name == card.name or adapter.ids == (card.vendor, card.device)


def _site(registry: Registry, card: Card) -> Site | None:
    """Return where the device with a card's key of the display class sits, None without one."""
    driver = rf"{_DISPLAY}\{card.key}"
    models = (key for key in registry.subkeys(PCI_DEVICES) if key.lower().startswith(card.model))
    for model in models:
        for instance in registry.subkeys(rf"{PCI_DEVICES}\{model}"):
            path = rf"{PCI_DEVICES}\{model}\{instance}"
            values = _values(registry, path)
            if str(values.get("driver")).lower() == driver:
                guid = _values(registry, rf"{path}\Device Parameters").get("videoid")
                pci = parse_location(str(values.get("locationinformation")))
                return Site(pci, guid.lower() if isinstance(guid, str) else None)
    return None


def _values(registry: Registry, path: str) -> dict[str, object]:
    """Return the values of a key by name in lower case: the registry does not tell cases apart."""
    return {name.lower(): value for name, value in registry.values(path).items()}


def _sighting(
    card: Card, site: Site, adapter: Adapter | None, ram: Ram, used: Mapping[int, int]
) -> Sighting:
    integrated = _integrated(card, site)
    seen = Sighting(
        source=SOURCE,
        name=card.name,
        backends=(Backend.CUDA, Backend.VULKAN) if card.vendor == _NVIDIA else (Backend.VULKAN,),
        integrated=integrated,
        pci=site.pci,
    )
    if integrated:
        return _with_shared_memory(seen, adapter, ram)
    # What AMD's drivers write is never RAM that Windows counts: that of an APU is its carve-out.
    own = integrated is False or card.vendor in _AMD
    kind = MemoryKind.DEDICATED if own else None
    return _with_own_memory(seen._replace(memory_kind=kind), card, adapter, used)


def _integrated(card: Card, site: Site) -> bool | None:
    """Whether a GPU is part of the processor; told for Intel's only."""
    if card.vendor != _INTEL:
        return None
    if site.pci:
        return site.pci == _INTEL_SLOT
    return True if card.memory and card.memory <= _INTEL_CARVE_OUT else None


def _with_shared_memory(sighting: Sighting, adapter: Adapter | None, ram: Ram) -> Sighting:
    """Return a GPU with the part of the host's RAM that Windows lets it use."""
    shared = adapter.shared if adapter else None
    usable = None if shared is None else min(shared, ram.total)
    cut = 0 if usable is None else ram.total - usable
    bounds = [size for size in (usable, ram.available) if size is not None]
    return sighting._replace(
        memory_kind=MemoryKind.UNIFIED,
        total=ram.total,
        usable=usable,
        free=None if ram.available is None else min(bounds),
        free_source=None if ram.available is None else ram.source,
        cuts=(Cut("shared_limit", cut, "Windows keeps it from the GPU"),) if cut else (),
    )


def _with_own_memory(
    sighting: Sighting, card: Card, adapter: Adapter | None, used: Mapping[int, int]
) -> Sighting:
    dedicated = adapter.dedicated if adapter else None
    total = card.memory or dedicated
    usable = min(total, dedicated) if total and dedicated else None
    cut = total - usable if total and usable else 0
    taken = used.get(adapter.luid) if adapter and adapter.luid is not None else None
    most = usable or total
    known = most is not None and taken is not None
    return sighting._replace(
        total=total,
        usable=usable,
        free=max(0, most - taken) if most is not None and taken is not None else None,
        free_source=_COUNTERS if known else None,
        cuts=(Cut("reserved", cut, "the driver keeps it"),) if cut else (),
    )
