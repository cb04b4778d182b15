"""Predicted speed: from a fit that is repeated here, checked on devices it had not seen."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, Device, MemoryKind
from quantpick.domain.memory import Split
from quantpick.domain.shape import Shape
from quantpick.domain.speed import (
    Basis,
    Cost,
    Run,
    Speed,
    SpeedTable,
    Unknown,
    cost_of,
    generation_of,
    predict,
    why_unknown,
)
from quantpick.domain.weights import LayerWeights, Weights, spread_weights
from quantpick.errors import IntegrityError
from quantpick.sources.rows import CATALOG_VARIABLE, catalog_dir
from quantpick.sources.speed import NAME, load_speeds
from tests.speed import fit
from tests.speed.rows import DATA, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = load_speeds()
ROWS = read_rows()


@pytest.fixture(scope="module")
def unseen() -> list[fit.Residual]:
    """Return every row with its prediction by a fit that has not seen its device."""
    return fit.left_out(ROWS, fit.device_name)


def card(
    backend: Backend = Backend.CUDA,
    arch: str | None = "8.6",
    bandwidth: int | None = 936 * 10**9,
    name: str = "a card",
) -> Device:
    kind = MemoryKind.DEDICATED
    return Device(name, backend, kind, 0, 0, None, "test", arch=arch, bandwidth=bandwidth)


def shape_of(layers: int = 32, experts: int = 0, used: int = 0) -> Shape:
    shape = Shape("llama", 8 * 10**9, layers, 32, 8, 128, 128, 4096, 14336, 128256, 8192)
    return shape._replace(expert_count=experts, expert_used_count=used)


def weights_of(layer: int, layers: int = 32, output: int = 0, experts: int = 0) -> Weights:
    each = LayerWeights(layer, experts)
    return Weights(10**9, output, (each,) * layers, routed=experts > 0)


RUN = Run(weights_of(117 * 10**6), shape_of(), "Q4_0", (card(),), Split((33,)))


def known(run: Run, table: SpeedTable = TABLE) -> Speed:
    speed = predict(run, table)
    assert speed is not None, why_unknown(run, table)
    return speed


def test_the_file_is_what_the_rows_give() -> None:
    written = json.loads((catalog_dir() / NAME).read_text("utf-8"))
    fitted = json.loads(json.dumps(fit.document(ROWS)))
    assert written["sources"] == fitted["sources"]
    assert written["bands"].keys() == fitted["bands"].keys()
    for key, values in written["bands"].items():
        assert values == pytest.approx(fitted["bands"][key], abs=0.002)
    assert len(written["rates"]) == len(fitted["rates"])
    for own, other in zip(written["rates"], fitted["rates"], strict=True):
        assert own.keys() == other.keys()
        assert own.pop("band") == pytest.approx(other["band"], abs=0.002)
        for field, value in own.items():
            near = value if isinstance(value, str) else pytest.approx(value, rel=0.005, abs=0.11)
            assert other[field] == near, (own["backend"], own["generation"], field)


def test_rows_of_old_builds_have_a_factor_of_their_own() -> None:
    rows = [row for row in ROWS if row.backend is Backend.CUDA and row.dense]
    theta = fit.fit(rows)
    old = next(row for row in rows if row.old)
    assert sum(fit.times(theta, old)) > 1.03 * sum(fit.times(theta, old._replace(old=False)))


def test_every_row_has_its_source() -> None:
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ROWS) > 350
    assert all(row["source"] and row["test"] and float(row["read_gb"]) > 0 for row in rows)


def test_half_of_unseen_devices_are_within_12_percent(unseen: list[fit.Residual]) -> None:
    board = fit.errors_of(fit.scoreboard(unseen))
    # Chats and small models too, where a device counts once however many rows it has.
    dense = fit.errors_of([pair for pair in unseen if pair[0].dense], once=True)
    assert board.rows > 190
    assert dense.rows > 270
    assert min(board.devices, dense.devices) > 65
    assert max(board.median, dense.median) <= 12
    assert max(board.p90, dense.p90) <= 35


@pytest.mark.parametrize("backend", sorted(set(fit.BACKENDS) - {Backend.SYCL}))
def test_no_backend_but_sycl_is_off_by_more(unseen: list[fit.Residual], backend: Backend) -> None:
    own = [pair for pair in fit.scoreboard(unseen) if pair[0].backend is backend]
    errors = fit.errors_of(own)
    assert errors.median <= 12
    assert errors.p90 <= 35


def test_four_of_five_devices_of_each_generation_are_within_its_band(
    unseen: list[fit.Residual],
) -> None:
    for (backend, generation), rates in TABLE.rates.items():
        own = [(row, ratio) for row, ratio in unseen if row.dense and not row.small]
        own = [p for p in own if (p[0].backend, p[0].generation) == (backend, generation)]
        shares: dict[str, list[bool]] = {}
        for row, ratio in own:
            if row.cost is not Cost.LOW_I:
                inside = rates.band.low - 0.001 <= ratio <= rates.band.high + 0.001
                shares.setdefault(row.device.name, []).append(inside)
        found = [sum(inside) / len(inside) for inside in shares.values()]
        assert not found or sum(found) / len(found) >= 0.79, (backend, generation)


def test_a_device_left_out_has_no_part_in_its_own_prediction(unseen: list[fit.Residual]) -> None:
    name = "RTX 4090"
    slower = [row._replace(speed=row.speed / 3) if row.device.name == name else row for row in ROWS]
    before = [ratio for row, ratio in unseen if row.device.name == name]
    after = [r for row, r in fit.left_out(slower, fit.device_name) if row.device.name == name]
    assert after == pytest.approx([ratio / 3 for ratio in before])


@given(
    st.sampled_from(list(Backend)),
    st.sampled_from([None, "6.1", "7.0", "8.9", "12.0", "gfx1100", "gfx906", "nonsense"]),
    st.integers(20, 10_000),
    st.integers(10**6, 10**10),
    st.sampled_from(["Q4_0", "Q4_K_M", "Q8_0", "IQ2_XS", "IQ4_XS", "Q2_K", "MXFP4", "F16"]),
    st.integers(1, 100),
    st.booleans(),
)
def test_laws(  # noqa: PLR0913, PLR0917 -- all that a figure depends on
    backend: Backend,
    arch: str | None,
    gb_s: int,
    layer: int,
    label: str,
    layers: int,
    experts: bool,  # noqa: FBT001 -- given by hypothesis
) -> None:
    shape = shape_of(layers, 8 * experts, 2 * experts)
    device = card(backend, arch, bandwidth=gb_s * 10**9)
    weights = weights_of(layer, layers, experts=layer if experts else 0)
    run = RUN._replace(weights=weights, shape=shape, label=label, devices=(device,))
    run = run._replace(split=Split((layers + 1,)))
    if backend is Backend.CPU:
        assert why_unknown(run, TABLE) is Unknown.BACKEND
        return
    speed = known(run)
    assert 0 < speed.low <= speed.tokens_per_second <= speed.high
    faster = known(run._replace(devices=(device._replace(bandwidth=2 * gb_s * 10**9),)))
    larger = known(run._replace(weights=weights._replace(output=layer)))
    assert faster.tokens_per_second > speed.tokens_per_second > larger.tokens_per_second
    assert faster.low > speed.low > larger.low
    assert faster.high > speed.high > larger.high


@pytest.mark.parametrize(
    ("device", "name", "label", "read", "layers", "measured"),
    [
        (card(bandwidth=936 * 10**9), "RTX 3090", "Q4_0", 3.752, 32, 158.2),
        (card(arch="8.9", bandwidth=1008 * 10**9), "RTX 4090", "Q4_0", 3.752, 32, 186.2),
        (card(arch="12.0", bandwidth=672 * 10**9), "RTX 5070", "Q4_K_M", 8.575, 40, 59.0),
        (card(Backend.METAL, None, bandwidth=546 * 10**9), "Apple M4 Max", "Q8_0", 7.022, 32, 54.1),
        (card(Backend.ROCM, "gfx1151", bandwidth=256 * 10**9), "8060S", "Q4_0", 3.752, 32, 50.8),
    ],
)
def test_rows_lie_in_their_band(  # noqa: PLR0913, PLR0917 -- the fields of a row
    device: Device, name: str, label: str, read: float, layers: int, measured: float
) -> None:
    weights = weights_of(round(read * 1e9 / layers), layers)
    run = RUN._replace(weights=weights, shape=shape_of(layers), label=label)
    run = run._replace(devices=(device._replace(name=name),), split=Split((layers + 1,)))
    speed = known(run)
    assert speed.low <= measured <= speed.high
    assert speed.basis is Basis.GENERATION
    edges = (speed.low / speed.tokens_per_second, speed.high / speed.tokens_per_second)
    rates = TABLE.rates[device.backend or Backend.CPU, generation_of(device)]
    assert edges == pytest.approx(rates.band[1:])


def test_of_experts_those_used_are_read() -> None:
    shape = shape_of(experts=8, used=2)
    all_used = shape._replace(expert_used_count=8)
    routed = RUN._replace(weights=weights_of(10**8, experts=8 * 10**8), shape=shape)
    dense = RUN._replace(weights=weights_of(3 * 10**8))
    shift = TABLE.bands[Basis.EXPERTS].middle
    assert known(routed).tokens_per_second == pytest.approx(known(dense).tokens_per_second * shift)
    assert known(routed).basis is Basis.EXPERTS
    assert known(routed._replace(shape=all_used)).high < known(routed).low


def test_the_token_embedding_is_not_read() -> None:
    huge = RUN.weights._replace(embedding=10**11)
    assert known(RUN._replace(weights=huge)) == known(RUN)


def test_an_embedding_inside_an_estimate_is_taken_off() -> None:
    shape = shape_of()._replace(embedding_length=16384)
    spread = spread_weights(5 * 10**9, shape)
    exact = spread._replace(exact=True)
    estimate, with_it = (known(RUN._replace(weights=it, shape=shape)) for it in (spread, exact))
    tied = known(RUN._replace(weights=spread, shape=shape._replace(tied=True)))
    assert estimate.tokens_per_second > 1.2 * with_it.tokens_per_second
    assert tied == with_it


def test_a_range_lies_around_the_corrected_figure() -> None:
    routed = RUN._replace(
        weights=weights_of(10**8, experts=8 * 10**8),
        shape=shape_of(experts=8, used=2),
        devices=(card(Backend.ROCM, "gfx1100"),),
    )
    speed, rates = known(routed), TABLE.rates[Backend.ROCM, "RDNA3"]
    experts = TABLE.bands[Basis.EXPERTS]
    widest = max(rates.band.high, experts.high / experts.middle)
    assert speed.high / speed.tokens_per_second == pytest.approx(widest)


def test_a_backend_without_generations_has_its_own_band_too() -> None:
    sycl = known(RUN._replace(devices=(card(Backend.SYCL, None, name="Intel Arc B580"),)))
    own, strange = TABLE.rates[Backend.SYCL, "other"].band, TABLE.bands[Basis.BACKEND]
    edges = (sycl.low / sycl.tokens_per_second, sycl.high / sycl.tokens_per_second)
    assert edges == pytest.approx((min(own.low, strange.low), max(own.high, strange.high)))


@given(st.integers(1, 32), st.integers(100, 900))
def test_devices_work_one_after_the_other(first: int, gb_s: int) -> None:
    slow, fast = card(bandwidth=gb_s * 10**9), card()
    run = RUN._replace(devices=(slow, fast), split=Split((first, 33 - first)))
    speed = known(run)
    alone = [known(RUN._replace(devices=(device,))).tokens_per_second for device in (slow, fast)]
    mixed = first / 32 / alone[0] + (32 - first) / 32 / alone[1]
    assert 1 / speed.tokens_per_second == pytest.approx(mixed)
    assert speed.basis is Basis.SEVERAL


def test_layers_that_are_not_loaded_cost_nothing() -> None:
    idle = RUN.weights._replace(layers=(*RUN.weights.layers, LayerWeights()))
    assert known(RUN._replace(weights=idle, split=Split((34,)))) == known(RUN)


@pytest.mark.parametrize(
    ("changes", "basis"),
    [
        ({"shape": shape_of()._replace(parameters=10**9)}, Basis.SMALL),
        ({"label": "IQ2_XS"}, Basis.LOW_I),
        ({"devices": (card(arch="5.2"),)}, Basis.BACKEND),
        ({"devices": (card(arch=None),)}, Basis.BACKEND),
    ],
)
def test_what_is_known_less_has_a_wider_band(changes: dict[str, Any], basis: Basis) -> None:
    usual, speed = known(RUN), known(RUN._replace(**changes))
    assert speed.basis is basis
    assert speed.low / speed.tokens_per_second < usual.low / usual.tokens_per_second


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"devices": (), "split": Split()}, Unknown.CPU),
        ({"split": Split((0,))}, Unknown.CPU),
        ({"split": Split((32,))}, Unknown.PARTIAL_OFFLOAD),
        ({"split": Split((33,), n_cpu_moe=1)}, Unknown.PARTIAL_OFFLOAD),
        ({"shape": None}, Unknown.SHAPE),
        ({"weights": Weights(0, 0, (LayerWeights(),) * 32)}, Unknown.SHAPE),
        ({"shape": shape_of(experts=8, used=2)}, Unknown.EXPERTS),
        ({"weights": weights_of(10**8, experts=1)}, Unknown.EXPERTS),
        ({"label": "IQ4_KS"}, Unknown.TYPE),
        ({"label": "BF16", "devices": (card()._replace(bf16=False),)}, Unknown.EMULATED),
        ({"devices": (card(bandwidth=None),)}, Unknown.BANDWIDTH),
        ({"devices": (card()._replace(backend=None),)}, Unknown.BACKEND),
        ({"devices": (card()._replace(backends=(Backend.VULKAN,)),)}, Unknown.BACKEND),
        ({"devices": (card(), card(bandwidth=None)), "split": Split((20, 13))}, Unknown.BANDWIDTH),
    ],
)
def test_what_is_not_known_has_no_number(changes: dict[str, Any], why: Unknown) -> None:
    run = RUN._replace(**changes)
    assert why_unknown(run, TABLE) is why
    assert predict(run, TABLE) is None


def test_a_device_that_is_not_used_needs_no_bandwidth() -> None:
    devices = (card(bandwidth=None), card())
    assert known(RUN._replace(devices=devices, split=Split((0, 33)))) == known(RUN)


@pytest.mark.parametrize(
    ("device", "generation"),
    [
        (card(arch="6.0"), "HBM"),
        (card(arch="5.2"), "other"),
        (card(Backend.ROCM, "gfx90c"), "other"),
        (card(Backend.ROCM, "gfx1010"), "other"),
        (card(Backend.ROCM, "gfx1030"), "RDNA2"),
        (card(Backend.METAL, None, name="Apple M3 Ultra"), "M3"),
        (card(Backend.METAL, None, name="Apple M7"), "M5"),
        (card(Backend.METAL, None, name="AMD Radeon Pro 5500M"), "other"),
        (card(Backend.VULKAN, "gfx1100"), "AMD"),
        (card(Backend.VULKAN, "gfx906"), "other"),
        (card(Backend.VULKAN, "8.0"), "other"),
        (card(Backend.VULKAN, None, name="Intel(R) Arc(tm) A770 Graphics"), "Intel"),
        (card(Backend.VULKAN, None, name="NVIDIA GeForce RTX 4070"), "NVIDIA"),
        (card(Backend.VULKAN, None, name="llvmpipe"), "other"),
    ],
)
def test_generations(device: Device, generation: str) -> None:
    assert generation_of(device) == generation


@pytest.mark.parametrize(
    ("label", "cost"),
    [
        ("Q4_0", Cost.PLAIN),
        ("Q8_0", Cost.WIDE),
        ("BF16", Cost.WIDE),
        ("UD-Q8_K_XL", Cost.WIDE),
        ("Q4_K_M", Cost.K),
        ("Q2_K_L", Cost.LOW_K),
        ("IQ4_XS", Cost.IQ4),
        ("IQ3_M", Cost.LOW_I),
        ("TQ1_0", Cost.LOW_I),
        ("IQ4_KS", None),
        ("Q4_K_P", None),
    ],
)
def test_costs(label: str, cost: Cost | None) -> None:
    assert cost_of(label) is cost


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        document = json.loads((catalog_dir() / NAME).read_text("utf-8"))
        change(document)
        target = folder / NAME
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(document), "utf-8")

    return write


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["rates"][0].update(backend="cpu"), "row 1: backend is 'cpu'"),
        (lambda d: d["rates"][0].update(efficiency=1.5), "row 1: efficiency is not a number"),
        (lambda d: d["rates"][1].pop("low_i"), "row 2: low_i is not a number"),
        (lambda d: d["rates"].append(d["rates"][0]), "cuda Ada is there already"),
        (lambda d: d["rates"].pop(6), "cuda has no row for other generations"),
        (lambda d: d["bands"].pop("experts"), "bands are not those of"),
        (lambda d: d["bands"].update(experts=[1, 1.1, 1.2]), "band experts: the middle is not"),
        (lambda d: d["rates"][0].update(band=[1, 1]), "row 1: not three numbers"),
    ],
)
def test_a_broken_file_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    edit(change)(tmp_path)
    monkeypatch.setenv(CATALOG_VARIABLE, str(tmp_path))
    with pytest.raises(IntegrityError, match=words):
        load_speeds()
