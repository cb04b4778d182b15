"""What every source of devices answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from quantpick.domain.host import Device, Warning


@dataclass(frozen=True)
class Found:
    """Devices a source sees, and what went wrong while it looked."""

    devices: tuple[Device, ...] = ()
    warnings: tuple[Warning, ...] = ()


class DeviceSource(Protocol):
    """A reader of one driver or file tree; quiet where there is nothing to read."""

    def __call__(self) -> Found:
        """Read the devices now."""
