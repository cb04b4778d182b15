"""What was decided about a quant, as values: verdicts, their reasons, and the rule applied.

The words are written in ``render``; ``explain`` and ``--json`` read the same values.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.memory import Split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantpick.domain.host import Caveat, Host
    from quantpick.domain.memory import Memory
    from quantpick.domain.model import Model, QuantFile
    from quantpick.domain.need import Need, Objective
    from quantpick.domain.speed import Speed, Unknown


class Placement(StrEnum):
    """Where the model would run."""

    FULL_OFFLOAD = "full_offload"
    PARTIAL_OFFLOAD = "partial_offload"
    CPU = "cpu"
    TOO_LARGE = "too_large"
    INCOMPATIBLE = "incompatible"


class ReasonCode(StrEnum):
    """Why a verdict is what it is."""

    COMFORTABLE = "comfortable"
    TIGHT = "tight"
    FILE_TOO_LARGE = "file_too_large"
    CONTEXT_TOO_LARGE = "context_too_large"
    CONTEXT_UNKNOWN = "context_unknown"
    MARGIN_SAYS_NO = "margin_says_no"
    MEMORY_IS_A_BOUND = "memory_is_a_bound"
    REPACKED = "repacked"
    NO_REPACK = "no_repack"
    NO_OP_OFFLOAD = "no_op_offload"
    PROJECTOR_IN_RAM = "projector_in_ram"
    CACHE_REFUSED = "cache_refused"
    CACHE_SLOW = "cache_slow"
    CACHE_TOO_LARGE = "cache_too_large"
    TENSOR_SPILLS = "tensor_spills"
    SMALLER_CACHE = "smaller_cache"
    SMALLER_QUANT = "smaller_quant"
    FEWER_TOKENS = "fewer_tokens"
    LAYERS_ON_GPU = "layers_on_gpu"
    EXPERTS_IN_RAM = "experts_in_ram"
    PARTLY_ON_GPU = "partly_on_gpu"
    FAMILY_EXCLUDED = "family_excluded"
    BACKEND_TOO_OLD = "backend_too_old"
    BUILD_UNKNOWN = "build_unknown"
    KERNEL_MISSING = "kernel_missing"
    KERNEL_MISSING_ABORTS = "kernel_missing_aborts"
    TYPE_REMOVED = "type_removed"
    FORK_ONLY = "fork_only"
    UNKNOWN_LABEL = "unknown_label"
    FLOAT_NATIVE = "float_native"
    FLOAT_SLOW = "float_slow"
    FLOAT_UNKNOWN = "float_unknown"
    I_QUANT_PREFERRED = "i_quant_preferred"
    I_QUANT_SLOW = "i_quant_slow"
    TYPE_SLOW = "type_slow"
    K_FOR_SPEED = "k_for_speed"
    I_FOR_QUALITY = "i_for_quality"
    DOMINATED = "dominated"
    ULTRA_LOW_BIT = "ultra_low_bit"
    NOT_RECOMMENDED = "not_recommended"
    BEYOND_TRAINING = "beyond_training"


class Reason(NamedTuple):
    """A reason and its figures (sizes in bytes)."""

    code: ReasonCode
    figures: Mapping[str, int | str] = MappingProxyType({})


class Verdict(NamedTuple):
    """One quant judged. ``n_gpu_layers`` counts the output layer too, as llama.cpp does.

    It is None where the model's shape is unknown. ``fits`` is under the rule applied. ``split``
    says which layers go where, ``flags`` what llama-server has to be told beside it. ``max_ctx`` is
    the largest context that still fits whole, None where it was not asked for or none does.
    ``speed`` is predicted for what fits, and ``speed_unknown`` says why there is none.
    """

    repo_id: str
    file: QuantFile
    placement: Placement
    fits: bool
    n_gpu_layers: int | None
    memory: Memory
    reasons: tuple[Reason, ...]
    split: Split = Split()
    flags: tuple[str, ...] = ()
    max_ctx: int | None = None
    speed: Speed | None = None
    speed_unknown: Unknown | None = None


class Pool(StrEnum):
    """The memory a rule measures the file against."""

    VRAM = "vram"
    VRAM_AND_RAM = "vram_and_ram"
    RAM = "ram"


class Why(StrEnum):
    """Why this rule was the one to apply."""

    ASKED = "asked"
    FITS_GPU = "a_quant_fits_the_gpu"
    NONE_FITS_GPU = "no_quant_fits_the_gpu"
    NO_GPU = "no_gpu"


class Rule(NamedTuple):
    """The rule applied: what a quant needs fits ``capacity`` bytes of ``pool``.

    Beside it stands the margin rule of model cards: a file 1 to 2 GB below that capacity.
    """

    objective: Objective
    pool: Pool
    capacity: int
    why: Why


class Recommendation(NamedTuple):
    """The answer: the pick (None when nothing fits), every verdict best first, and the rule.

    ``model`` is the picked quant's (or the only model asked about; None when no catalogued model
    fits). ``nearest`` is the verdict that misses by least when nothing fits.
    """

    model: Model | None
    host: Host
    need: Need
    rule: Rule
    verdicts: tuple[Verdict, ...]
    pick: Verdict | None
    nearest: Verdict | None
    warnings: tuple[Caveat, ...] = ()
