"""How much a quant loses: the published figures, their common scale, and the ranks by them."""

from __future__ import annotations

import json
import shutil
import statistics
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.quality import Basis, Measurement, QualityTable, quality_of, quality_record
from quantpick.domain.quant import Family, canonical_label, family_of
from quantpick.errors import IntegrityError
from quantpick.render.words import quality_sentence
from quantpick.sources.catalog import load_reference
from quantpick.sources.quality import load_quality
from quantpick.sources.rows import CATALOG_VARIABLE, catalog_dir

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from quantpick.domain.quality import Quality

TABLE = load_quality()
REFERENCE = load_reference()
DYNAMIC_GATE = {
    "IQ2_XXS": (11.30, 9.84, 2.5, 2.6, 234, 246),
    "IQ2_XS": (11.72, 11.63, 2.7, 2.8, 242, 246),
    "IQ2_S": (14.31, 9.02, 2.7, 2.9, 238, 244),
    "IQ1_M": (27.46, 15.41, 2.2, 2.5, 206, 212),
    "IQ1_S": (53.07, 32.00, 2.1, 2.4, 184, 209),
}


def known(label: str, table: QualityTable = TABLE) -> Quality:
    quality = quality_of(label, table)
    assert quality is not None, label
    return quality


def test_the_table_holds_what_was_published() -> None:
    rows = TABLE.measurements
    assert len(rows) == 171
    assert len({row.model for row in rows}) == 11
    assert all(row.ppl or row.kld_mean or row.kld_median for row in rows)
    named = [row.label for row in rows if not row.label.startswith("APEX ")]
    assert [canonical_label(label) for label in named] == named
    (usual,) = [
        r for r in rows if (r.model, r.label, r.matrix) == (TABLE.reference, "Q4_K_M", None)
    ]
    assert (usual.ppl, usual.kld_mean, usual.same_top_pct) == (6.407115, 0.031273, 91.901)
    assert (usual.imatrix, usual.size_gib) == (False, 4.58)


def test_the_table_holds_the_dynamicgate_comparison() -> None:
    rows = [row for row in TABLE.measurements if row.cpu_avx2_s]
    assert {row.ctx_size for row in rows} == {2048}
    for label, (*ppl, standard, dynamic, slow, slower) in DYNAMIC_GATE.items():
        pair = [row for row in rows if row.label == label]
        assert [row.mix for row in pair] == [None, "DynamicGate"]
        assert [row.ppl for row in pair] == ppl
        assert [row.size_gb for row in pair] == [standard, dynamic]
        assert [row.cpu_avx2_s for row in pair] == [slow, slower]


def test_the_table_of_quants_holds_what_is_told_of_each_label() -> None:
    for label, info in REFERENCE.quants.items():
        quality = quality_of(label, TABLE)
        assert info.kld == (None if quality is None else round(quality.kld, 6)), label


def test_a_label_measured_on_the_reference_model_is_its_best_row() -> None:
    rows = [r for r in TABLE.measurements if r.model == TABLE.reference and r.kld_mean]
    labels = {row.label for row in rows}
    assert len(labels) == 28
    for label in labels:
        quality = known(label)
        best = min(row.kld_mean for row in rows if row.label == label and row.kld_mean)
        assert (quality.kld, quality.label, quality.measured) == (best, label, True)
        assert quality.model == quality.reference == "Meta-Llama-3-8B"
        assert "llama.cpp tools/perplexity" in quality.source
    assert (known("Q2_K").kld, known("Q2_K").ppl) == (0.331393, 8.65229)


def test_the_order_of_rows_does_not_matter() -> None:
    turned = TABLE._replace(measurements=TABLE.measurements[::-1])
    for label in REFERENCE.quants:
        before, after = quality_of(label, TABLE), quality_of(label, turned)
        assert (before and before.kld) == pytest.approx(after and after.kld)


def test_the_rows_without_a_mean_kld_are_shown_but_not_compared() -> None:
    silent = TABLE._replace(measurements=tuple(r for r in TABLE.measurements if r.kld_mean))
    assert len(silent.measurements) < len(TABLE.measurements)
    for label in (*REFERENCE.quants, "UD-IQ1_S", "UD-IQ4_XS"):
        assert quality_of(label, silent) == quality_of(label, TABLE)


@pytest.mark.parametrize(
    ("label", "basis", "found_under"),
    [
        ("UD-Q4_K_XL", Basis.SCALED, "UD-Q4_K_XL"),
        ("Q4_K_XL", Basis.SCALED, "UD-Q4_K_XL"),
        ("UD-IQ1_S", Basis.SCALED, "UD-IQ1_S"),
        ("MXFP4_MOE", Basis.SCALED, "MXFP4_MOE"),
        ("Q6_K_L", Basis.INTERPOLATED, "Q6_K_L"),
        ("UD-IQ4_XS", Basis.VARIED, "IQ4_XS"),
        ("AD-IQ3_M", Basis.VARIED, "IQ3_M"),
        ("Q3_K_XL", Basis.VARIED, "Q3_K_L"),
        ("i1-Q4_K_M", Basis.MEASURED, "Q4_K_M"),
        ("Q5_K", Basis.MEASURED, "Q5_K_M"),
        ("Q4_0_8_8", Basis.MEASURED, "Q4_0"),
    ],
)
def test_what_a_figure_rests_on_is_said(label: str, basis: Basis, found_under: str) -> None:
    quality = known(label)
    assert (quality.basis, quality.label) == (basis, found_under)
    record = quality_record(quality)
    assert record is not None
    assert record["measured"] is (basis is Basis.MEASURED)
    assert record["kld"] == quality.kld
    sentence = quality_sentence(quality)
    assert ("about " in sentence) is (basis is not Basis.MEASURED)
    assert f"{quality.kld:.3g}" in sentence
    assert quality.reference in sentence


@pytest.mark.parametrize("label", ["BF16", "F32", "TQ1_0", "UD-TQ1_0", "NVFP4", "Q4_K_H", "IQ2_KT"])
def test_what_nobody_can_say_is_none(label: str) -> None:
    assert quality_of(label, TABLE) is None
    assert quality_record(quality_of(label, TABLE)) is None
    assert "nobody measured" in quality_sentence(quality_of(label, TABLE))


LADDER = ("Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "IQ3_XXS", "IQ2_M")


def row(model: str, label: str, kld: float, mix: str | None = None) -> Measurement:
    return Measurement(model=model, label=label, source=f"of {model}", mix=mix, kld_mean=kld)


def here(label: str) -> float:
    return known(label).kld


@given(st.floats(0.3, 3), st.floats(0.01, 100), st.floats(0.003, 3), st.randoms())
def test_a_power_law_between_two_models_is_found(
    slope: float, factor: float, kld: float, chance: random.Random
) -> None:
    rows = [row("here", label, here(label)) for label in LADDER]
    rows += [row("there", label, factor * here(label) ** slope) for label in LADDER[1:5]]
    rows += [row("there", "UD-Q3_K_XL", factor * kld**slope)]
    # A series that shares scaled labels alone joins them to the scale.
    rows += [row("afar", f"UD-{label}", here(label)) for label in LADDER[4:6]]
    rows += [row("afar", "UD-Q3_K_XL", kld), row("afar", "UD-IQ1_M", 1.5)]
    rows += [row("there", f"UD-{label}", factor * here(label) ** slope) for label in LADDER[4:6]]
    chance.shuffle(rows)
    table = QualityTable("here", tuple(rows), ())
    assert known("UD-Q3_K_XL", table).kld == pytest.approx(kld, rel=0.01)
    assert known("UD-Q3_K_XL", table).basis is Basis.SCALED
    assert known("UD-IQ1_M", table).kld == pytest.approx(1.5, rel=0.05)
    assert known("UD-IQ1_M", table).model == "afar"


@pytest.mark.parametrize(
    ("third", "told"),
    [
        (row("there", "Q3_K_M", 0.04), True),
        (row("there", "Q3_K_M", 0.04, mix="his own"), False),
        (row("there", "Q4_0", 0.04), False),
        (row("there", "Q8_0", 0.04), False),
        (row("there", "Q8_K_XL", 0.04), False),
        (row("elsewhere", "Q3_K_M", 0.04), False),
    ],
    ids=["three shared labels", "own mix", "legacy", "noise", "noise of K", "another model"],
)
def test_three_sound_labels_make_a_scale(third: Measurement, *, told: bool) -> None:
    labels = ("Q6_K", "Q4_K_M", "Q3_K_M", "Q4_0", "Q8_0", "Q8_K_XL")
    rows = [row("here", label, here(label)) for label in labels]
    rows += [row("there", "Q6_K", 0.003), row("there", "Q4_K_M", 0.01), third]
    table = QualityTable("here", (*rows, row("there", "UD-IQ2_M", 0.1)), ())
    assert (quality_of("UD-IQ2_M", table) is not None) is told


def test_scaling_tells_what_the_reference_model_measured() -> None:
    """Each measured label that other models share, told from them alone."""
    factors = []
    for label in {row.label for row in TABLE.measurements if row.model == TABLE.reference}:
        kept = [r for r in TABLE.measurements if (r.model, r.label) != (TABLE.reference, label)]
        told = quality_of(label, TABLE._replace(measurements=tuple(kept)))
        sound = family_of(label) in {Family.K, Family.I}
        if sound and told is not None and told.basis is Basis.SCALED:
            factors.append(max(told.kld / here(label), here(label) / told.kld))
    assert len(factors) == 11
    assert statistics.median(factors) < 1.04
    assert max(factors) < 1.09


def test_interpolation_lies_between_the_neighbours_in_bits() -> None:
    bits = dict(TABLE.bits_per_weight)
    for label in ("Q2_K_M", "Q4_K_L", "Q5_K_L", "Q6_K_L", "Q6_K_M"):
        assert known(label).basis is Basis.INTERPOLATED
    low, middle, high = (bits[label] for label in ("Q4_K_M", "Q4_K_L", "Q5_K_S"))
    share = (middle - low) / (high - low)
    expected = here("Q4_K_M") ** (1 - share) * here("Q5_K_S") ** share
    assert here("Q4_K_L") == pytest.approx(expected)
    assert here("Q6_K") > here("Q6_K_M") > here("Q6_K_L") > here("Q8_0")


def test_ranks_are_the_order_of_the_loss() -> None:
    by_rank = sorted(REFERENCE.quants.values(), key=lambda info: info.rank)
    assert [info.rank for info in by_rank] == list(range(1, len(by_rank) + 1))
    assert {info.label for info in by_rank[:3]} == {"F32", "BF16", "F16"}
    assert {info.label for info in by_rank[-2:]} == {"TQ1_0", "TQ2_0"}
    told = [info.kld for info in by_rank[3:] if info.kld is not None]
    assert told == sorted(told)
    assert {info.label for info in by_rank[3:-2] if info.kld is None} == {"MXFP4", "UD-TQ1_0"}
    names = [info.label for info in by_rank]
    for better, worse in (("Q8_0", "Q8_K_XL"), ("Q6_K_XL", "Q6_K"), ("IQ3_XXS", "Q3_K_S")):
        assert names.index(better) < names.index(worse)


def edit(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    shutil.copytree(catalog_dir() / "reference", folder / "reference")
    path = folder / "reference" / "quality.json"
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["measurements"][3].pop("model"), "row 4: model is missing"),
        (lambda d: d["measurements"][3].update(source="hearsay"), "row 4, sources: hearsay is"),
        (lambda d: d["measurements"][3].update(kld_mean="0.1"), "row 4: kld_mean is not a number"),
        (lambda d: d["measurements"][3].update(kld_mean=-1), "row 4: kld_mean is not a number"),
        (lambda d: d["measurements"][3].update(kdl_mean=1), "row 4: kdl_mean is not a field"),
        (lambda d: d["bits_per_weight"].update(Q8_0=0), "Q8_0 is not a number above zero"),
        (lambda d: d.pop("reference"), "reference is missing"),
    ],
)
def test_a_broken_row_is_named(
    change: Callable[[dict[str, Any]], object],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edit(change, tmp_path)
    monkeypatch.setenv(CATALOG_VARIABLE, str(tmp_path))
    with pytest.raises(IntegrityError) as caught:
        load_quality()
    assert "reference/quality.json" in caught.value.message
    assert words in caught.value.message
