"""The decision: judge every quant under a margin rule, order what fits, pick the best.

Speed wants the whole file on the GPU, quality takes GPU and RAM together; both want the file 1 to
2 GB below that memory and the context to fit beside it. Order among what fits is by quality, with
the K-or-I rule of the backend on top.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quantpick.domain.compatibility import blocking_reason, doubtful_since
from quantpick.domain.host import Backend, Warning
from quantpick.domain.memory import estimate_memory
from quantpick.domain.need import FamilyChoice, Objective
from quantpick.domain.placement import COMFORTABLE_MARGIN, TIGHT_MARGIN, lay_out
from quantpick.domain.quant import Family, base_label
from quantpick.domain.verdict import (
    Placement,
    Pool,
    Reason,
    ReasonCode,
    Recommendation,
    Rule,
    Verdict,
    Why,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quantpick.domain.host import Host
    from quantpick.domain.model import Model, QuantFile, QuantInfo, Reference
    from quantpick.domain.need import Need
    from quantpick.domain.placement import Layout

#: Backends on which an I-quant costs no speed, and those on which it does.
_I_QUANTS_FAST = frozenset({Backend.CUDA, Backend.ROCM})
_I_QUANTS_SLOW = frozenset({Backend.CPU, Backend.METAL})

#: "The K-quant of its size" is the nearest one within this share of the file's size.
_SAME_SIZE = 0.10


def recommend(model: Model, host: Host, need: Need, reference: Reference) -> Recommendation:
    """Judge every quant of one model and pick one."""
    for rule in rules(need.objective, host):
        verdicts = judge_all(model, host, need, rule, reference)
        if any(verdict.fits for verdict in verdicts):
            break
    pick = verdicts[0] if verdicts and verdicts[0].fits else None
    if pick is not None:
        pick = _with_trade_off(pick, verdicts, host, reference)
        verdicts = (pick, *verdicts[1:])
    return Recommendation(
        model=model,
        host=host,
        need=need,
        rule=rule,
        verdicts=verdicts,
        pick=pick,
        nearest=None if pick else nearest(verdicts),
        warnings=_need_warnings(model, need, host, pick),
    )


def recommend_models(
    models: Sequence[Model], host: Host, need: Need, reference: Reference
) -> Recommendation:
    """Best quant of each model, and the largest model of which one fits.

    The rule is one for all: with AUTO, a model that fits the GPU whole beats a larger one that
    would run partly in RAM.
    """
    ordered = sorted(models, key=lambda model: (-model.parameters, model.repo_id))
    for rule in rules(need.objective, host):
        asked = replace(need, objective=rule.objective)
        answers = [recommend(model, host, asked, reference) for model in ordered]
        best = next((answer for answer in answers if answer.pick), None)
        if best is not None:
            break
    shown = [answer.pick or answer.nearest for answer in answers]
    verdicts = tuple(sorted((v for v in shown if v), key=lambda verdict: not verdict.fits))
    return Recommendation(
        model=best.model if best else None,
        host=host,
        need=need,
        rule=rule,
        verdicts=verdicts,
        pick=best.pick if best else None,
        nearest=None if best else nearest(verdicts),
        warnings=best.warnings if best else host.warnings,
    )


def rules(objective: Objective, host: Host) -> tuple[Rule, ...]:
    """Rules to try in order; the first under which something fits is the answer."""
    asked = objective is not Objective.AUTO
    if not host.devices:
        chosen = objective if asked else Objective.QUALITY
        return (Rule(chosen, Pool.RAM, host.ram.total, Why.NO_GPU),)
    why = Why.ASKED if asked else Why.FITS_GPU
    speed = Rule(Objective.SPEED, Pool.VRAM, host.vram, why)
    why = Why.ASKED if asked else Why.NONE_FITS_GPU
    quality = Rule(Objective.QUALITY, Pool.VRAM_AND_RAM, host.pool, why)
    return {
        Objective.AUTO: (speed, quality),
        Objective.SPEED: (speed,),
        Objective.QUALITY: (quality,),
    }[objective]


def judge_all(
    model: Model, host: Host, need: Need, rule: Rule, reference: Reference
) -> tuple[Verdict, ...]:
    """Verdicts on all quants of a model, best first, what does not fit last."""
    verdicts = [judge(file, model, host, need, rule, reference) for file in model.files]
    return tuple(sorted(verdicts, key=lambda v: _order(v, host, need, rule, reference)))


def judge(  # noqa: PLR0913 -- a judgement is a function of exactly these
    file: QuantFile, model: Model, host: Host, need: Need, rule: Rule, reference: Reference
) -> Verdict:
    """Return the verdict on one quant under one rule."""
    info = quant_info(file.label, reference)
    build = host.engine.build if host.engine else None
    blocked = blocking_reason(file, info, host.backend, build, reference)
    layout = lay_out(file, model.shape, host, need)
    if blocked is not None or info is None:
        memory = estimate_memory(file.file_bytes, model.shape, need, gpus=len(host.devices))
        reasons = (blocked,) if blocked else ()
        return Verdict(
            model.repo_id, file, Placement.INCOMPATIBLE, False, None, memory, reasons  # noqa: FBT003
        )
    excluded = _family_reason(file.family, need.family)
    sized = _size_reasons(file, layout, host, rule)
    fits = excluded is None and sized[-1].code in {ReasonCode.COMFORTABLE, ReasonCode.TIGHT}
    notes = _notes(file, info, layout, host, reference) if fits else ()
    reasons = ((excluded,) if excluded else ()) + sized + notes
    return Verdict(
        repo_id=model.repo_id,
        file=file,
        placement=layout.placement,
        fits=fits,
        n_gpu_layers=layout.n_gpu_layers,
        memory=layout.memory,
        reasons=reasons,
    )


def quant_info(label: str, reference: Reference) -> QuantInfo | None:
    """Return what is known of a label, or of the label it mixes (``UD-IQ2_M`` as ``IQ2_M``)."""
    return reference.quants.get(base_label(label))


def nearest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Return the verdict that would need the least memory among those that can run at all."""
    sized = (
        v
        for v in verdicts
        if v.placement is not Placement.INCOMPATIBLE
        and all(r.code is not ReasonCode.FAMILY_EXCLUDED for r in v.reasons)
    )
    return min(sized, key=lambda v: (v.memory.total, v.file.label), default=None)


def _size_reasons(
    file: QuantFile, layout: Layout, host: Host, rule: Rule
) -> tuple[Reason, ...]:
    """Apply the margin rule to the file, then ask whether the context fits beside it."""
    margin = rule.capacity - file.file_bytes
    figures = {"capacity": rule.capacity, "margin": margin}
    if margin < TIGHT_MARGIN:
        return (Reason(ReasonCode.FILE_TOO_LARGE, {**figures, "short_by": TIGHT_MARGIN - margin}),)
    code = ReasonCode.COMFORTABLE if margin >= COMFORTABLE_MARGIN else ReasonCode.TIGHT
    short_by = _missing(layout, host, rule)
    if short_by > 0:
        need = {"needs": layout.memory.total, "short_by": short_by}
        return (Reason(ReasonCode.CONTEXT_TOO_LARGE, {**figures, **need}),)
    return (Reason(code, figures),)


def _missing(layout: Layout, host: Host, rule: Rule) -> int:
    """Bytes missing for weights, KV cache and compute buffer in the rule's memory."""
    if rule.pool is Pool.VRAM and layout.placement is Placement.FULL_OFFLOAD:
        return 0
    missing = layout.memory.total - rule.capacity
    if rule.pool is Pool.VRAM:
        return max(missing, 1)
    if layout.placement is Placement.TOO_LARGE:
        # The GPU keeps the tight margin free, so a little more can be missing than the sum says.
        return max(missing, layout.memory.total - host.pool + TIGHT_MARGIN, 1)
    return missing


def _family_reason(family: Family, choice: FamilyChoice) -> Reason | None:
    wanted = {FamilyChoice.K: Family.K, FamilyChoice.I: Family.I}.get(choice, family)
    if family is wanted:
        return None
    return Reason(ReasonCode.FAMILY_EXCLUDED, {"family": family, "wanted": wanted})


def _notes(
    file: QuantFile, info: QuantInfo, layout: Layout, host: Host, reference: Reference
) -> tuple[Reason, ...]:
    """Return what else to know about a quant that fits."""
    notes = []
    build = host.engine.build if host.engine else None
    since = doubtful_since(info, host.backend, build, reference)
    if not layout.memory.complete:
        notes.append(Reason(ReasonCode.CONTEXT_UNKNOWN))
    if layout.placement is Placement.PARTIAL_OFFLOAD and layout.n_gpu_layers is not None:
        notes.append(Reason(ReasonCode.LAYERS_ON_GPU, {"layers": layout.n_gpu_layers}))
    if since is not None and host.backend is not None:
        notes.append(Reason(ReasonCode.BUILD_UNKNOWN, {"backend": host.backend, "since": since}))
    if file.family is Family.I and host.backend in _I_QUANTS_SLOW:
        notes.append(Reason(ReasonCode.I_QUANT_SLOW, {"backend": host.backend}))
    if file.family is Family.I and host.backend in _I_QUANTS_FAST and info.bits < 4:  # noqa: PLR2004
        notes.append(Reason(ReasonCode.I_QUANT_PREFERRED, {"backend": host.backend}))
    if file.recommended is False:
        notes.append(Reason(ReasonCode.NOT_RECOMMENDED))
    return tuple(notes)


def _order(
    verdict: Verdict, host: Host, need: Need, rule: Rule, reference: Reference
) -> tuple[int | str, ...]:
    """Sort key, best first: what fits by the K-or-I rule and quality, the rest by what it needs.

    F16, BF16 and F32 come after the quants: twice the bytes of Q8_0 and more, for a difference
    that measures 0.0014 in mean KL divergence.
    """
    info = quant_info(verdict.file.label, reference)
    if not verdict.fits or info is None:
        blocked = verdict.placement is Placement.INCOMPATIBLE
        return (1, int(blocked), verdict.memory.total, verdict.file.label)
    first, within_bits = _k_or_i(verdict, info, host, need, rule)
    original = int(verdict.file.family is Family.FLOAT)
    size = -verdict.file.file_bytes
    return (0, original, first, -info.bits, within_bits, info.rank, size, verdict.file.label)


def _k_or_i(
    verdict: Verdict, info: QuantInfo, host: Host, need: Need, rule: Rule
) -> tuple[int, int]:
    """Return the K-or-I rule as two penalties: over all quants, and among those of equal bits.

    CUDA and ROCm: I-quants first below 4 bits. CPU and Metal: for speed K-quants before all
    I-quants, for quality no preference. A backend or build in doubt: K-quants first at equal bits.
    """
    is_i = verdict.file.family is Family.I
    if need.family is not FamilyChoice.AUTO:
        return 0, 0
    if host.backend in _I_QUANTS_FAST:
        return 0, int(info.bits < 4 and not is_i)  # noqa: PLR2004
    if host.backend in _I_QUANTS_SLOW:
        return int(is_i and rule.objective is Objective.SPEED), 0
    doubt = host.backend is None or _has(verdict, ReasonCode.BUILD_UNKNOWN)
    return 0, int(is_i and doubt)


def _has(verdict: Verdict, code: ReasonCode) -> bool:
    return any(reason.code is code for reason in verdict.reasons)


def _with_trade_off(
    pick: Verdict, verdicts: Sequence[Verdict], host: Host, reference: Reference
) -> Verdict:
    """Name the other family's quant of the pick's size, where the two trade speed for quality."""
    other = {Family.I: Family.K, Family.K: Family.I}.get(pick.file.family)
    if other is None or host.backend not in _I_QUANTS_SLOW:
        return pick
    size = pick.file.file_bytes
    rivals = [
        v
        for v in verdicts
        if v.fits
        and v.file.family is other
        and abs(v.file.file_bytes - size) <= _SAME_SIZE * size
        and (other is Family.K or _rank(v, reference) < _rank(pick, reference))
    ]
    if not rivals:
        return pick
    rival = min(rivals, key=lambda v: (abs(v.file.file_bytes - size), v.file.label))
    code = ReasonCode.K_FOR_SPEED if other is Family.K else ReasonCode.I_FOR_QUALITY
    trade_off = Reason(code, {"label": rival.file.label, "file_bytes": rival.file.file_bytes})
    return replace(pick, reasons=(*pick.reasons, trade_off))


def _rank(verdict: Verdict, reference: Reference) -> int:
    info = quant_info(verdict.file.label, reference)
    return info.rank if info else len(reference.quants)


def _need_warnings(
    model: Model, need: Need, host: Host, pick: Verdict | None
) -> tuple[Warning, ...]:
    """Return the host's warnings, and what the wanted context and the free memory add."""
    warnings = list(host.warnings)
    shape = model.shape
    if shape is not None and need.ctx_size > shape.context_length:
        trained = f"the model was trained for {shape.context_length} tokens"
        warnings.append(Warning("context_beyond_trained", f"{trained}, fewer than asked for"))
    free = [d.free for d in host.devices if d.free is not None]
    if pick is None:
        return tuple(warnings)
    full = pick.placement is Placement.FULL_OFFLOAD
    if full and len(free) == len(host.devices) and sum(free) < pick.memory.total:
        warnings.append(Warning("vram_in_use", "other programs hold VRAM that this quant needs"))
    available = host.ram.available
    if pick.placement is Placement.CPU and available is not None and available < pick.memory.total:
        warnings.append(Warning("ram_in_use", "other programs hold RAM that this quant needs"))
    return tuple(warnings)
