"""What the user wants of the quant: speed or quality, how much context, which family."""

from enum import StrEnum
from typing import NamedTuple

from quantpick.errors import UsageError


class Objective(StrEnum):
    """What to choose for."""

    AUTO = "auto"
    SPEED = "speed"
    BALANCED = "balanced"
    QUALITY = "quality"


class FamilyChoice(StrEnum):
    """Which families may be picked; AUTO leaves it to the K-or-I rule."""

    AUTO = "auto"
    K = "k"
    I = "i"  # noqa: E741 -- the field's own name
    ANY = "any"


class CacheType(StrEnum):
    """Types llama.cpp can keep the KV cache in."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q5_1 = "q5_1"
    Q5_0 = "q5_0"
    Q4_1 = "q4_1"
    Q4_0 = "q4_0"
    IQ4_NL = "iq4_nl"

    @property
    def quantized(self) -> bool:
        """Whether the type is a block quant (such a V cache needs flash attention)."""
        return self not in {CacheType.F32, CacheType.F16, CacheType.BF16}


class FlashAttention(StrEnum):
    """Whether attention is fused; AUTO is on wherever the backend has the kernel."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


#: Context planned for unless the user says otherwise, in tokens.
DEFAULT_CTX_SIZE = 8192

#: llama-server's defaults: slots that share one cache, and tokens computed at once.
DEFAULT_PARALLEL = 4
DEFAULT_UBATCH_SIZE = 512


class Need(NamedTuple):
    """One request for a recommendation.

    ``ctx_size`` in tokens, shared by ``parallel`` slots; ``ubatch_size`` tokens are computed at
    once. ``projector`` is the size of a vision projector to be loaded too, in bytes, and
    ``projector_path`` its file where one was named. ``max_ctx`` asks for the largest context of
    each quant as well.
    """

    objective: Objective = Objective.AUTO
    ctx_size: int = DEFAULT_CTX_SIZE
    type_k: CacheType = CacheType.F16
    type_v: CacheType = CacheType.F16
    family: FamilyChoice = FamilyChoice.AUTO
    parallel: int = DEFAULT_PARALLEL
    ubatch_size: int = DEFAULT_UBATCH_SIZE
    flash_attn: FlashAttention = FlashAttention.AUTO
    projector: int = 0
    projector_path: str | None = None
    max_ctx: bool = False

    @property
    def rows(self) -> int:
        """Tokens computed at once: llama.cpp's batch is never longer than the context."""
        return min(self.ubatch_size, self.ctx_size)

    @property
    def fused(self) -> bool:
        """Whether the memory is estimated for flash attention."""
        return self.flash_attn is not FlashAttention.OFF


def check_need(need: Need) -> Need:
    """Return the need as it is. Raises UsageError for one that llama.cpp refuses for any model."""
    if need.type_v.quantized and not need.fused:
        raise UsageError(
            f"a V cache of type {need.type_v} needs flash attention",
            "leave out --flash-attn off, or set --cache-type-v f16",
        )
    return need
