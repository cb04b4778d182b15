"""The table of devices by name: every row of it, and what a broken one is refused for."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.domain.host import Backend
from quantpick.domain.machine import (
    Product,
    Vendor,
    alias_key,
    parse_machine,
)
from quantpick.errors import IntegrityError, UsageError
from quantpick.probes.amd import ROCM_TARGETS
from quantpick.sources import rows
from quantpick.sources.devices import load_devices
from tests.support.machines import CARDS, TABLE, label

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("product", TABLE, ids=label)
def test_every_alias_with_a_size_names_its_row(product: Product) -> None:
    for alias in product.aliases:
        for gib in product.sizes_gib:
            spellings = [f"{alias}-{gib}", f"{alias.upper()} {gib}GB", f" {alias}_{gib} GiB "]
            for text in spellings:
                assert parse_machine(text, TABLE) == (1, product, gib), text


@pytest.mark.parametrize("product", TABLE, ids=label)
def test_an_alias_alone_names_its_row_where_one_size_is_sold(product: Product) -> None:
    for alias in product.aliases:
        others = [each for each in TABLE if alias_key(alias) in each.keys]
        if sum(len(each.sizes_gib) for each in others) == 1:
            assert parse_machine(alias, TABLE) == (1, product, product.sizes_gib[0])
        else:
            with pytest.raises(UsageError):
                parse_machine(alias, TABLE)


@pytest.mark.parametrize("product", CARDS, ids=label)
def test_a_card_answers_to_its_full_name(product: Product) -> None:
    if "(" not in product.name:
        assert parse_machine(f"{product.vendor} {product.name}", TABLE).product == product


@pytest.mark.parametrize("product", TABLE, ids=label)
def test_the_source_gives_the_bandwidth(product: Product) -> None:
    gb_s = product.bandwidth / 1e9
    assert 20 <= gb_s <= 10_000
    bus = re.search(r"([\d.]+)-bit .* at ([\d.]+) Gb/s", product.source)
    said = re.search(r": ([\d.,]+) ([GT])B/s", product.source)
    if bus:
        assert gb_s == pytest.approx(float(bus[1]) * float(bus[2]) / 8, rel=0.01)
    else:
        assert said is not None
        unit = {"G": 1, "T": 1000}[said[2]]
        assert gb_s == pytest.approx(float(said[1].replace(",", "")) * unit, rel=0.02)


@pytest.mark.parametrize("product", TABLE, ids=label)
def test_figures_go_with_the_vendor(product: Product) -> None:
    first = {"NVIDIA": "cuda", "AMD": "rocm", "Intel": "sycl", "Apple": "metal"}[product.vendor]
    assert first in product.backends
    assert len(set(product.backends)) == len(product.backends)
    assert product.unified or product.vendor is not Vendor.APPLE
    assert all(1 <= size <= 512 for size in product.sizes_gib)
    assert list(product.sizes_gib) == sorted(set(product.sizes_gib))


@pytest.mark.parametrize("product", [p for p in TABLE if p.vendor is Vendor.AMD], ids=label)
def test_rocm_comes_first_where_a_probed_device_has_it(product: Product) -> None:
    assert (product.backends[0] is Backend.ROCM) == (product.arch in ROCM_TARGETS)


# A broken table


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: (change(rows[4]), None)[1]


UNIFIED = {"unified": True, "vram_gib": None}
BROKEN = {
    "no name": (edit(lambda row: row.pop("name")), "name is missing"),
    "no alias": (edit(lambda row: row.update(aliases=[])), "aliases is empty"),
    "an alias that is taken": (
        edit(lambda row: row.update(aliases=["GTX 1060"])),
        "gtx1060 with 6 GiB is GeForce GTX 1060 6GB already",
    ),
    "an unknown vendor": (edit(lambda row: row.update(vendor="3dfx")), "vendor has '3dfx'"),
    "no vendor": (edit(lambda row: row.update(vendor=3)), "vendor is not of type str"),
    "no memory": (edit(lambda row: row.update(vram_gib=0)), "vram_gib is not above zero"),
    "text for unified": (edit(lambda row: row.update(unified="no")), "not of type bool"),
    "two memories": (
        edit(lambda row: row.update(unified=True, memory_sizes_gib=[8])),
        "vram_gib is given for unified memory",
    ),
    "no sizes": (edit(lambda row: row.update(UNIFIED)), "memory_sizes_gib is missing"),
    "an empty list of sizes": (
        edit(lambda row: row.update(UNIFIED, memory_sizes_gib=[])),
        "not a list of whole numbers",
    ),
    "half a size": (
        edit(lambda row: row.update(UNIFIED, memory_sizes_gib=[8, 8.5])),
        "not a list of whole numbers",
    ),
    "a slow memory": (edit(lambda row: row.update(bandwidth_gb_s=19)), "not a number from 20"),
    "a fast memory": (edit(lambda row: row.update(bandwidth_gb_s=10001)), "not a number from 20"),
    "no bandwidth": (edit(lambda row: row.pop("bandwidth_gb_s")), "not a number from 20"),
    "text for bandwidth": (edit(lambda row: row.update(bandwidth_gb_s="448")), "not a number"),
    "an unknown backend": (edit(lambda row: row.update(backends=["glide"])), "'glide'"),
    "no backend": (edit(lambda row: row.update(backends=[])), "backends is empty"),
    "another vendor's arch": (edit(lambda row: row.update(arch="gfx1100")), "which NVIDIA has not"),
    "no arch": (edit(lambda row: row.pop("arch")), "which NVIDIA has not"),
    "an arch for Intel": (edit(lambda row: row.update(vendor="Intel")), "which Intel has not"),
    "no source": (edit(lambda row: row.update(source="")), "source is empty"),
    "text for ecc": (edit(lambda row: row.update(ecc="yes")), "ecc is not of type bool"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, words = BROKEN[name]
    shutil.copytree(rows.catalog_dir() / "reference", tmp_path / "reference")
    path = tmp_path / "reference" / "devices.json"
    document = json.loads(path.read_text("utf-8"))
    change(document["devices"])
    path.write_text(json.dumps(document), "utf-8")
    monkeypatch.setenv(rows.CATALOG_VARIABLE, str(tmp_path))
    with pytest.raises(IntegrityError) as caught:
        load_devices()
    assert "reference/devices.json, devices row 5: " in caught.value.message
    assert words in caught.value.message
