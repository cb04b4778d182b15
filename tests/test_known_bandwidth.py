"""The bandwidth of a device whose driver does not tell it: by a name that leaves no choice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.command import Command

GIB = 2**30


def found(quantpick: Command, **device: Any) -> dict[str, Any]:  # noqa: ANN401 -- a field's value
    """Return a device of a host file as quantpick sees it."""
    host = {"ram": {"total": 128 * GIB}, "devices": [device]}
    (quantpick.cwd / "host.json").write_text(json.dumps(host))
    run = quantpick("hardware", "--host", "host.json", "--json")
    assert run.status == 0, run.stderr
    (seen,) = run.json["devices"]
    assert isinstance(seen, dict)
    return seen


@pytest.mark.parametrize(
    ("name", "gib", "gb_s"),
    [
        ("Apple M4 Max", 64, 546),
        ("Apple M4 Max", 36, 410),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 23.98, 960),
        ("Intel(R) Arc(TM) B580 Graphics", 11.9, 456),
        ("NVIDIA GeForce RTX 3080", 9.9, 760),
        ("NVIDIA GeForce RTX 3080", 12, 912),
    ],
)
def test_a_known_name_has_it(quantpick: Command, name: str, gib: float, gb_s: int) -> None:
    device = found(quantpick, name=name, total=round(gib * GIB))
    assert round(device["bandwidth"] / 10**9) == gb_s
    assert device["bandwidth_source"].startswith("by name: ")


def test_built_into_a_processor_any_share_of_the_ram_will_do(quantpick: Command) -> None:
    for gib in (62, 96.5, 110):
        device = found(quantpick, name="Radeon 8060S Graphics", total=round(gib * GIB))
        assert device["bandwidth"] == 256 * 10**9


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("NVIDIA GeForce RTX 4090", 48),
        ("NVIDIA GeForce RTX 4090 Laptop GPU XL", 16),
        ("NVIDIA GeForce RTX 3080", 16),
        ("AMD Radeon Graphics", 16),
        ("GPU 0", 24),
        ("", 24),
    ],
)
def test_a_name_in_doubt_has_none(quantpick: Command, name: str, gib: int) -> None:
    device = found(quantpick, name=name, total=gib * GIB)
    assert (device["bandwidth"], device["bandwidth_source"]) == (None, None)


def test_what_the_driver_tells_stays(quantpick: Command) -> None:
    device = found(quantpick, name="NVIDIA GeForce RTX 4090", total=24 * GIB, bandwidth=5 * 10**11)
    assert (device["bandwidth"], device["bandwidth_source"]) == (5 * 10**11, None)


def test_a_figure_by_name_is_told_as_one_and_predicts_speed(quantpick: Command) -> None:
    found(quantpick, name="AMD Radeon RX 7900 XTX", total=24 * GIB, backend="rocm", arch="gfx1100")
    assert "960 GB/s by its name" in quantpick("hardware", "--host", "host.json").stdout
    run = quantpick("recommend", "llama-3.1-8b", "--host", "host.json", "--json")
    assert run.json["pick"]["speed"]["tokens_per_second"] > 0
