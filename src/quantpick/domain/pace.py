"""How fast each judged quant would answer, and the choice that trades speed and quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.judge import weights_in
from quantpick.domain.need import Objective
from quantpick.domain.speed import Run, Trade, balanced, predict, why_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.judge import Case
    from quantpick.domain.verdict import Verdict

#: Stands for the loss of a quant whose quality nobody can tell: more than any that one can.
_UNTOLD = 10.0


def with_speed(verdict: Verdict, case: Case) -> Verdict:
    """Return a verdict that fits with its predicted speed, or with why there is none."""
    table = case.reference.speeds
    if not verdict.fits or table is None:
        return verdict
    weights = weights_in(verdict.file, case.model.shape)
    devices = case.host.devices
    run = Run(weights, case.model.shape, verdict.file.label, devices, verdict.split)
    unknown = why_unknown(run, table)
    if unknown is not None:
        return verdict._replace(speed_unknown=unknown)
    return verdict._replace(speed=predict(run, table))


def with_balance(verdicts: Sequence[Verdict], case: Case) -> tuple[Verdict, ...]:
    """Return the verdicts with the balanced one first, where balance is asked for."""
    fitting = [verdict for verdict in verdicts if verdict.fits]
    if case.rule.objective is not Objective.BALANCED or not fitting:
        return tuple(verdicts)
    chosen = fitting[balanced([_trade(verdict, case) for verdict in fitting])]
    return (chosen, *(verdict for verdict in verdicts if verdict is not chosen))


def _trade(verdict: Verdict, case: Case) -> Trade:
    info = case.info(verdict.file)
    kld = info.kld if info and info.kld is not None else _UNTOLD
    speed = verdict.speed.tokens_per_second if verdict.speed else None
    return Trade(speed, kld, verdict.file.file_bytes)
