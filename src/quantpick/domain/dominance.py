"""Quants that another one beats in size and quality alike, and those that lose too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.quant import Family, base_label
from quantpick.domain.rank import quality_order, quality_rank
from quantpick.domain.verdict import Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quantpick.domain.judge import Case
    from quantpick.domain.model import Reference
    from quantpick.domain.verdict import Verdict

#: Families whose quality can be compared whatever the model. What the others lose depends on
#: whether the model was trained in their type, and the originals lose nothing.
_COMPARABLE = frozenset({Family.K, Family.I, Family.LEGACY})

#: Labels below 2.5 bits a weight, and the one that they are compared with.
_ULTRA_LOW = ("IQ1_", "IQ2_XXS", "IQ2_XS", "TQ")
_USUAL = "Q4_K_M"


def with_quality_notes(verdicts: Iterable[Verdict], case: Case) -> tuple[Verdict, ...]:
    """Add to each verdict that fits: the warning of too few bits, and what dominates it."""
    warned = [
        _with(verdict, warning_of(verdict.file.label, case.reference)) for verdict in verdicts
    ]
    return with_dominance(warned, case)


def warning_of(label: str, reference: Reference) -> Reason | None:
    """Return the warning that goes with a quant below 2.5 bits a weight, with its figure."""
    if not base_label(label).startswith(_ULTRA_LOW):
        return None
    info = reference.info(label)
    usual = reference.info(_USUAL)
    return Reason(
        ReasonCode.ULTRA_LOW_BIT,
        {
            "label": info.label if info else label,
            "kld": _short(info.kld if info else None),
            "usual": _USUAL,
            "usual_kld": _short(usual.kld if usual else None),
        },
    )


def with_dominance(verdicts: Sequence[Verdict], case: Case) -> tuple[Verdict, ...]:
    """Name beside each quant that fits the best one of better quality that is no larger.

    A better quant that the K-or-I rule puts behind does not count: it is slower here, or may be.
    """
    order = quality_order(case)
    rivals = [
        (quality_rank(verdict.file, case), order(verdict.file), verdict.file)
        for verdict in verdicts
        if verdict.fits
        and verdict.file.family in _COMPARABLE
        # A label in no table is known by its bits alone.
        and case.reference.info(verdict.file.label) is not None
    ]
    reasons: dict[tuple[str, ...], Reason] = {}
    for rank, key, file in rivals:
        beaten_by = [
            (its_rank, its_key, other)
            for its_rank, its_key, other in rivals
            if other.file_bytes <= file.file_bytes and its_rank < rank and its_key < key
        ]
        if beaten_by:
            winner = min(beaten_by, key=lambda rival: rival[:2])[2]
            figures: dict[str, int | str] = {"label": winner.label, "file_bytes": winner.file_bytes}
            reasons[file.paths] = Reason(ReasonCode.DOMINATED, figures)
    return tuple(_with(verdict, reasons.get(verdict.file.paths)) for verdict in verdicts)


def _with(verdict: Verdict, reason: Reason | None) -> Verdict:
    if reason is None or not verdict.fits:
        return verdict
    return verdict._replace(reasons=(*verdict.reasons, reason))


def _short(kld: float | None) -> str:
    return "not known" if kld is None else f"{kld:.2g}"
