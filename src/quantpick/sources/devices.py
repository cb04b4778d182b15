"""The door to the table of devices by name: read, checked row by row, turned into values."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, TypeVar

from quantpick.domain.host import Backend
from quantpick.domain.machine import Product, Vendor
from quantpick.domain.units import GB
from quantpick.sources.rows import (
    broken,
    count_of,
    optional,
    read_document,
    rows_of,
    text_of,
    texts_of,
    typed,
)

_E = TypeVar("_E", bound=StrEnum)

#: The file inside the catalog.
NAME = "reference/devices.json"

#: What a device's memory can deliver, in GB/s: from an old laptop's RAM to stacks of HBM3E.
_BANDWIDTHS = (20, 10_000)

_ARCHS = {
    Vendor.NVIDIA: re.compile(r"[1-9][0-9]?\.[0-9]"),
    Vendor.AMD: re.compile(r"gfx[1-9][0-9]{1,2}[0-9a-f]"),
}


def load_devices() -> tuple[Product, ...]:
    """Read the devices that can be named. Raises IntegrityError on a broken file or row."""
    taken: dict[tuple[str, int], str] = {}
    products = []
    for where, row in rows_of(read_document(NAME), NAME, "devices"):
        product = _product(row, where)
        for pair in [(key, size) for key in product.keys for size in product.sizes_gib]:
            if pair in taken:
                broken(where, f"{pair[0]} with {pair[1]} GiB is {taken[pair]} already")
            taken[pair] = product.name
        products.append(product)
    return tuple(products)


def _product(row: dict[str, Any], where: str) -> Product:
    vendor = _member(Vendor, text_of(row, "vendor", where), "vendor", where)
    backends = _some_texts(row, "backends", where)
    unified = typed(row, "unified", bool, where)
    return Product(
        name=text_of(row, "name", where),
        aliases=_some_texts(row, "aliases", where),
        vendor=vendor,
        unified=unified,
        sizes_gib=_sizes(row, where) if unified else (count_of(row, "vram_gib", where),),
        bandwidth=_bandwidth(row, where),
        backends=tuple(_member(Backend, text, "backends", where) for text in backends),
        arch=_arch(row, vendor, where),
        source=text_of(row, "source", where),
        ecc=optional(row, "ecc", bool, where) or False,
        macos=optional(row, "macos", int, where),
    )


def _member(kind: type[_E], text: str, field: str, where: str) -> _E:
    try:
        return kind(text)
    except ValueError:
        broken(where, f"{field} has {text!r}, which is none of {', '.join(kind)}")


def _some_texts(row: dict[str, Any], field: str, where: str) -> tuple[str, ...]:
    texts = texts_of(row, field, where)
    if not texts:
        broken(where, f"{field} is empty")
    return texts


def _sizes(row: dict[str, Any], where: str) -> tuple[int, ...]:
    """Return the RAM sizes that a device with unified memory is sold with."""
    if row.get("vram_gib") is not None:
        broken(where, "vram_gib is given for unified memory")
    sizes = typed(row, "memory_sizes_gib", list, where)
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        broken(where, "memory_sizes_gib is not a list of whole numbers above zero")
    return tuple(sizes)


def _bandwidth(row: dict[str, Any], where: str) -> int:
    """Return bytes a second."""
    gb_s: object = row.get("bandwidth_gb_s")
    least, most = _BANDWIDTHS
    if not isinstance(gb_s, int | float) or not least <= gb_s <= most:
        broken(where, f"bandwidth_gb_s is not a number from {least} to {most}")
    return round(gb_s * GB)


def _arch(row: dict[str, Any], vendor: Vendor, where: str) -> str | None:
    arch = optional(row, "arch", str, where)
    pattern = _ARCHS.get(vendor)
    if (arch is None) != (pattern is None) or (pattern and not pattern.fullmatch(arch or "")):
        broken(where, f"arch is {arch!r}, which {vendor} has not")
    return arch
