"""How fast each judged quant would answer, and the choice that trades speed and quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.compatibility import main_label
from quantpick.domain.judge import weights_in
from quantpick.domain.need import Objective
from quantpick.domain.rank import has_reason
from quantpick.domain.speed import Run, Trade, balanced, predict, why_unknown
from quantpick.domain.verdict import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.judge import Case
    from quantpick.domain.verdict import Verdict

#: Stands for the loss of a quant whose quality nobody can tell: more than any that one can.
_UNTOLD = 10.0

#: A token of an I-quant takes so much longer where they are slow, for bytes alone would tell the
#: reverse: on a CPU IQ3_M writes half as fast as the larger Q3_K_M (reference/backends.json).
_SLOWER = 2


def with_speed(verdict: Verdict, case: Case) -> Verdict:
    """Return a verdict that fits with its predicted speed, or with why there is none."""
    table = case.reference.speeds
    if not verdict.fits or table is None:
        return verdict
    weights = weights_in(verdict.file, case.model.shape)
    devices = case.host.devices
    label = main_label(verdict.file.label, case.model.shape)
    run = Run(weights, case.model.shape, label, devices, verdict.split)
    unknown = why_unknown(run, table)
    if unknown is not None:
        return verdict._replace(speed_unknown=unknown)
    return verdict._replace(speed=predict(run, table))


def with_balance(verdicts: Sequence[Verdict], case: Case) -> tuple[Verdict, ...]:
    """Return the verdicts with the balanced one first, where balance is asked for.

    One that another beats in size and quality alike is left out, however fast.
    """
    fitting = [v for v in verdicts if v.fits and not has_reason(v, ReasonCode.DOMINATED)]
    if case.rule.objective is not Objective.BALANCED or not fitting:
        return tuple(verdicts)
    chosen = fitting[balanced([_trade(verdict, case) for verdict in fitting])]
    return (chosen, *(verdict for verdict in verdicts if verdict is not chosen))


def _trade(verdict: Verdict, case: Case) -> Trade:
    info = case.info(verdict.file)
    kld = info.kld if info and info.kld is not None else _UNTOLD
    speed = verdict.speed.tokens_per_second if verdict.speed else None
    slower = _SLOWER if has_reason(verdict, ReasonCode.I_QUANT_SLOW) else 1
    return Trade(speed, kld, slower * verdict.file.file_bytes)
