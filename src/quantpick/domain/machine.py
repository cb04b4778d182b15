"""Machines by name: ``RTX 4090``, ``2x3090``, ``m4-max-64`` become devices, from a short table.

The table (``catalog/reference/devices.json``) says what is on the sticker; a machine at hand is
better probed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.capability import Capability, cuda_capability, gfx_capability
from quantpick.domain.host import Backend, Cut, Device, MemoryKind
from quantpick.domain.names import near_hint
from quantpick.domain.units import GIB
from quantpick.domain.working_set import working_set
from quantpick.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Devices that llama.cpp takes at most: GGML_CUDA_MAX_DEVICES.
MAX_DEVICES = 16

#: Inline ECC keeps this part of GDDR memory for itself: 6.25 %.
_ECC_PART = 16

_APART = re.compile(r"[\s_\-/(),+]+")
_TIMES = re.compile(r"\s*([0-9]{1,3})\s*[x\u00d7*]\s*(\S.*)", re.DOTALL)
_SIZE = re.compile(r"(?<![0-9])([0-9]{1,4})\s*gi?b\b")
_TAIL = re.compile(r"(.*[^0-9-])([0-9]{1,4})|(.*[0-9])-([0-9]{1,4})")
_SERIES = re.compile(r"^(?:rtx|gtx|rx|arc|tesla|jetson)")

#: Words that add nothing to a device's name.
_BRANDS = {"nvidia", "geforce", "amd", "radeon", "instinct", "intel", "apple", "gpu", "graphics"}
_BRANDS |= {"r", "tm"}


class Vendor(StrEnum):
    """Who makes a device."""

    NVIDIA = "NVIDIA"
    AMD = "AMD"
    INTEL = "Intel"
    APPLE = "Apple"


class Product(NamedTuple):
    """One row of the table: a device as it is sold.

    ``sizes_gib`` are its memory sizes; those of a ``unified`` device are the machine's RAM.
    ``aliases`` are what people type; products that share one differ in their sizes. ``bandwidth``
    is in bytes a second. ``ecc`` marks memory that comes with error correction on, and ``macos`` is
    the first version that runs on a chip, where that decides about memory.
    """

    name: str
    aliases: tuple[str, ...]
    vendor: Vendor
    unified: bool
    sizes_gib: tuple[int, ...]
    bandwidth: int
    backends: tuple[Backend, ...]
    arch: str | None
    source: str
    ecc: bool = False
    macos: int | None = None

    @property
    def keys(self) -> frozenset[str]:
        """The aliases as ``alias_key`` writes them."""
        return frozenset(map(alias_key, self.aliases))


class Named(NamedTuple):
    """What one text names: so many of a product, with so much memory in GiB."""

    times: int
    product: Product
    gib: int


class Machine(NamedTuple):
    """Devices in llama.cpp's order, and the RAM in bytes where the names tell it."""

    devices: tuple[Device, ...] = ()
    ram: int | None = None


def alias_key(text: str) -> str:
    """Return a device's name as it is looked up: without case, gaps and the maker's name.

    Two numbers stay apart: ``RTX 3080-12`` is ``rtx3080-12``.
    """
    key = ""
    for word in filter(None, _APART.split(text.casefold())):
        if word not in _BRANDS:
            key += f"-{word}" if key[-1:].isdecimal() and word[0].isdecimal() else word
    return key


def machine_of(texts: Sequence[str], table: Sequence[Product]) -> Machine:
    """Return the machine that some names describe, its devices in the order given.

    Raises NotFoundError for an unknown name, and UsageError for an unclear one, for too many
    devices, and for a device with unified memory beside another.
    """
    named = [parse_machine(text, table) for text in texts]
    total = sum(each.times for each in named)
    if total > MAX_DEVICES:
        raise UsageError(f"{total} devices are too many", f"llama.cpp takes up to {MAX_DEVICES}")
    shared = next((each for each in named if each.product.unified), None)
    if shared is not None and total > 1:
        raise UsageError(
            f"{shared.product.name} has the machine's own memory, so no other device goes with it",
            "name it alone, and once",
        )
    devices = _with_one_backend([device for each in named for device in _devices(each)])
    return Machine(devices, None if shared is None else shared.gib * GIB)


def parse_machine(text: str, table: Sequence[Product]) -> Named:
    """Return what one name means, such as ``2x3090``, ``RTX 3080 12GB`` or ``m4-max-64``.

    Raises NotFoundError for a name that is not in the table, and UsageError where the memory size
    is missing or none that is sold.
    """
    times = _TIMES.fullmatch(text.casefold())
    count, name = (int(times[1]), times[2]) if times else (1, text.casefold())
    if not 1 <= count <= MAX_DEVICES:
        raise UsageError(f"{text!r} is {count} devices", f"llama.cpp takes from 1 to {MAX_DEVICES}")
    products, size = _products(name, table)
    if not products:
        raise _unknown(text, name, table)
    sold = [Named(count, product, gib) for product in products for gib in product.sizes_gib]
    meant = [each for each in sold if size in (None, each.gib)]
    if len(meant) != 1:
        raise _unclear(text, size, sold)
    if count > 1 and meant[0].product.unified:
        raise UsageError(f"a machine has one {meant[0].product.name}, not {count}", "name it once")
    return meant[0]


def _products(name: str, table: Sequence[Product]) -> tuple[list[Product], int | None]:
    """Return the products of a name, and the memory size in it where there is one."""
    size = _SIZE.search(name)
    if size:
        key = alias_key(f"{name[: size.start()]} {name[size.end() :]}")
        return _with_key(key, table), int(size[1])
    key = alias_key(name)
    found, tail = _with_key(key, table), _TAIL.fullmatch(key)
    if found or tail is None:
        return found, None
    return _with_key(tail[1] or tail[3], table), int(tail[2] or tail[4])


def _with_key(key: str, table: Sequence[Product]) -> list[Product]:
    return [product for product in table if key in product.keys]


def _unknown(text: str, name: str, table: Sequence[Product]) -> NotFoundError:
    unknown = f"no device is known by the name {text!r}"
    if name.lower() in {"none", "cpu"}:
        return NotFoundError(unknown, "for the CPU alone: --device none")
    key = _SERIES.sub("", alias_key(name))
    return NotFoundError(
        unknown,
        near_hint(key, dict.fromkeys(product.aliases[0] for product in table)),
        "any other is stated by its memory, for example --vram 24GiB --backend cuda",
    )


def _unclear(text: str, size: int | None, sold: Sequence[Named]) -> UsageError:
    """Return the error for a name that fits several memory sizes, or none."""
    sizes = sorted({each.gib for each in sold})
    first = sold[0].product
    choices = _either([f"{first.aliases[0]}-{gib}" for gib in sizes])
    there_are = f"it is sold with {_either([str(gib) for gib in sizes])} GiB"
    if size is None:
        return UsageError(f"{text!r} leaves its memory open: {there_are}", f"write {choices}")
    return UsageError(
        f"{text!r} has a memory size that is not sold: {there_are}",
        f"write {choices}",
        "another size is stated with --vram or --ram, and --backend",
    )


def _either(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _devices(named: Named) -> tuple[Device, ...]:
    """Return the devices of one name, all of one kind."""
    product, total = named.product, named.gib * GIB
    capability = _capability(product)
    device = Device(
        name=product.name,
        backend=product.backends[0],
        memory_kind=MemoryKind.UNIFIED if product.unified else MemoryKind.DEDICATED,
        total=total,
        usable=total,
        free=None,
        source=f"--gpu ({product.source})",
        backends=product.backends,
        arch=product.arch,
        fp16=capability.fp16,
        bf16=capability.bf16,
        bandwidth=product.bandwidth,
        integrated=product.unified,
    )
    return (_limited(device, product),) * named.times


def _with_one_backend(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return devices as one build of llama.cpp drives them: of different makers, only Vulkan's."""
    alike = len({device.backend for device in devices}) <= 1
    if alike or any(Backend.VULKAN not in device.backends for device in devices):
        return tuple(devices)
    return tuple(device._replace(backend=Backend.VULKAN) for device in devices)


def _limited(device: Device, product: Product) -> Device:
    """Return a device with what programs do not get of its memory taken off."""
    if product.ecc:
        message = "kept for error correction, which is on as delivered"
        return _cut(device, "ecc", device.total - device.total // _ECC_PART, message)
    if not product.unified or product.vendor is Vendor.NVIDIA:
        return device
    if product.vendor is Vendor.APPLE:
        usable = working_set(device.total, product.macos)
        version = "up to 15" if product.macos is None else f"{product.macos}"
        device = device._replace(usable_source=f"estimate for macOS {version}")
        return _cut(device, "working_set", usable, "macOS keeps it from the GPU by default")
    usable = device.total // 2
    device = device._replace(memory_kind=MemoryKind.CARVE_OUT_GTT, gtt=usable)
    message = "Linux lends half of RAM by default (ttm.pages_limit raises it)"
    return _cut(device, "gtt_limit", usable, message)


def _cut(device: Device, code: str, usable: int, message: str) -> Device:
    cut = Cut(code, device.total - usable, message)
    return device._replace(usable=usable, cuts=(cut,))


def _capability(product: Product) -> Capability:
    if product.vendor is Vendor.APPLE:
        return Capability(fp16=True, bf16=True)
    if product.arch is None:
        return Capability()
    if product.vendor is Vendor.AMD:
        return gfx_capability(product.arch)
    major, _, minor = product.arch.partition(".")
    return cuda_capability(int(major), int(minor))
