"""What every source of devices answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from quantpick.domain.host import Caveat, Device


class Found(NamedTuple):
    """Devices a source sees, and what went wrong while it looked."""

    devices: tuple[Device, ...] = ()
    caveats: tuple[Caveat, ...] = ()


class DeviceSource(Protocol):
    """A module that reads one driver or file tree; quiet where there is nothing to read."""

    def probe_devices(self) -> Found:
        """Read the devices now."""
