"""What the table of devices by name adds to a device whose driver does not tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.machine import alias_key
from quantpick.domain.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.host import Device
    from quantpick.domain.machine import Product

#: A driver tells less memory than the sticker: firmware and error correction take up to this share.
_KEPT = 0.1


def with_known_bandwidth(device: Device, table: Sequence[Product]) -> Device:
    """Return the device with its bandwidth by its name, where the table leaves no choice.

    A name may mean several cards, so the memory has to be that of the row too; what is built into
    a processor has as much of the RAM as it is given.
    """
    # Mesa's names end in the driver: AMD Radeon RX 7900 XTX (RADV NAVI31).
    key = alias_key(device.name.partition(" (")[0])
    rows = [product for product in table if key in product.keys]
    if len(rows) > 1 or not all(product.unified for product in rows):
        rows = [product for product in rows if _has_size(product, device.total)]
    found = {product.bandwidth: product.source for product in rows}
    if len(found) != 1:
        return device
    ((bandwidth, source),) = found.items()
    return device._replace(bandwidth=bandwidth, bandwidth_source=f"by name: {source}")


def _has_size(product: Product, total: int) -> bool:
    return any((1 - _KEPT) * size * GIB <= total <= size * GIB for size in product.sizes_gib)
