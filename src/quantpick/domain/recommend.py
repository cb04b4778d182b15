"""The decision: choose the rule, judge every quant under it, pick the best.

Speed wants everything on the GPU, quality takes GPU and RAM together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.dominance import with_quality_notes
from quantpick.domain.host import Caveat
from quantpick.domain.judge import Case, judge, lay_out_in
from quantpick.domain.need import Objective
from quantpick.domain.pace import with_balance, with_speed
from quantpick.domain.rank import best_first, has_reason, nearest, ordered, with_trade_off
from quantpick.domain.verdict import Placement, Pool, ReasonCode, Recommendation, Rule, Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.host import Host
    from quantpick.domain.model import Model, Reference
    from quantpick.domain.need import Need
    from quantpick.domain.placement import Layout
    from quantpick.domain.verdict import Reason, Verdict


#: Below this many bits a quant is taken for its speed alone.
FAIR_BITS = 3

#: Reasons against a quant that less memory for its context can take away.
_CHANGEABLE = (
    ReasonCode.CONTEXT_TOO_LARGE,
    ReasonCode.FILE_TOO_LARGE,
    ReasonCode.CACHE_TOO_LARGE,
)


def recommend(
    model: Model, host: Host, need: Need, reference: Reference, tried: Sequence[Rule] = ()
) -> Recommendation:
    """Judge every quant of one model and pick one, under the first rule that a quant fits.

    ``tried`` are the rules to try, those of the need's objective unless given.
    """
    layouts: list[Layout] = []
    for rule in tried or rules(need.objective, host):
        case = Case(model, host, need, rule, reference)
        # Where a quant would run is the same under every rule.
        layouts = layouts or [lay_out_in(file, case) for file in model.files]
        pairs = zip(model.files, layouts, strict=True)
        verdicts = ordered((judge(file, case, layout) for file, layout in pairs), case)
        if any(verdict.fits for verdict in verdicts):
            break
    if need.max_ctx:
        from quantpick.domain.change import largest_ctx

        verdicts = tuple(v._replace(max_ctx=largest_ctx(v.file, case)) for v in verdicts)
    verdicts = tuple(with_speed(verdict, case) for verdict in with_quality_notes(verdicts, case))
    verdicts = with_balance(verdicts, case)
    pick = verdicts[0] if verdicts and verdicts[0].fits else None
    if pick is not None:
        pick = with_trade_off(pick, verdicts, case)
        verdicts = (pick, *verdicts[1:])
    return Recommendation(
        model=model,
        host=host,
        need=need,
        rule=rule,
        verdicts=verdicts,
        pick=pick,
        nearest=None if pick else nearest(verdicts),
        warnings=_caveats(case, verdicts, pick),
    )


def first_fit(
    model: Model, host: Host, need: Need, reference: Reference, rule: Rule
) -> Verdict | None:
    """Return the verdict on what ``recommend`` would pick under a rule, judging no more than that.

    It lacks what is said of a quant beside the others. None where nothing fits.
    """
    if rule.objective is Objective.BALANCED:
        return recommend(model, host, need, reference, (rule,)).pick
    case = Case(model, host, need, rule, reference)
    judged = (judge(file, case) for file in best_first(case))
    verdict = next((verdict for verdict in judged if verdict.fits), None)
    return None if verdict is None else with_speed(verdict, case)


def change_for(verdict: Verdict, answer: Recommendation, reference: Reference) -> Reason | None:
    """Return the cheapest change after which a quant whose context does not fit would fit."""
    if answer.model is None or not any(has_reason(verdict, code) for code in _CHANGEABLE):
        return None
    from quantpick.domain.change import cheapest_change

    case = Case(answer.model, answer.host, answer.need, answer.rule, reference)
    return cheapest_change(verdict, answer.verdicts, case)


def rules(objective: Objective, host: Host) -> tuple[Rule, ...]:
    """Rules to try in order; the first under which something fits is the answer."""
    asked = objective is not Objective.AUTO
    if not host.devices:
        chosen = objective if asked else Objective.QUALITY
        return (Rule(chosen, Pool.RAM, host.ram.total, Why.NO_GPU),)
    why = Why.ASKED if asked else Why.FITS_GPU
    speed = Rule(Objective.SPEED, Pool.VRAM, host.vram, why)
    why = Why.ASKED if objective is Objective.QUALITY else Why.NONE_FITS_GPU
    quality = Rule(Objective.QUALITY, Pool.VRAM_AND_RAM, host.pool, why)
    return {
        Objective.AUTO: (speed, quality),
        Objective.SPEED: (speed,),
        # What runs partly in RAM is slow in any case, so there quality decides.
        Objective.BALANCED: (speed._replace(objective=Objective.BALANCED), quality),
        Objective.QUALITY: (quality,),
    }[objective]


def _caveats(case: Case, verdicts: Sequence[Verdict], pick: Verdict | None) -> tuple[Caveat, ...]:
    """Return the host's warnings, and what the need and the verdicts add to them."""
    host, shape = case.host, case.model.shape
    caveats = list(host.warnings)
    if shape is not None and 0 < shape.context_length < case.need.ctx_size:
        trained = f"the model was trained for {shape.context_length} tokens"
        caveats.append(Caveat("context_beyond_trained", f"{trained}, fewer than asked for"))
    if host.backend is None:
        message = "backend not stated, so K-quants come first; state it, such as --backend cuda"
        caveats.append(Caveat("backend_unknown", message))
    if any(has_reason(verdict, ReasonCode.BUILD_UNKNOWN) for verdict in verdicts):
        message = "some quants need a newer llama.cpp on this backend than others"
        caveats.append(
            Caveat("build_unknown", f"{message}; state your build, such as --llama-cpp b10587")
        )
    if pick is not None:
        caveats += (*_memory_in_use(host, pick), *_better_in_part(case, pick))
    return tuple(caveats)


def _better_in_part(case: Case, pick: Verdict) -> list[Caveat]:
    """Return a warning where few bits were taken to be on the GPU, and RAM would spare that."""
    by_speed = case.need.objective is Objective.AUTO and case.rule.objective is Objective.SPEED
    if not by_speed or _bits(pick, case) >= FAIR_BITS:
        return []
    (quality,) = rules(Objective.QUALITY, case.host)
    other = first_fit(case.model, case.host, case.need, case.reference, quality)
    if other is None or _bits(other, case) < FAIR_BITS:
        return []
    message = f"{pick.file.label} is on the GPU whole and loses much"
    way_out = f"--for quality takes {other.file.label}, partly in RAM"
    return [Caveat("better_partly_in_ram", f"{message}; {way_out}")]


def _bits(verdict: Verdict, case: Case) -> int:
    info = case.info(verdict.file)
    return info.bits if info else 0


def _memory_in_use(host: Host, pick: Verdict) -> list[Caveat]:
    """Return a warning where the pick fits the machine, but not what is free of it now."""
    if pick.placement is Placement.FULL_OFFLOAD and any(
        device.free is not None and device.free < use.total
        for device, use in zip(host.devices, pick.memory.devices, strict=False)
    ):
        return [Caveat("vram_in_use", "other programs hold VRAM that this quant needs")]
    available = host.ram.available
    if pick.placement is Placement.CPU and available is not None and available < pick.memory.total:
        return [Caveat("ram_in_use", "other programs hold RAM that this quant needs")]
    return []
