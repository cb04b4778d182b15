"""A Windows registry of the tests' own, and the keys that drivers and devices have in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.probes import windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Keys:
    """A registry as a table of keys with their values."""

    def __init__(self, *parts: dict[str, dict[str, object]]) -> None:
        self._keys = {path: values for part in parts for path, values in part.items()}

    def subkeys(self, path: str) -> Sequence[str]:
        """Return the names of the keys below a key, also of those that have no values."""
        above = path + "\\"
        below = [key.removeprefix(above) for key in self._keys if key.startswith(above)]
        return list(dict.fromkeys(name.partition("\\")[0] for name in below))

    def values(self, path: str) -> Mapping[str, object]:
        """Return the values of a key by name."""
        return self._keys.get(path, {})


def card(number: int, name: str, model: str, **values: object) -> dict[str, dict[str, object]]:
    """Return the key that a card's driver has in the display class."""
    path = rf"{windows.DISPLAY_CLASS}\{number:04}"
    return {path: {"DriverDesc": name, "MatchingDeviceId": model, **values}}


def directx(guid: str, name: str, luid: int, **values: object) -> dict[str, dict[str, object]]:
    """Return the key that an adapter has below DirectX."""
    path = rf"{windows.DIRECTX}\{{{guid}}}"
    return {path: {"Description": name, "AdapterLuid": luid, **values}}


def last_seen(time: int) -> dict[str, dict[str, object]]:
    """Return the key of DirectX itself, with when it last saw any adapter."""
    return {windows.DIRECTX: {"LastSeen": time, "Version": "4.09.00.0904"}}


def device(
    model: str, number: int, place: tuple[int, int, int], guid: str
) -> dict[str, dict[str, object]]:
    """Return the keys that a PCI device has: where it sits, and its other two keys."""
    path = rf"{windows.PCI_DEVICES}\{model}&SUBSYS_00000000&REV_A1\4&{number}&0&0008"
    bus, slot, function = place
    words = "@System32\\drivers\\pci.sys,#65536;PCI bus %1, device %2, function %3;"
    driver = rf"{{4D36E968-E325-11CE-BFC1-08002BE10318}}\{number:04}"
    location = f"{words}({bus},{slot},{function})"
    return {
        path: {"Driver": driver, "LocationInformation": location},
        rf"{path}\Device Parameters": {"VideoID": f"{{{guid}}}"},
    }
