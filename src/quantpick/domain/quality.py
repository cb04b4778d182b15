"""How much a quant loses: published measurements, put on the scale of one reference model.

Every figure is the mean KL divergence (kld) of a quant's tokens from those of the original in 16
bits: 0 is the original, 0.03 good, 1 broken. It is on the scale of the reference model, and says
whether it was measured there, scaled from other models, or interpolated.
"""

from __future__ import annotations

from collections import defaultdict
from enum import StrEnum
from functools import cache
from itertools import pairwise
from math import exp, log
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.quant import Family, base_label, family_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Names of the same bytes: an old spelling, and a type that llama.cpp now makes as it loads.
_SAME = {
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    **dict.fromkeys(("Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8"), "Q4_0"),
}

#: Mixes that give some tensors of another label more bits, and so are at least as good.
_EXTENDS = {
    "Q8_K_XL": "Q8_0",
    "Q8_0_L": "Q8_0",
    "BF16_Q8_0": "Q8_0",
    "F16_Q8_0": "Q8_0",
    "Q6_K_XL": "Q6_K",
    "Q6_K_M": "Q6_K",
    "Q6_K_L": "Q6_K",
    "Q5_K_XL": "Q5_K_M",
    "Q5_K_L": "Q5_K_M",
    "Q4_K_XL": "Q4_K_M",
    "Q4_K_L": "Q4_K_M",
    "Q3_K_XL": "Q3_K_L",
    "Q2_K_XL": "Q2_K",
    "Q2_K_L": "Q2_K",
}

#: Families whose quants lie on one curve of loss over bits; Q8_0 and F16 end each of them.
_CURVES = frozenset({Family.K, Family.I, Family.LEGACY})
_ENDS = ("Q8_0", "F16")

#: A line through fewer labels than this says nothing of others.
_ENOUGH_SHARED = 3

#: The estimates of a label settle after some ten rounds; no data makes it more than this.
_ROUNDS = 60
_SETTLED = 1e-4


class Measurement(NamedTuple):
    """One published row; None for what it does not state.

    ``mix`` names an author's own recipe behind a label that usually means another, ``matrix`` the
    text of the importance matrix. Figures have the names and units of llama-perplexity.
    """

    model: str
    label: str
    source: str
    quantizer: str | None = None
    mix: str | None = None
    imatrix: bool | None = None
    matrix: str | None = None
    size_gib: float | None = None
    size_gb: float | None = None
    bpw: float | None = None
    ppl: float | None = None
    kld_mean: float | None = None
    kld_median: float | None = None
    kld_p99: float | None = None
    kld_p999: float | None = None
    rms_dp_pct: float | None = None
    same_top_pct: float | None = None
    ctx_size: float | None = None
    cpu_avx2_s: float | None = None


class QualityTable(NamedTuple):
    """All measurements, the model whose scale counts, and the usual bits per weight by label."""

    reference: str
    measurements: tuple[Measurement, ...]
    bits_per_weight: tuple[tuple[str, float], ...]


class Basis(StrEnum):
    """What a figure rests on."""

    MEASURED = "measured"
    SCALED = "scaled"
    INTERPOLATED = "interpolated"
    #: Taken from the label that this one varies.
    VARIED = "varied"


class Quality(NamedTuple):
    """What a label loses, on the scale of the reference model.

    ``model`` is what was measured, ``label`` what the figure was found under; both can differ from
    what was asked for. The rest is of the same measurement, None where it was not made there.
    """

    kld: float
    basis: Basis
    label: str
    model: str
    source: str
    reference: str
    ppl: float | None = None
    original_ppl: float | None = None
    same_top_pct: float | None = None

    @property
    def measured(self) -> bool:
        """Whether this very label was measured on the reference model."""
        return self.basis is Basis.MEASURED


def quality_of(label: str, table: QualityTable) -> Quality | None:
    """Return what a label loses, None where nothing tells.

    1. Measured on the reference model: its best row.
    2. Measured on other models: each series of measurements (one model, one source) is put on the
       reference scale by a straight line between the logarithms of kld there and here, least
       squares over the labels known on both. Only K- and I-quants below 8 bits count for the line,
       three at least: above, the figures are noise, and legacy types are made with a matrix here
       and without there. A label found this way joins the next line; rounds until nothing moves,
       and a label of several series gets the mean of its logarithms. Authors' own mixes are left
       out.
    3. Not measured: a straight line between its neighbours in bits per weight, again on the
       logarithm of kld, among the measured labels of its family.
    4. Else what the label it varies has (UD-Q4_K_M as Q4_K_M). A mix that only adds bits to
       another label is never worse than that one.
    """
    name = label.removeprefix("i1-")
    name = _SAME.get(name, name)
    base = base_label(name)
    found = _own(name, table)
    if found is None and name.endswith("_XL"):
        # Q4_K_XL is a name of Unsloth's mixes, whose files say UD-Q4_K_XL.
        found = _own(f"UD-{name}", table)
    varied = _own(_SAME.get(base, base), table) if found is None else None
    least = _own(_EXTENDS.get(base, ""), table)
    if found is None or (least is not None and least.kld < found.kld):
        found = min(filter(None, (varied, least)), key=lambda quality: quality.kld, default=None)
        return found and found._replace(basis=Basis.VARIED)
    return found


def measurements_of(label: str, table: QualityTable) -> tuple[Measurement, ...]:
    """Return every published row of a label, on any model and in any mix, as published."""
    name = label.removeprefix("i1-")
    names = {name, _SAME.get(name, name)}
    return tuple(row for row in table.measurements if row.label in names)


def quality_record(quality: Quality | None) -> dict[str, Any] | None:
    """Return a quality for a document: its figures, and ``measured`` beside what they rest on."""
    return quality and {**quality._asdict(), "measured": quality.measured}


def _own(label: str, table: QualityTable) -> Quality | None:
    """Return what is known under this very label."""
    measured = _measured(table).get(label)
    if measured is not None:
        return measured
    return _scaled(table).get(label) or _interpolated(label, table)


@cache
def _measured(table: QualityTable) -> Mapping[str, Quality]:
    """Return the best row of each label on the reference model."""
    rows = [(r.kld_mean, r) for r in table.measurements if r.kld_mean and _is_reference(r, table)]
    original = next((row.ppl for _, row in rows if row.label == "F16"), None)
    best: dict[str, Quality] = {}
    for kld, row in sorted(rows, key=lambda pair: pair[0]):
        figures = (kld, Basis.MEASURED, row.label, row.model, row.source, table.reference)
        best.setdefault(row.label, Quality(*figures, row.ppl, original, row.same_top_pct))
    return best


def _is_reference(row: Measurement, table: QualityTable) -> bool:
    return row.model == table.reference and row.mix is None


@cache
def _scaled(table: QualityTable) -> Mapping[str, Quality]:
    """Return labels measured on other models only, as step 2 of ``quality_of`` says."""
    measured = {label: log(quality.kld) for label, quality in _measured(table).items()}
    series, known = _series(table), measured
    for _ in range(_ROUNDS):
        told = _told(series, known)
        means = {
            label: sum(by.values()) / len(by) for label, by in told.items() if label not in measured
        }
        moved = max((abs(known.get(at, 0.0) - mean) for at, mean in means.items()), default=0.0)
        known = means | measured
        if moved < _SETTLED:
            break
    qualities = {}
    for label, mean in means.items():
        models = ", ".join(dict.fromkeys(model for model, _ in told[label]))
        sources = "; ".join(dict.fromkeys(source for _, source in told[label]))
        figures = (exp(mean), Basis.SCALED, label, models, sources, table.reference)
        qualities[label] = Quality(*figures)
    return qualities


def _series(table: QualityTable) -> dict[tuple[str, str], dict[str, float]]:
    """Return the mean logarithm of kld by label, for each model and source but the reference."""
    logs: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in table.measurements:
        if row.kld_mean and row.mix is None and row.model != table.reference:
            logs[row.model, row.source][row.label].append(log(row.kld_mean))
    return {
        key: {label: sum(values) / len(values) for label, values in labels.items()}
        for key, labels in logs.items()
    }


def _told(
    series: Mapping[tuple[str, str], Mapping[str, float]], known: Mapping[str, float]
) -> dict[str, dict[tuple[str, str], float]]:
    """Return what each series says of each of its labels, on the reference scale."""
    told: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for key, figures in series.items():
        shared = [label for label in figures if label in known and _counts(label)]
        if len(shared) >= _ENOUGH_SHARED:
            slope, at_zero = _line((figures[label], known[label]) for label in shared)
            for label, value in figures.items():
                told[label][key] = at_zero + slope * value
    return told


def _counts(label: str) -> bool:
    """Whether a label's figure is a sound point of a line."""
    return family_of(label) in {Family.K, Family.I} and not base_label(label).startswith("Q8")


def _line(points: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and height at zero of the least-squares line through points."""
    pairs = list(points)
    middle = sum(x for x, _ in pairs) / len(pairs)
    height = sum(y for _, y in pairs) / len(pairs)
    spread = sum((x - middle) ** 2 for x, _ in pairs)
    slope = sum((x - middle) * (y - height) for x, y in pairs) / spread if spread else 1.0
    return slope, height - slope * middle


def _interpolated(label: str, table: QualityTable) -> Quality | None:
    """Return a label's place between its neighbours, as step 3 of ``quality_of`` says."""
    family, bits = family_of(label), dict(table.bits_per_weight)
    at = bits.get(label)
    if at is None or family not in _CURVES:
        return None
    curve = sorted(
        (bits[name], log(quality.kld))
        for name, quality in _measured(table).items()
        if name in bits and (name in _ENDS or family_of(name) is family)
    )
    for (low, above), (high, below) in pairwise(curve):
        if low <= at <= high and low < high:
            kld = exp(above + (below - above) * (at - low) / (high - low))
            source = "interpolated by bits per weight"
            figures = (kld, Basis.INTERPOLATED, label, table.reference, source, table.reference)
            return Quality(*figures)
    return None
