"""The table of devices by name, for the tests of it and of what is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.machine import machine_of
from quantpick.sources.devices import load_devices

if TYPE_CHECKING:
    from quantpick.domain.host import Device
    from quantpick.domain.machine import Product

TABLE = load_devices()
CARDS = [product for product in TABLE if not product.unified]


def one(text: str) -> Device:
    (device,) = machine_of([text], TABLE).devices
    return device


def label(product: Product) -> str:
    return product.name
