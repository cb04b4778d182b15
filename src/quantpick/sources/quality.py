"""The table of published quality measurements, read and checked row by row."""

from __future__ import annotations

from typing import Any

from quantpick.domain.quality import Measurement, QualityTable
from quantpick.sources.rows import broken, optional, read_document, rows_of, text_of, typed

_NAME = "reference/quality.json"

_FIGURES = (
    "size_gib",
    "size_gb",
    "bpw",
    "ppl",
    "kld_mean",
    "kld_median",
    "kld_p99",
    "kld_p999",
    "rms_dp_pct",
    "same_top_pct",
    "ctx_size",
    "cpu_avx2_s",
)


def load_quality() -> QualityTable:
    """Read the measurements. Raises IntegrityError on a broken file or row."""
    document = read_document(_NAME)
    sources = typed(document, "sources", dict, _NAME)
    bits = typed(document, "bits_per_weight", dict, _NAME)
    rows = rows_of(document, _NAME, "measurements")
    return QualityTable(
        reference=text_of(document, "reference", _NAME),
        measurements=tuple(_measurement(row, sources, where) for where, row in rows),
        bits_per_weight=tuple((label, _figure(bits, label, _NAME)) for label in bits),
    )


def _measurement(row: dict[str, Any], sources: dict[str, Any], where: str) -> Measurement:
    unknown = row.keys() - set(Measurement._fields)
    if unknown:
        broken(where, f"{min(unknown)} is not a field of a measurement")
    key = text_of(row, "source", where)
    return Measurement(
        model=text_of(row, "model", where),
        label=text_of(row, "label", where),
        source=text_of(sources, key, f"{where}, sources"),
        quantizer=optional(row, "quantizer", str, where),
        mix=optional(row, "mix", str, where),
        imatrix=optional(row, "imatrix", bool, where),
        matrix=optional(row, "matrix", str, where),
        **{field: _figure(row, field, where) for field in _FIGURES if field in row},
    )


def _figure(row: dict[str, Any], field: str, where: str) -> float:
    """Return a number above zero."""
    value = row[field]
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        broken(where, f"{field} is not a number above zero")
    return float(value)
