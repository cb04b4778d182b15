"""What to change when the wanted context does not fit: the cheapest change that makes room.

Cheapest is what takes the least away: first the cache at half its size (q8_0), then a smaller
quant, then fewer tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.judge import judge, lay_out_in
from quantpick.domain.need import CacheType
from quantpick.domain.units import format_gb
from quantpick.domain.verdict import Placement, Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantpick.domain.judge import Case
    from quantpick.domain.model import QuantFile
    from quantpick.domain.verdict import Verdict

#: Cells of a cache come in blocks of this many tokens.
_STEP = 256


def cheapest_change(verdict: Verdict, verdicts: Iterable[Verdict], case: Case) -> Reason | None:
    """Return the cheapest change after which this quant, or a smaller one, fits; None without one.

    ``verdicts`` are all of the answer, best first.
    """
    return (
        _smaller_cache(verdict.file, case)
        or _smaller_quant(verdict.file, verdicts)
        or _fewer_tokens(verdict.file, case)
    )


def advice(change: Reason) -> str:
    """Return a change as a line that says what to do and what it gives."""
    figures = change.figures
    if change.code is ReasonCode.SMALLER_CACHE:
        flags = "--cache-type-k q8_0 --cache-type-v q8_0"
        return f"with {flags} it needs {format_gb(int(figures['needs']))} and fits"
    if change.code is ReasonCode.SMALLER_QUANT:
        return f"{figures['label']} needs {format_gb(int(figures['needs']))} and fits"
    return f"it fits with --ctx-size {figures['ctx_size']}"


def largest_ctx(file: QuantFile, case: Case) -> int | None:
    """Return the largest context, in tokens, with which a quant still runs whole in one place.

    That is on the GPU, or in RAM without one; never more than the model was trained for. None
    where not even the smallest cache fits, or the model's shape is unknown.
    """
    shape = case.model.shape
    if shape is None or shape.context_length <= 0:
        return None
    low, high = 0, -(-shape.context_length // _STEP)
    while low < high:
        middle = (low + high + 1) // 2
        if _runs_whole(file, case, middle * _STEP):
            low = middle
        else:
            high = middle - 1
    return min(low * _STEP, shape.context_length) if low else None


def _runs_whole(file: QuantFile, case: Case, ctx_size: int) -> bool:
    need = case.need._replace(ctx_size=ctx_size)
    layout = lay_out_in(file, case._replace(need=need))
    return layout.placement in {Placement.FULL_OFFLOAD, Placement.CPU} and layout.short_by <= 0


def _smaller_cache(file: QuantFile, case: Case) -> Reason | None:
    if case.need.type_k.quantized or case.need.type_v.quantized or not case.need.fused:
        return None
    need = case.need._replace(type_k=CacheType.Q8_0, type_v=CacheType.Q8_0)
    changed = judge(file, case._replace(need=need))
    if not changed.fits:
        return None
    return Reason(ReasonCode.SMALLER_CACHE, {"needs": changed.memory.total})


def _smaller_quant(file: QuantFile, verdicts: Iterable[Verdict]) -> Reason | None:
    for other in verdicts:
        if other.fits and other.file.file_bytes < file.file_bytes:
            return Reason(
                ReasonCode.SMALLER_QUANT,
                {"label": other.file.label, "needs": other.memory.total},
            )
    return None


def _fewer_tokens(file: QuantFile, case: Case) -> Reason | None:
    ctx_size = largest_ctx(file, case)
    if ctx_size is None or ctx_size >= case.need.ctx_size:
        return None
    return Reason(ReasonCode.FEWER_TOKENS, {"ctx_size": ctx_size})
