"""The words for verdicts: one short phrase a reason, one sentence a rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from quantpick.domain.advice import kept_free
from quantpick.domain.need import DEFAULT_UBATCH_SIZE
from quantpick.domain.speed import Basis, Unknown
from quantpick.domain.units import format_gb, format_gib
from quantpick.domain.verdict import Placement, Pool, Reason, ReasonCode, Why

if TYPE_CHECKING:
    from quantpick.domain.model import TypeSupport
    from quantpick.domain.need import Need
    from quantpick.domain.quality import Quality
    from quantpick.domain.verdict import Rule, Verdict

POOLS = {Pool.VRAM: "VRAM", Pool.VRAM_AND_RAM: "RAM + VRAM", Pool.RAM: "RAM"}

_PHRASES = {
    ReasonCode.COMFORTABLE: "fits, {left} left",
    ReasonCode.TIGHT: "tight: {left} left",
    ReasonCode.FILE_TOO_LARGE: "too large by {short_by}",
    ReasonCode.CONTEXT_TOO_LARGE: "the margin rule says yes, but with its context it is "
    "{short_by} short",
    ReasonCode.CONTEXT_UNKNOWN: "context not counted: shape unknown",
    ReasonCode.MARGIN_SAYS_NO: "the margin rule says no: its file is {margin} below the memory, "
    "not 1 GB",
    ReasonCode.MEMORY_IS_A_BOUND: "its memory is an upper bound: {unknown} are not known",
    ReasonCode.REPACKED: "a llama.cpp built for this CPU keeps {copy_bytes} of its weights twice, "
    "the second time in its kernels' order",
    ReasonCode.NO_REPACK: "--no-repack: no room for the second copy that the CPU would keep",
    ReasonCode.PROJECTOR_IN_RAM: "--no-mmproj-offload: no room for the projector on the first GPU",
    ReasonCode.NO_OP_OFFLOAD: "--no-op-offload: no room on the first GPU for what is copied there",
    ReasonCode.CACHE_REFUSED: "llama.cpp refuses a {type_k}/{type_v} cache for this model: both "
    "types have to be alike, and a head a multiple of their block",
    ReasonCode.CACHE_SLOW: "{backend} has no fused attention for a {type_k}/{type_v} cache: slow",
    ReasonCode.CACHE_TOO_LARGE: "llama.cpp would abort: one layer's cache is {needs}, Vulkan takes "
    "{limit}",
    ReasonCode.TENSOR_SPILLS: "a tensor of {tensor_bytes} goes to RAM, which the figures do not "
    "show: Vulkan takes {limit}",
    ReasonCode.LAYERS_ON_GPU: "{layers} of {of} layers on the GPU, {short_by} short for all",
    ReasonCode.EXPERTS_IN_RAM: "experts of the first {n_cpu_moe} layers in RAM, all else on the "
    "GPU, {short_by} short for all",
    ReasonCode.PARTLY_ON_GPU: "partly on the GPU, {short_by} short for all",
    ReasonCode.FAMILY_EXCLUDED: "family {family} was not asked for",
    ReasonCode.BACKEND_TOO_OLD: "{backend} needs llama.cpp b{since}, yours is b{build}",
    ReasonCode.BUILD_UNKNOWN: "{backend} needs llama.cpp b{since} or later",
    ReasonCode.KERNEL_MISSING: "{backend} cannot compute {tensor_type} (as of b{checked}): those "
    "layers would fall to the CPU",
    ReasonCode.KERNEL_MISSING_ABORTS: "{backend} accepts {tensor_type} and cannot compute it (as "
    "of b{checked}): llama.cpp would abort",
    ReasonCode.TYPE_REMOVED: "llama.cpp dropped this type in b{removed_in}: take {instead} ({why})",
    ReasonCode.FORK_ONLY: "only the fork ik_llama.cpp loads it: run that, or take {instead}",
    ReasonCode.UNKNOWN_LABEL: "label unknown: cannot be judged",
    ReasonCode.FLOAT_NATIVE: "{device} has {type} in hardware",
    ReasonCode.FLOAT_SLOW: "{device} has no fast {type}: take F16 where it has that, else a quant",
    ReasonCode.FLOAT_UNKNOWN: "whether {device} has {type} in hardware is not known; without it a "
    "quant is faster",
    ReasonCode.I_QUANT_PREFERRED: "I-quant: best below 4 bits on {backend}",
    ReasonCode.I_QUANT_SLOW: "I-quant: slower on {backend} than a K-quant of its size ({why})",
    ReasonCode.TYPE_SLOW: "{tensor_type} is slow on {backend}: {why}",
    ReasonCode.K_FOR_SPEED: "{label} ({file_bytes}) would be faster",
    ReasonCode.I_FOR_QUALITY: "{label} ({file_bytes}) would be better, and slower",
    ReasonCode.DOMINATED: "{label} ({file_bytes}) is no larger and at least as good",
    ReasonCode.ULTRA_LOW_BIT: "expect visible damage: mean KL divergence of {label} {kld}, of "
    "{usual} {usual_kld} (Llama 3 8B)",
    ReasonCode.NOT_RECOMMENDED: "its card advises against it",
    ReasonCode.BEYOND_TRAINING: "trained for {context_length} tokens only",
}

#: The same in a table, where most reasons go without saying or stand in a column of their own.
_BRIEF = {
    ReasonCode.COMFORTABLE: "{left} left",
    ReasonCode.TIGHT: "tight, {left} left",
    ReasonCode.FILE_TOO_LARGE: "{short_by} too large",
    ReasonCode.CONTEXT_TOO_LARGE: "context {short_by} short",
    ReasonCode.CONTEXT_UNKNOWN: "context not counted",
    ReasonCode.MARGIN_SAYS_NO: "margin rule: no",
    ReasonCode.MEMORY_IS_A_BOUND: "upper bound",
    ReasonCode.NO_REPACK: "--no-repack",
    ReasonCode.CACHE_REFUSED: "cache type refused",
    ReasonCode.CACHE_SLOW: "slow cache type",
    ReasonCode.CACHE_TOO_LARGE: "cache buffer too large",
    ReasonCode.TENSOR_SPILLS: "a tensor spills",
    ReasonCode.FAMILY_EXCLUDED: "not asked for",
    ReasonCode.BACKEND_TOO_OLD: "needs b{since}",
    ReasonCode.BUILD_UNKNOWN: "from b{since}",
    ReasonCode.KERNEL_MISSING: "no kernel on {backend}",
    ReasonCode.KERNEL_MISSING_ABORTS: "aborts on {backend}",
    ReasonCode.TYPE_REMOVED: "dead since b{removed_in}: take {instead}",
    ReasonCode.FORK_ONLY: "ik_llama.cpp only: take {instead}",
    ReasonCode.UNKNOWN_LABEL: "unknown label",
    ReasonCode.FLOAT_SLOW: "no fast {type}",
    ReasonCode.I_QUANT_SLOW: "slow on {backend}",
    ReasonCode.TYPE_SLOW: "slow on {backend}",
    ReasonCode.DOMINATED: "rather {label}",
    ReasonCode.ULTRA_LOW_BIT: "visible damage",
    ReasonCode.NOT_RECOMMENDED: "card: avoid",
    ReasonCode.BEYOND_TRAINING: "trained for {context_length}",
}

_BACKENDS = {
    "cpu": "CPU",
    "cuda": "CUDA",
    "rocm": "ROCm",
    "vulkan": "Vulkan",
    "metal": "Metal",
    "sycl": "SYCL",
    "opencl": "OpenCL",
    "cann": "CANN",
    "musa": "MUSA",
    "webgpu": "WebGPU",
}

_SIZES = frozenset(
    {
        "margin",
        "left",
        "short_by",
        "file_bytes",
        "capacity",
        "needs",
        "limit",
        "tensor_bytes",
        "copy_bytes",
    }
)

_WHERE = {
    Placement.FULL_OFFLOAD: "GPU",
    Placement.CPU: "RAM",
    Placement.TOO_LARGE: "-",
    Placement.INCOMPATIBLE: "-",
}

_WHY = {
    Why.ASKED: "as asked",
    Why.FITS_GPU: "a quant fits the GPU whole",
    Why.NONE_FITS_GPU: "no quant fits the GPU whole",
    Why.NO_GPU: "no GPU found or stated",
}


#: Tokens per second from which a fraction says nothing.
_WHOLE_RATE = 10

_BASES = {
    Basis.GENERATION: "from measurements of its generation",
    Basis.BACKEND: "from measurements of other devices of this backend",
    Basis.SEVERAL: "several devices, measured on few machines",
    Basis.SMALL: "a small model, of which overhead is the larger part",
    Basis.LOW_I: "an I-quant below 4 bits, of which few were measured",
    Basis.EXPERTS: "a model with experts, which is predicted worse",
}

_NO_SPEED = {
    Unknown.CPU: "it runs on the CPU, and the bandwidth of this RAM is not known",
    Unknown.PARTIAL_OFFLOAD: "part of it stays in RAM, whose bandwidth is not known",
    Unknown.SHAPE: "the model's shape is not known",
    Unknown.EXPERTS: "its experts cannot be told from the rest of its weights",
    Unknown.TYPE: "the types inside it are not known",
    Unknown.EMULATED: "the device has no BF16 in hardware",
    Unknown.BANDWIDTH: "the bandwidth of the device is not known",
    Unknown.BACKEND: "nothing was measured of this device with this backend",
}


def phrase(reason: Reason) -> str:
    """Return a reason as a short sentence."""
    return _PHRASES[reason.code].format(**_figures(reason))


def phrases(verdict: Verdict) -> str:
    """Return all reasons of a verdict in one line."""
    return "; ".join(phrase(reason) for reason in verdict.reasons)


def brief(verdict: Verdict) -> str:
    """Return the reasons of a verdict as few words for a table."""
    told = (reason for reason in verdict.reasons if reason.code in _BRIEF)
    return ", ".join(_BRIEF[reason.code].format(**_figures(reason)) for reason in told)


def outcome(verdict: Verdict) -> str:
    """Return what became of a quant that is not the pick, in a word or two."""
    codes = {reason.code for reason in verdict.reasons}
    if verdict.placement is Placement.INCOMPATIBLE:
        return "does not run here"
    if codes >= {ReasonCode.FAMILY_EXCLUDED} and codes & {ReasonCode.COMFORTABLE, ReasonCode.TIGHT}:
        return "not asked for"
    return "fits" if verdict.fits else "does not fit"


def where(verdict: Verdict) -> str:
    """Return where the model would run, with the share of its layers on the GPU."""
    if verdict.placement is not Placement.PARTIAL_OFFLOAD:
        return _WHERE[verdict.placement]
    for reason in verdict.reasons:
        if reason.code is ReasonCode.LAYERS_ON_GPU:
            return "GPU {layers}/{of}".format(**reason.figures)
        if reason.code is ReasonCode.EXPERTS_IN_RAM:
            return "GPU, {n_cpu_moe} exp".format(**reason.figures)
    return "GPU + RAM"


def rule_sentence(rule: Rule) -> str:
    """Return which rule was applied and why."""
    return (
        f"rule: {rule.objective} ({_WHY[rule.why]}): what it needs, within {POOLS[rule.pool]} "
        f"({format_gb(rule.capacity)} = {format_gib(rule.capacity)}){kept_free(rule)}"
    )


def assumptions(need: Need) -> str:
    """Return what the memory figures assume, in one line."""
    kinds = need.type_k if need.type_k is need.type_v else f"{need.type_k}/{need.type_v}"
    unfused = "" if need.fused else ", no flash attention"
    usual = need.ubatch_size == DEFAULT_UBATCH_SIZE
    batch = "" if usual else f", micro-batches of {need.ubatch_size}"
    projector = f", a projector of {format_gb(need.projector)}" if need.projector else ""
    return (
        f"needs: weights + KV cache + compute buffer + overhead of llama-server with "
        f"{need.ctx_size} tokens, {need.parallel} slot{'s' if need.parallel > 1 else ''}, "
        f"KV cache {kinds}{unfused}{batch}{projector}"
    )


def _figures(reason: Reason) -> dict[str, str]:
    return {
        key: format_gb(value) if key in _SIZES and isinstance(value, int) else _name(value)
        for key, value in reason.figures.items()
    }


def backend_name(backend: str | None, unstated: str = "backend not stated") -> str:
    """Return a backend as it is spelled in prose."""
    return _BACKENDS.get(backend, backend) if backend else unstated


def speed_range(verdict: Verdict) -> str:
    """Return the range of tokens per second, a dash where it is not known."""
    speed = verdict.speed
    return "-" if speed is None else f"{_rate(speed.low)}-{_rate(speed.high)}"


def speed_sentence(verdict: Verdict) -> str:
    """Return how fast a quant answers and how sure that is, or why nobody can say."""
    speed = verdict.speed
    if speed is None:
        unknown = verdict.speed_unknown
        why = _NO_SPEED[unknown] if unknown else "nothing was measured that tells it"
        return f"speed: unknown, {why}"
    return (
        f"speed: about {_rate(speed.tokens_per_second)} tokens/s ({speed_range(verdict)}) at an "
        f"empty context; {_BASES[speed.basis]}"
    )


def _rate(tokens: float) -> str:
    return f"{tokens:.0f}" if tokens >= _WHOLE_RATE else f"{tokens:.1f}"


def support_words(row: TypeSupport | None) -> str:
    """Return a cell of the matrix of tensor types by backend in a few words."""
    if row is None:
        return "unknown"
    if row.since is None:
        return "aborts" if row.otherwise == "abort" else "no"
    known = "by " if row.at_latest else ""
    runs = f"{known}b{row.since}" if row.since else "yes"
    runs = f"b{row.since} to b{row.until - 1}" if row.until else runs
    slow = f"slow before b{row.slow_until}" if row.slow_until else "slow"
    speed = {"fast": "fast", "slow": slow}.get(row.speed or "")
    return ", ".join(filter(None, [runs, speed, f"needs {row.needs}" if row.needs else ""]))


#: Below the table of a repo's quants.
KLD_NOTE = (
    "KLD: mean KL divergence of Llama 3 8B from its F16, 0 is none; ~ marks what was not measured "
    "on it (explain says how it is known)"
)


def kld_cell(quality: Quality | None) -> str:
    """Return a quant's loss in few characters, marked where it was not measured."""
    if quality is None:
        return "unknown"
    return f"{'' if quality.measured else '~'}{quality.kld:.2g}"


def measured(figure: float | None) -> str:
    """Return a published figure in four digits."""
    return "-" if figure is None else f"{figure:.4g}"


def source_name(source: str) -> str:
    """Return whose figures they are: what a source begins with, before where and how."""
    return re.split(r"[,:(]| at ", source, maxsplit=1)[0].strip()


def quality_sentence(quality: Quality | None) -> str:
    """Return what a quant loses, and what the figure rests on."""
    if quality is None:
        return "quality: nobody measured it, and no measured quant is near enough to tell"
    kld = f"mean KL divergence {'' if quality.measured else 'about '}{quality.kld:.3g}"
    of = {
        "measured": f"measured on {quality.model} ({quality.source})",
        "scaled": f"on the scale of {quality.reference}, from {quality.model} ({quality.source})",
        "interpolated": f"{quality.source} between quants measured on {quality.model}",
        "varied": f"as {quality.label}, which it varies, on {quality.reference}",
    }[quality.basis]
    perplexity = ""
    if quality.measured and quality.ppl and quality.original_ppl:
        perplexity = f", perplexity {quality.ppl:.2f} (F16 {quality.original_ppl:.2f})"
    return f"quality: {kld}{perplexity}, {of}"


def _name(value: int | str) -> str:
    return _BACKENDS.get(str(value), str(value))
