"""One quant under one margin rule: does it load here, does the file fit, does the context too."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.compatibility import blocking_reason, doubtful_since
from quantpick.domain.host import Backend
from quantpick.domain.memory import estimate_memory
from quantpick.domain.need import FamilyChoice
from quantpick.domain.placement import COMFORTABLE_MARGIN, TIGHT_MARGIN, lay_out
from quantpick.domain.quant import Family
from quantpick.domain.verdict import Placement, Pool, Reason, ReasonCode, Verdict

if TYPE_CHECKING:
    from quantpick.domain.host import Host
    from quantpick.domain.model import Model, QuantFile, QuantInfo, Reference
    from quantpick.domain.need import Need
    from quantpick.domain.placement import Layout
    from quantpick.domain.verdict import Rule

#: Backends on which an I-quant costs no speed, and those on which it does.
I_QUANTS_FAST = frozenset({Backend.CUDA, Backend.ROCM})
I_QUANTS_SLOW = frozenset({Backend.CPU, Backend.METAL})

#: Below this many bits the K-or-I rule prefers I-quants where they cost no speed.
FOUR_BITS = 4


class Case(NamedTuple):
    """Everything a judgement depends on, beside the quant itself."""

    model: Model
    host: Host
    need: Need
    rule: Rule
    reference: Reference

    @property
    def build(self) -> int | None:
        """The llama.cpp build that will load the file, None where unknown."""
        return self.host.engine.build if self.host.engine else None


def judge(file: QuantFile, case: Case) -> Verdict:
    """Return the verdict on one quant."""
    info = case.reference.info(file.label)
    blocked = blocking_reason(file, info, case.host.backend, case.build, case.reference)
    if blocked is not None or info is None:
        return _blocked(file, case, blocked)
    layout = lay_out(file, case.model.shape, case.host, case.need)
    excluded = _family_reason(file.family, case.need.family)
    size = _size_reason(file, layout, case)
    fits = excluded is None and size.code in {ReasonCode.COMFORTABLE, ReasonCode.TIGHT}
    reasons = [excluded] if excluded else []
    reasons += [size, *(_notes(file, info, layout, case) if fits else ())]
    return Verdict(
        repo_id=case.model.repo_id,
        file=file,
        placement=layout.placement,
        fits=fits,
        n_gpu_layers=layout.n_gpu_layers,
        memory=layout.memory,
        reasons=tuple(reasons),
    )


def _blocked(file: QuantFile, case: Case, reason: Reason | None) -> Verdict:
    gpus = len(case.host.devices)
    return Verdict(
        repo_id=case.model.repo_id,
        file=file,
        placement=Placement.INCOMPATIBLE,
        fits=False,
        n_gpu_layers=None,
        memory=estimate_memory(file.file_bytes, case.model.shape, case.need, gpus=gpus),
        reasons=(reason,) if reason else (),
    )


def _size_reason(file: QuantFile, layout: Layout, case: Case) -> Reason:
    """Apply the margin rule to the file, then ask whether the context fits beside it."""
    capacity = case.rule.capacity
    margin = capacity - file.file_bytes
    left = capacity - layout.memory.total
    figures = {"capacity": capacity, "margin": margin, "left": left}
    if margin < TIGHT_MARGIN:
        return Reason(ReasonCode.FILE_TOO_LARGE, {**figures, "short_by": TIGHT_MARGIN - margin})
    short_by = _short_by(layout, case)
    if short_by > 0:
        return Reason(ReasonCode.CONTEXT_TOO_LARGE, {**figures, "short_by": short_by})
    code = ReasonCode.COMFORTABLE if margin >= COMFORTABLE_MARGIN else ReasonCode.TIGHT
    return Reason(code, figures)


def _partly_on_gpu(layout: Layout, case: Case) -> Reason:
    """Say how many layers go on the GPU, and what is missing there for all of them."""
    short_by = layout.memory.total - case.host.vram
    if layout.n_gpu_layers is None or case.model.shape is None:
        return Reason(ReasonCode.PARTLY_ON_GPU, {"short_by": short_by})
    of = case.model.shape.block_count + 1
    figures = {"layers": layout.n_gpu_layers, "of": of, "short_by": short_by}
    return Reason(ReasonCode.LAYERS_ON_GPU, figures)


def _short_by(layout: Layout, case: Case) -> int:
    """Return the bytes missing in the rule's memory for file and context together."""
    if case.rule.pool is not Pool.VRAM:
        return layout.short_by
    whole = layout.placement is Placement.FULL_OFFLOAD
    return 0 if whole else layout.memory.total - case.rule.capacity


def _family_reason(family: Family, choice: FamilyChoice) -> Reason | None:
    wanted = {FamilyChoice.K: Family.K, FamilyChoice.I: Family.I}.get(choice, family)
    if family is wanted:
        return None
    return Reason(ReasonCode.FAMILY_EXCLUDED, {"family": family, "wanted": wanted})


def _notes(file: QuantFile, info: QuantInfo, layout: Layout, case: Case) -> list[Reason]:
    """Return what else to know about a quant that fits."""
    notes = []
    backend = case.host.backend
    since = doubtful_since(info, backend, case.build, case.reference)
    is_i = file.family is Family.I
    if not layout.memory.complete:
        notes.append(Reason(ReasonCode.CONTEXT_UNKNOWN))
    if layout.placement is Placement.PARTIAL_OFFLOAD:
        notes.append(_partly_on_gpu(layout, case))
    if since is not None and backend is not None:
        notes.append(Reason(ReasonCode.BUILD_UNKNOWN, {"backend": backend, "since": since}))
    if is_i and backend in I_QUANTS_SLOW:
        notes.append(Reason(ReasonCode.I_QUANT_SLOW, {"backend": backend}))
    if is_i and backend in I_QUANTS_FAST and info.bits < FOUR_BITS:
        notes.append(Reason(ReasonCode.I_QUANT_PREFERRED, {"backend": backend}))
    if file.recommended is False:
        notes.append(Reason(ReasonCode.NOT_RECOMMENDED))
    return notes
