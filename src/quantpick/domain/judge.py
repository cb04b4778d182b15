"""One quant under one rule: does it load here, does all that it needs fit, what else to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.compatibility import (
    blocking_reason,
    buffer_notes,
    cache_refusal,
    doubtful_since,
    float_note,
    runs_fast,
    slow_reason,
    with_types_inside,
)
from quantpick.domain.host import Backend, Device, MemoryKind
from quantpick.domain.memory import Split, estimate_memory
from quantpick.domain.model import QuantInfo
from quantpick.domain.need import FamilyChoice
from quantpick.domain.placement import COMFORTABLE_MARGIN, TIGHT_MARGIN, lay_out
from quantpick.domain.quant import Family
from quantpick.domain.verdict import Placement, Pool, Reason, ReasonCode, Verdict
from quantpick.domain.weights import spread_weights

if TYPE_CHECKING:
    from quantpick.domain.host import Host
    from quantpick.domain.memory import Memory
    from quantpick.domain.model import Model, QuantFile, Reference
    from quantpick.domain.need import Need
    from quantpick.domain.placement import Layout
    from quantpick.domain.shape import Shape
    from quantpick.domain.verdict import Rule
    from quantpick.domain.weights import Weights

#: Backends on which an I-quant costs no speed, and those on which it does.
I_QUANTS_FAST = frozenset({Backend.CUDA, Backend.ROCM})
I_QUANTS_SLOW = frozenset({Backend.CPU, Backend.METAL})

#: What a layout gives up to fit, by llama-server's flag for it.
_GIVEN_UP = {
    "--no-repack": ReasonCode.NO_REPACK,
    "--no-op-offload": ReasonCode.NO_OP_OFFLOAD,
    "--no-mmproj-offload": ReasonCode.PROJECTOR_IN_RAM,
}

#: Below this many bits the K-or-I rule prefers I-quants where they cost no speed.
FOUR_BITS = 4


class Case(NamedTuple):
    """Everything a judgement depends on, beside the quant itself."""

    model: Model
    host: Host
    need: Need
    rule: Rule
    reference: Reference

    def info(self, file: QuantFile) -> QuantInfo | None:
        """Return what is known of a quant: by its label, or by the types in a local file."""
        known = self.reference.info(file.label)
        if known is not None or not self.model.local or file.weights is None:
            return known
        numbers = max(self.model.parameters, 1)
        return QuantInfo(
            label=file.label,
            bits=round(8 * file.weights.loaded / numbers),
            rank=len(self.reference.quants),
            tier="unknown",
            note="",
            tensor_types=tuple(name for name, _ in file.weights.matrices),
        )

    @property
    def build(self) -> int | None:
        """The llama.cpp build that will load the file, None where unknown."""
        return self.host.engine.build if self.host.engine else None


def judge(file: QuantFile, case: Case, layout: Layout | None = None) -> Verdict:
    """Return the verdict on one quant; ``layout`` is its own where it is known already."""
    info = case.info(file)
    info = info and with_types_inside(info, file, case.model.shape)
    layout = layout or lay_out_in(file, case)
    if case.rule.pool is Pool.VRAM and layout.whole is not None:
        # Only the GPU counts here, so what is missing there is told.
        layout = layout.whole._replace(placement=Placement.TOO_LARGE)
    blocked = blocking_reason(file, info, case.host.backend, case.build, case.reference)
    blocked = blocked or cache_refusal(case.model.shape, case.need, case.host.backend)
    if blocked is not None or info is None:
        layout = layout._replace(placement=Placement.INCOMPATIBLE)
        return _verdict(file, layout, case, [blocked] if blocked else [], fits=False)
    excluded = _family_reason(file.family, case.need.family)
    size = _size_reason(file, layout, case)
    fits = excluded is None and size.code in {ReasonCode.COMFORTABLE, ReasonCode.TIGHT}
    reasons = [excluded] if excluded else []
    reasons += [size, *(_notes(file, info, layout, case) if fits else ())]
    return _verdict(file, layout, case, reasons, fits=fits)


def needs_on_one_gpu(file: QuantFile, shape: Shape | None, need: Need) -> Memory:
    """Return what a quant needs with all layers on one GPU, whatever the machine."""
    weights = weights_in(file, shape)
    gpu = Device("GPU", None, MemoryKind.DEDICATED, 0, 0, None, "any")
    return estimate_memory(weights, shape, need, (gpu,), Split((len(weights.layers) + 1,)))


def lay_out_in(file: QuantFile, case: Case) -> Layout:
    """Return the fastest layout of a quant on the case's host."""
    shape = case.model.shape
    return lay_out(weights_in(file, shape), shape, case.host, case.need)


def weights_in(file: QuantFile, shape: Shape | None) -> Weights:
    """Return the bytes by place; where the mix is unknown they are spread by estimate."""
    return file.weights or spread_weights(file.file_bytes, shape)


def _verdict(
    file: QuantFile, layout: Layout, case: Case, reasons: list[Reason], *, fits: bool
) -> Verdict:
    unknown = case.model.shape is None or layout.placement is Placement.INCOMPATIBLE
    on_cpu = layout.placement is Placement.CPU
    told = (*layout.flags, *case.host.device_words)
    return Verdict(
        repo_id=case.model.repo_id,
        file=file,
        placement=layout.placement,
        fits=fits,
        n_gpu_layers=None if unknown and not on_cpu else layout.split.n_gpu_layers,
        memory=layout.memory,
        reasons=tuple(reasons),
        split=layout.split,
        flags=layout.flags if on_cpu and case.host.devices else told,
    )


def _size_reason(file: QuantFile, layout: Layout, case: Case) -> Reason:
    """Say whether the need fits, how much is left, and what the margin rule says of the file."""
    capacity = case.rule.capacity
    margin = capacity - file.file_bytes
    left = capacity - _used(layout, case)
    figures = {"capacity": capacity, "margin": margin, "left": left}
    short_by = layout.short_by
    if case.model.shape is None:
        # The cache cannot be counted, so the margin rule decides.
        short_by = max(short_by, TIGHT_MARGIN - margin)
    if short_by > 0:
        too_large = margin < TIGHT_MARGIN
        code = ReasonCode.FILE_TOO_LARGE if too_large else ReasonCode.CONTEXT_TOO_LARGE
        return Reason(code, {**figures, "short_by": short_by})
    # In RAM a margin is kept anyway, so there the next one counts.
    roomy = TIGHT_MARGIN if case.rule.pool is Pool.VRAM else COMFORTABLE_MARGIN
    return Reason(ReasonCode.COMFORTABLE if left >= roomy else ReasonCode.TIGHT, figures)


def _used(layout: Layout, case: Case) -> int:
    """Bytes that a layout needs of the rule's pool; RAM beside full VRAM is another pool."""
    if case.rule.pool is Pool.VRAM:
        return sum(use.total for use in layout.memory.devices)
    return layout.memory.total


def _offload_note(layout: Layout, case: Case) -> Reason:
    """Say what goes on the GPU, and what is missing there for all of it."""
    figures = {"short_by": layout.whole.short_by if layout.whole else 0}
    if case.model.shape is None:
        return Reason(ReasonCode.PARTLY_ON_GPU, figures)
    of = case.model.shape.block_count + 1
    figures |= {"layers": layout.split.n_gpu_layers, "of": of}
    if layout.split.n_cpu_moe and layout.split.n_gpu_layers == of:
        figures |= {"n_cpu_moe": layout.split.n_cpu_moe}
        return Reason(ReasonCode.EXPERTS_IN_RAM, figures)
    return Reason(ReasonCode.LAYERS_ON_GPU, figures)


def _family_reason(family: Family, choice: FamilyChoice) -> Reason | None:
    wanted = {FamilyChoice.K: Family.K, FamilyChoice.I: Family.I}.get(choice, family)
    if family is wanted:
        return None
    return Reason(ReasonCode.FAMILY_EXCLUDED, {"family": family, "wanted": wanted})


def _notes(file: QuantFile, info: QuantInfo, layout: Layout, case: Case) -> list[Reason]:
    """Return what else to know about a quant that fits."""
    return [
        *_memory_notes(file, layout, case),
        *buffer_notes(file, case.model.shape, case.need, case.host.backend),
        *_family_notes(file, info, case),
    ]


def _memory_notes(file: QuantFile, layout: Layout, case: Case) -> list[Reason]:
    """Return what to know about its memory: what is a bound, what goes where, what was given up."""
    notes = []
    if not layout.memory.complete:
        notes.append(Reason(ReasonCode.CONTEXT_UNKNOWN))
    elif not layout.memory.exact:
        known = case.model.shape is not None and case.model.shape.known
        unknown = "the types inside it" if known else "the rules of its architecture"
        notes.append(Reason(ReasonCode.MEMORY_IS_A_BOUND, {"unknown": unknown}))
    if layout.placement is Placement.PARTIAL_OFFLOAD:
        notes.append(_offload_note(layout, case))
    if layout.split.repack:
        notes.append(Reason(ReasonCode.REPACKED, {"copy_bytes": layout.split.repack}))
    notes += [Reason(code) for flag, code in _GIVEN_UP.items() if flag in layout.flags]
    margin = case.rule.capacity - file.file_bytes
    if margin < TIGHT_MARGIN:
        notes.append(Reason(ReasonCode.MARGIN_SAYS_NO, {"margin": margin}))
    return notes


def _family_notes(file: QuantFile, info: QuantInfo, case: Case) -> list[Reason]:
    """Return what to know about its family on this backend, and what its card says."""
    notes = []
    backend = case.host.backend
    since = doubtful_since(info, backend, case.build, case.reference)
    is_i = file.family is Family.I
    if since is not None and backend is not None:
        notes.append(Reason(ReasonCode.BUILD_UNKNOWN, {"backend": backend, "since": since}))
    slow = slow_reason(file, info, backend, case.build, case.reference)
    if slow is not None:
        notes.append(slow)
    if is_i and backend and info.bits < FOUR_BITS and runs_fast(info, backend, case.reference):
        notes.append(Reason(ReasonCode.I_QUANT_PREFERRED, {"backend": backend}))
    in_float = float_note(file, case.host)
    if in_float is not None:
        notes.append(in_float)
    if file.recommended is False:
        notes.append(Reason(ReasonCode.NOT_RECOMMENDED))
    return notes
