"""The order of verdicts: what fits first, by quality, with the backend's K-or-I rule on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.compatibility import doubtful_since, float_note
from quantpick.domain.judge import FOUR_BITS, I_QUANTS_FAST, I_QUANTS_SLOW
from quantpick.domain.need import FamilyChoice, Objective
from quantpick.domain.quant import Family
from quantpick.domain.verdict import Placement, Reason, ReasonCode, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from quantpick.domain.judge import Case
    from quantpick.domain.model import QuantFile, QuantInfo

    Key: TypeAlias = tuple[int | str, ...]

#: A K-quant does not wait for an I-quant that loses more than so many times as much: I-quants are
#: better for their size, which tells nothing of a K-quant half as large again.
_CLEARLY = 1.5

#: "The K-quant of its size" is the nearest one within this share of the file's size.
_SAME_SIZE = 0.10


def ordered(verdicts: Iterable[Verdict], case: Case) -> tuple[Verdict, ...]:
    """Return the verdicts best first; the result does not depend on their order before."""
    order = quality_order(case)
    return tuple(sorted(verdicts, key=lambda verdict: _key(verdict, case, order)))


def with_trade_off(pick: Verdict, verdicts: Sequence[Verdict], case: Case) -> Verdict:
    """Name the other family's quant of the pick's size, where the two trade speed for quality."""
    other = {Family.I: Family.K, Family.K: Family.I}.get(pick.file.family)
    if other is None or case.host.backend not in I_QUANTS_SLOW:
        return pick
    rivals = [v for v in verdicts if v.file.family is other and _rivals(v, pick, case)]
    if not rivals:
        return pick
    size = pick.file.file_bytes
    rival = min(rivals, key=lambda v: (abs(v.file.file_bytes - size), v.file.label)).file
    code = ReasonCode.K_FOR_SPEED if other is Family.K else ReasonCode.I_FOR_QUALITY
    trade_off = Reason(code, {"label": rival.label, "file_bytes": rival.file_bytes})
    return pick._replace(reasons=(*pick.reasons, trade_off))


def nearest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the verdict that would need the least memory among those that can run at all."""
    able = [
        verdict
        for verdict in verdicts
        if verdict.placement is not Placement.INCOMPATIBLE
        and not has_reason(verdict, ReasonCode.FAMILY_EXCLUDED)
    ]
    return min(able, key=lambda v: (v.memory.total, v.repo_id, v.file.label), default=None)


def has_reason(verdict: Verdict, code: ReasonCode) -> bool:
    """Whether a verdict carries a reason."""
    return any(reason.code is code for reason in verdict.reasons)


def best_first(case: Case) -> tuple[QuantFile, ...]:
    """Return the model's quants in the order in which the first that fits is the pick."""
    known = [file for file in case.model.files if case.info(file)]
    return tuple(sorted(known, key=quality_order(case)))


def quality_order(case: Case) -> Callable[[QuantFile], Key]:
    """Return the sort key of quants that fit: by what they lose, with the K-or-I rule on top.

    F16, BF16 and F32 come after the quants: twice the bytes of Q8_0 and more, for a difference
    that measures 0.0014 in mean KL divergence. Last is one whose type the device computes slowly.
    """
    preferred = _infos_of_the_preferred(case)

    def key(file: QuantFile) -> Key:
        note = float_note(file, case.host)
        slow = note is not None and note.code is ReasonCode.FLOAT_SLOW
        original = (file.family is Family.FLOAT) + slow
        rank, info = quality_rank(file, case), case.info(file)
        behind = _behind(file, info, preferred) if info and _yields(file, info, case) else 0
        place = max(rank, behind), int(behind > 0)
        return original, int(_slow_i(file, case)), *place, rank, -file.file_bytes, file.label

    return key


def quality_rank(file: QuantFile, case: Case) -> int:
    """Return the place of a quant's label by what it loses, 1 the best.

    A mixer's label may have a place of its own (UD-IQ2_M). A local file whose label is in no table
    comes after those of as many bits.
    """
    known = case.reference.info(file.label)
    if known is not None:
        return known.rank
    info = case.info(file)
    bits = info.bits if info else 0
    labels = case.reference.quants.values()
    return max((other.rank for other in labels if other.bits >= bits), default=0)


def _key(verdict: Verdict, case: Case, order: Callable[[QuantFile], Key]) -> Key:
    """Sort key, best first: what fits by quality, the rest by the memory it needs."""
    if not verdict.fits or case.info(verdict.file) is None:
        blocked = verdict.placement is Placement.INCOMPATIBLE
        return (1, int(blocked), verdict.memory.total, verdict.file.label)
    return (0, *order(verdict.file))


def _slow_i(file: QuantFile, case: Case) -> bool:
    """Whether all K-quants come before this: an I-quant on CPU or Metal, for speed."""
    return (
        case.need.family is FamilyChoice.AUTO
        and file.family is Family.I
        and case.host.backend in I_QUANTS_SLOW
        and case.rule.objective is Objective.SPEED
    )


def _preferred(case: Case) -> Family | None:
    """Return the family that comes first at equal bits, None where quality alone decides.

    CUDA and ROCm: I-quants (below 4 bits). A backend or build in doubt: K-quants.
    """
    backend = case.host.backend
    if case.need.family is not FamilyChoice.AUTO or backend in I_QUANTS_SLOW:
        return None
    if backend in I_QUANTS_FAST:
        return Family.I
    return Family.K if backend is None or case.build is None else None


def _yields(file: QuantFile, info: QuantInfo, case: Case) -> bool:
    """Whether a quant comes after those of the preferred family with as many bits."""
    preferred, is_i, backend = _preferred(case), file.family is Family.I, case.host.backend
    if preferred is Family.I:
        return info.bits < FOUR_BITS and not is_i
    if preferred is None or not is_i:
        return False
    doubtful = doubtful_since(info, backend, case.build, case.reference)
    return backend is None or doubtful is not None


def _behind(file: QuantFile, info: QuantInfo, preferred: Sequence[QuantInfo]) -> int:
    """Return the worst rank of the preferred quants that come before this one, 0 for none."""
    in_doubt = file.family is Family.I
    first = [
        other.rank
        for other in preferred
        if other.bits == info.bits and (in_doubt or not _clearly_better(info, other))
    ]
    return max(first, default=0)


def _clearly_better(info: QuantInfo, other: QuantInfo) -> bool:
    return None not in {info.kld, other.kld} and _CLEARLY * (info.kld or 0) < (other.kld or 0)


def _infos_of_the_preferred(case: Case) -> list[QuantInfo]:
    """Return what is known of the model's quants of the preferred family, ranked for this model."""
    preferred = _preferred(case)
    files = [file for file in case.model.files if preferred and file.family is preferred]
    pairs = [(case.info(file), quality_rank(file, case)) for file in files]
    return [info._replace(rank=rank) for info, rank in pairs if info is not None]


def _rivals(verdict: Verdict, pick: Verdict, case: Case) -> bool:
    """Whether a verdict offers what the pick does not, at its size: speed, or better quality."""
    size = pick.file.file_bytes
    same_size = abs(verdict.file.file_bytes - size) <= _SAME_SIZE * size
    faster = verdict.file.family is Family.K
    better = quality_rank(verdict.file, case) < quality_rank(pick.file, case)
    return verdict.fits and same_size and (faster or better)
