"""What to change when the wanted context does not fit: the cheapest change that makes room.

Cheapest is what takes the least away: first the cache at half its size (q8_0), then a smaller
quant, then fewer tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from quantpick.domain.judge import judge
from quantpick.domain.need import CacheType
from quantpick.domain.verdict import Pool, Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from quantpick.domain.judge import Case
    from quantpick.domain.model import QuantFile
    from quantpick.domain.verdict import Verdict

#: Cells of a cache come in blocks of this many tokens.
_STEP = 256

#: Tokens to look up to where a model does not state the context it was trained for.
_UNSTATED = 2**20


def cheapest_change(verdict: Verdict, verdicts: Iterable[Verdict], case: Case) -> Reason | None:
    """Return the cheapest change after which this quant, or a smaller one, fits; None without one.

    ``verdicts`` are all of the answer, best first.
    """
    return (
        _smaller_cache(verdict.file, case)
        or _smaller_quant(verdict.file, verdicts)
        or _fewer_tokens(verdict.file, case)
    )


def largest_ctx(file: QuantFile, case: Case) -> int | None:
    """Return the largest context, in tokens, with which a quant still runs whole in one place.

    That is on the GPU, or in RAM without one; never more than the model was trained for. None
    where not even the smallest cache fits, the quant cannot run here at all, or the model's shape
    is unknown.
    """
    return _largest(case, lambda wider: _runs_whole(file, wider))


def _largest(case: Case, fits: Callable[[Case], bool]) -> int | None:
    """Return the largest context for which the case still ``fits``, None where none does."""
    shape = case.model.shape
    if shape is None:
        return None
    most = shape.context_length or _UNSTATED

    def too_large(steps: int) -> bool:
        return not fits(case._replace(need=case.need._replace(ctx_size=steps * _STEP)))

    steps = bisect_left(range(1, -(-most // _STEP) + 1), x=True, key=too_large)
    return min(steps * _STEP, most) if steps else None


def _runs_whole(file: QuantFile, case: Case) -> bool:
    """Whether all of a quant runs in the fastest place, whatever the rule asked for."""
    pool = Pool.VRAM if case.host.devices else Pool.RAM
    return judge(file, case._replace(rule=case.rule._replace(pool=pool))).fits


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
    ctx_size = _largest(case, lambda wider: judge(file, wider).fits)
    if ctx_size is None or ctx_size >= case.need.ctx_size:
        return None
    return Reason(ReasonCode.FEWER_TOKENS, {"ctx_size": ctx_size})
