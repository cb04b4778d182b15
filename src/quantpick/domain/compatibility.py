"""Whether a quant runs on a backend: its types at the build that will load it, its buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.cache import largest_cache_tensor
from quantpick.domain.host import Backend
from quantpick.domain.need import CacheType
from quantpick.domain.quant import Family, base_label
from quantpick.domain.units import GIB
from quantpick.domain.verdict import Reason, ReasonCode

if TYPE_CHECKING:
    from quantpick.domain.host import Host
    from quantpick.domain.model import QuantFile, QuantInfo, Reference, TypeSupport
    from quantpick.domain.need import Need
    from quantpick.domain.shape import Shape

#: The largest tensor that Vulkan takes: maxStorageBufferRange of the usual drivers. A larger
#: weight goes to RAM; a larger cache makes llama.cpp abort (measured at b10587).
VULKAN_BUFFER = 4 * GIB

#: Numbers in one block of a quantized cache; a head has to be a multiple of it.
_CACHE_BLOCK = 32

#: Cache types that a backend has flash-attention kernels for where both are the same, or
#: (second table) also where they differ: fattn.cu as built by default, ggml-metal, at b10587.
#: Elsewhere attention would fall to the CPU.
_FUSED_ALIKE = {
    Backend.CUDA: frozenset({CacheType.F16, CacheType.BF16, CacheType.Q8_0, CacheType.Q4_0}),
    Backend.ROCM: frozenset({CacheType.F16, CacheType.BF16, CacheType.Q8_0, CacheType.Q4_0}),
    Backend.METAL: frozenset(CacheType) - {CacheType.F32, CacheType.IQ4_NL},
}


#: An unknown build is taken to be newer than this one, of January 2025, and asked about no more.
_SURELY_NEWER = 4500

#: How the names of I-types begin, and how the fork's types end whose rows are stored reordered.
_I_TYPE = "IQ"
_REORDERED = ("_R4", "_R8", "_R16")

#: Architectures whose experts were published in a type of few bits, and keep it under every label.
BORN_IN = {"gpt-oss": "MXFP4"}

#: Labels of files in 16 bits, and the field that says whether a device has the type.
_FLOATS = {"BF16": "bf16", "F16": "fp16"}


def main_label(label: str, shape: Shape | None) -> str:
    """Return the label that tells the type of most of a file's bytes, as a rule its own."""
    return BORN_IN.get(shape.architecture, label) if shape else label


def with_types_inside(info: QuantInfo, file: QuantFile, shape: Shape | None) -> QuantInfo:
    """Return what is known of a label, with the types that this file has beside its label's.

    llama.cpp falls back to other types where rows are not of whole blocks.
    """
    inside = [kind for kind, _ in file.weights.matrices] if file.weights else []
    if shape is not None and shape.architecture in BORN_IN:
        inside.append(BORN_IN[shape.architecture])
    kinds = dict.fromkeys((*info.tensor_types, *inside))
    return info._replace(tensor_types=tuple(kinds))


def blocking_reason(
    file: QuantFile,
    info: QuantInfo | None,
    backend: Backend | None,
    build: int | None,
    reference: Reference,
) -> Reason | None:
    """Return why this quant cannot be loaded or does not run here, None if nothing is known.

    An unknown build counts as a current one, except that ``doubtful_since`` then says so.
    """
    gone = reference.gone.get(base_label(file.label))
    if file.family is Family.FORK or (gone is not None and gone.engine):
        instead = stand_in(file.label, reference)
        return Reason(ReasonCode.FORK_ONLY, {"label": file.label, "instead": instead})
    if info is None:
        return Reason(ReasonCode.UNKNOWN_LABEL, {"label": file.label})
    return _removed(info, build, reference) or _unsupported(info, backend, build, reference)


def stand_in(label: str, reference: Reference) -> str:
    """Return what to take in place of a quant that only the fork loads, or that is dead."""
    base = base_label(label)
    # The fork's name for a type whose rows are stored in its kernels' order.
    plain = base.rpartition("_R")[0] if base.endswith(_REORDERED) else base
    row = reference.gone.get(base) or reference.gone.get(plain)
    if row is not None and row.instead:
        return row.instead
    return plain if plain in reference.quants and plain != base else "another quant"


def _removed(info: QuantInfo, build: int | None, reference: Reference) -> Reason | None:
    """Return why llama.cpp loads one of a quant's types no more."""
    for kind in info.tensor_types:
        row = reference.gone.get(kind)
        if row is not None and row.until and (build is None or build >= row.until):
            words = {"instead": row.instead or "", "why": row.why or ""}
            return Reason(ReasonCode.TYPE_REMOVED, {"removed_in": row.until, **words})
    return None


def _unsupported(
    info: QuantInfo, backend: Backend | None, build: int | None, reference: Reference
) -> Reason | None:
    """Return why one of a quant's types does not run on a backend: never, or not in that build."""
    for row, kind in _rows(info, backend, reference):
        if backend is not None and row.since is None:
            aborts = row.otherwise == "abort"
            code = ReasonCode.KERNEL_MISSING_ABORTS if aborts else ReasonCode.KERNEL_MISSING
            words = {"backend": backend, "tensor_type": kind}
            return Reason(code, {**words, "checked": row.checked or 0})
    since = _runs_since(info, backend, reference)
    if build is not None and backend is not None and since > build:
        return Reason(
            ReasonCode.BACKEND_TOO_OLD, {"backend": backend, "since": since, "build": build}
        )
    return None


def doubtful_since(
    info: QuantInfo, backend: Backend | None, build: int | None, reference: Reference
) -> int | None:
    """Return the build this quant needs on this backend when the user's build is not known."""
    since = _runs_since(info, backend, reference)
    return since if build is None and since > _SURELY_NEWER else None


def slow_reason(
    file: QuantFile,
    info: QuantInfo,
    backend: Backend | None,
    build: int | None,
    reference: Reference,
) -> Reason | None:
    """Return why this quant runs slowly on this backend, None if nothing is known."""
    for row, kind in _rows(info, backend, reference):
        over = row.slow_until is not None and (build is None or build >= row.slow_until)
        if row.speed == "slow" and not over:
            code = ReasonCode.I_QUANT_SLOW if file.family is Family.I else ReasonCode.TYPE_SLOW
            words = {"tensor_type": kind, "why": row.why or ""}
            return Reason(code, {"backend": backend or "", **words})
    return None


def runs_fast(info: QuantInfo, backend: Backend | None, reference: Reference) -> bool:
    """Whether all I-types inside this quant were found to be fast on this backend."""
    speeds = [
        row.speed for row, kind in _rows(info, backend, reference) if kind.startswith(_I_TYPE)
    ]
    return bool(speeds) and set(speeds) == {"fast"}


def _runs_since(info: QuantInfo, backend: Backend | None, reference: Reference) -> int:
    return max((row.since or 0 for row, _ in _rows(info, backend, reference)), default=0)


def _rows(
    info: QuantInfo, backend: Backend | None, reference: Reference
) -> list[tuple[TypeSupport, str]]:
    """Return the rows on the types inside a quant, those that are known, each with its type."""
    if backend is None:
        return []
    found = [(reference.support.get((kind, backend)), kind) for kind in info.tensor_types]
    return [(row, kind) for row, kind in found if row is not None]


def float_note(file: QuantFile, host: Host) -> Reason | None:
    """Return whether a file in BF16 or F16 finds its type in hardware; None for other files.

    Model cards advise BF16 only where the device has it, F16 where it has that, a quant elsewhere.
    """
    kind = _FLOATS.get(file.label.upper())
    if kind is None:
        return None
    chips: tuple[tuple[str, bool | None], ...] = tuple(
        (device.name, getattr(device, kind)) for device in host.devices
    ) or (("this CPU", getattr(host.cpu, kind)),)
    # One that lacks it slows all down; one that is unknown may.
    for has, code in ((False, ReasonCode.FLOAT_SLOW), (None, ReasonCode.FLOAT_UNKNOWN)):
        for name, answer in chips:
            if answer is has:
                return Reason(code, {"type": kind.upper(), "device": name})
    return Reason(ReasonCode.FLOAT_NATIVE, {"type": kind.upper(), "device": chips[0][0]})


def cache_refusal(shape: Shape | None, need: Need, backend: Backend | None) -> Reason | None:
    """Return why llama.cpp would not start with these cache types, None where it would.

    Its rules: a latent cache has one type, a head is whole blocks (llama_init_from_model), and on
    Vulkan a layer's cache fits one buffer.
    """
    if shape is None:
        return None
    figures: dict[str, int | str] = {"type_k": need.type_k, "type_v": need.type_v}
    if shape.latent and need.type_k is not need.type_v:
        return Reason(ReasonCode.CACHE_REFUSED, figures)
    widths = ((need.type_k, shape.key_length), (need.type_v, shape.value_length))
    if any(kind.quantized and width % _CACHE_BLOCK for kind, width in widths):
        return Reason(ReasonCode.CACHE_REFUSED, figures)
    if backend is Backend.VULKAN:
        largest = largest_cache_tensor(shape, need)
        if largest > VULKAN_BUFFER:
            return Reason(ReasonCode.CACHE_TOO_LARGE, {"needs": largest, "limit": VULKAN_BUFFER})
    return None


def buffer_notes(
    file: QuantFile, shape: Shape | None, need: Need, backend: Backend | None
) -> list[Reason]:
    """Return what runs slower than planned: attention or weights that fall to the CPU."""
    notes = []
    kernels = _FUSED_ALIKE.get(backend) if backend else None
    quantized = need.type_k.quantized or need.type_v.quantized
    alike = need.type_k is need.type_v and need.type_k in (kernels or ())
    if shape is not None and kernels is not None and need.fused and quantized and not alike:
        figures = {"type_k": need.type_k, "type_v": need.type_v, "backend": backend or ""}
        notes.append(Reason(ReasonCode.CACHE_SLOW, figures))
    if backend is Backend.VULKAN and file.weights is not None:
        layers = file.weights.layers
        largest = max(max(layer.largest, layer.largest_expert) for layer in layers)
        if largest > VULKAN_BUFFER:
            spilled = {"tensor_bytes": largest, "limit": VULKAN_BUFFER}
            notes.append(Reason(ReasonCode.TENSOR_SPILLS, spilled))
    return notes
