"""What llama.cpp's quantizer mixes for each label, as tables.

Restated from ``llama_tensor_get_type_impl``, ``llama_ftype_get_default_type``,
``tensor_allows_quantization`` and ``tensor_get_category`` in src/llama-quant.cpp at llama.cpp
b11540. `quantpick.domain.mixing` applies them to the tensors of a file.
"""

from __future__ import annotations

from enum import IntEnum, auto
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Part(IntEnum):
    """What a tensor does in a model, as far as the quantizer tells tensors apart.

    Numbers, as they are looked up by the thousand and a plain enum's hash is slow.
    """

    #: Never quantized, and exact (F32) already when converted.
    EXACT = auto()
    #: Never quantized, so of the type that the converter was asked for.
    KEPT = auto()
    EMBEDDING = auto()
    OUTPUT = auto()
    #: Values, and the matrices that hold values among others (``attn_qkv``, ``attn_kv_b``).
    VALUE = auto()
    KEY = auto()
    QUERY = auto()
    ATTENTION_OUTPUT = auto()
    UP = auto()
    GATE = auto()
    DOWN = auto()
    #: At least Q8_0 in any mix, whatever the label.
    CAREFUL = auto()
    OTHER = auto()


class Facts(NamedTuple):
    """What the mix depends on beside the label.

    ``gqa`` is the number of query heads that share a key head; ``raised`` marks a model that
    llama.cpp counts as a 70B.
    """

    gqa: int
    experts: int
    falcon: bool
    raised: bool
    imatrix: bool


class Step(NamedTuple):
    """A type for the tensors at some places among their kind, in models of some sort."""

    type: str
    where: Callable[[int, int], bool] | None = None
    when: Callable[[Facts], bool] | None = None


class Recipe(NamedTuple):
    """The mix of one label: a type for all, and for some parts the first step that applies.

    ``embedding`` is the type of an embedding that is not the output as well. ``low`` marks the
    labels that llama.cpp mixes by a scheme of their own.
    """

    default: str
    steps: Mapping[Part, tuple[Step, ...]] = {}
    embedding: str | None = None
    output: str = "Q6_K"
    low: bool = False


# Where: the place of a tensor among the n of its kind


def _first(number: int) -> Callable[[int, int], bool]:
    return lambda place, _: place < number


def _first_sixteenth(place: int, n: int) -> bool:
    return place < n // 16


def _first_eighth(place: int, n: int) -> bool:
    return place < n // 8


def _between_eighths(place: int, n: int) -> bool:
    return n // 8 <= place < 7 * n // 8


def _more_bits(place: int, n: int) -> bool:
    """Tell the layers that matter most: the first and last eighth, and every third between."""
    return not _between_eighths(place, n) or (place - n // 8 + 1) % 3 == 0


# When: the sort of model

_MANY = 4
_MIXTRAL = 8


def _shared_keys(facts: Facts) -> bool:
    """Tell models whose values are so few that more bits for them cost little."""
    return facts.gqa >= _MANY


def _shared_keys_or_experts(facts: Facts) -> bool:
    return _shared_keys(facts) or facts.experts >= _MANY


def eight_experts(facts: Facts) -> bool:
    """Tell Mixtral and those built like it."""
    return facts.experts == _MIXTRAL


def _imatrix(facts: Facts) -> bool:
    return facts.imatrix


def _no_imatrix(facts: Facts) -> bool:
    return not facts.imatrix


def _falcon(facts: Facts) -> bool:
    return facts.falcon


def _not_falcon(facts: Facts) -> bool:
    return not facts.falcon


# Recipes


def _low(default: str, better: str, attention_output: str | None = None) -> Recipe:
    """Return the mix of a label of about two bits or less; ``better`` is for what needs more."""
    steps = {
        Part.VALUE: (Step("Q4_K", when=_shared_keys_or_experts), Step(better)),
        Part.KEY: (Step("Q4_K", when=eight_experts),),
        Part.DOWN: (Step(better, _first_eighth),),
        Part.ATTENTION_OUTPUT: (
            Step("Q5_K", when=eight_experts),
            Step(attention_output or default),
        ),
    }
    return Recipe(default, steps, embedding=better, output="Q5_K", low=True)


def _iq4(default: str) -> Recipe:
    steps = {
        Part.VALUE: (Step("Q5_K", when=_shared_keys),),
        Part.DOWN: (Step("Q5_K", _first_eighth, _no_imatrix),),
    }
    return Recipe(default, steps)


_SHARED_VALUE = {Part.VALUE: (Step("Q4_K", when=_shared_keys),)}

#: Every label that llama-quantize mixes itself, but for MXFP4_MOE and the plain float ones.
RECIPES: Mapping[str, Recipe] = {
    "Q8_0": Recipe("Q8_0", output="Q8_0"),
    "Q6_K": Recipe("Q6_K"),
    "Q5_K_M": Recipe(
        "Q5_K",
        {Part.VALUE: (Step("Q6_K", _more_bits),), Part.DOWN: (Step("Q6_K", _more_bits),)},
    ),
    "Q5_K_S": Recipe("Q5_K"),
    "Q5_1": Recipe("Q5_1"),
    "Q5_0": Recipe("Q5_0", {Part.DOWN: (Step("Q5_1", _first_eighth, _imatrix),)}),
    "Q4_K_M": Recipe(
        "Q4_K",
        {
            Part.VALUE: (Step("Q6_K", _more_bits),),
            Part.DOWN: (
                Step("Q6_K", _first_sixteenth, _falcon),
                Step("Q5_K", _more_bits, _falcon),
                Step("Q6_K", _more_bits, _not_falcon),
            ),
        },
    ),
    "Q4_K_S": Recipe(
        "Q4_K",
        {
            Part.VALUE: (Step("Q5_K", _first(4)),),
            Part.DOWN: (Step("Q5_K", _first_eighth, _not_falcon),),
        },
    ),
    "Q4_1": Recipe("Q4_1"),
    "Q4_0": Recipe("Q4_0", {Part.DOWN: (Step("Q4_1", _first_eighth, _imatrix),)}),
    "IQ4_NL": _iq4("IQ4_NL"),
    "IQ4_XS": _iq4("IQ4_XS"),
    "Q3_K_L": Recipe(
        "Q3_K",
        {
            Part.VALUE: (Step("Q5_K"),),
            Part.ATTENTION_OUTPUT: (Step("Q4_K", when=_falcon), Step("Q5_K")),
            Part.DOWN: (Step("Q4_K", when=_falcon), Step("Q5_K")),
        },
    ),
    "Q3_K_M": Recipe(
        "Q3_K",
        {
            Part.VALUE: (Step("Q5_K", _first(2)), Step("Q4_K")),
            Part.ATTENTION_OUTPUT: (Step("Q4_K", when=_not_falcon),),
            Part.DOWN: (
                Step("Q5_K", _first_sixteenth),
                Step("Q4_K", when=_not_falcon),
                Step("Q4_K", _more_bits),
            ),
        },
    ),
    "Q3_K_S": Recipe("Q3_K"),
    "IQ3_M": Recipe(
        "IQ3_S",
        {
            Part.VALUE: (Step("Q4_K"),),
            Part.ATTENTION_OUTPUT: (Step("Q4_K", when=_not_falcon),),
            Part.DOWN: (Step("Q4_K", _first_eighth), Step("Q4_K", _more_bits, eight_experts)),
        },
    ),
    "IQ3_S": Recipe("IQ3_S", _SHARED_VALUE),
    "IQ3_XS": Recipe(
        "IQ3_S",
        {
            **_SHARED_VALUE,
            Part.KEY: (Step("IQ3_XXS"),),
            Part.QUERY: (Step("IQ3_XXS"),),
            Part.GATE: (Step("IQ3_XXS", _between_eighths),),
            Part.UP: (Step("IQ3_XXS", _between_eighths),),
        },
    ),
    "IQ3_XXS": Recipe(
        "IQ3_XXS",
        {
            Part.VALUE: (Step("Q4_K", when=_shared_keys), Step("IQ3_S", when=_no_imatrix)),
            Part.KEY: (Step("IQ2_S"),),
            Part.QUERY: (Step("IQ2_S"),),
            Part.ATTENTION_OUTPUT: (Step("IQ3_S", when=_not_falcon),),
            Part.DOWN: (Step("Q4_K", _first_eighth, _no_imatrix), Step("Q3_K", when=_no_imatrix)),
        },
        embedding="IQ3_S",
        output="Q5_K",
    ),
    "Q2_K": Recipe(
        "Q2_K",
        {
            Part.VALUE: (Step("Q4_K", when=_shared_keys), Step("Q3_K")),
            Part.ATTENTION_OUTPUT: (Step("Q3_K", when=_not_falcon),),
            Part.DOWN: (Step("Q3_K"),),
        },
    ),
    "Q2_K_S": Recipe("Q2_K", {**_SHARED_VALUE, Part.DOWN: (Step("Q4_K", _first_eighth),)}),
    "IQ2_M": _low("IQ2_S", "IQ3_S", "IQ3_S"),
    "IQ2_S": _low("IQ2_XS", "IQ3_S", "IQ3_S"),
    "IQ2_XS": _low("IQ2_XS", "Q2_K"),
    "IQ2_XXS": _low("IQ2_XXS", "Q2_K"),
    "IQ1_M": _low("IQ1_M", "Q2_K", "IQ2_XXS"),
    "IQ1_S": _low("IQ1_S", "Q2_K", "IQ2_XXS"),
    "TQ2_0": Recipe("TQ2_0", embedding="Q4_K"),
    "TQ1_0": Recipe("TQ1_0", embedding="Q4_K"),
    "Q2_0": Recipe("Q2_0", embedding="Q4_K"),
    "Q1_0": Recipe("Q1_0"),
}

#: With eight experts the attention's output matrix is Q5_K under these labels.
EIGHT_EXPERTS_OUTPUT = frozenset(
    {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M"}
    | {"IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_XS", "IQ4_NL"}
)

#: What values get instead in a model that counts as a 70B, where eight heads share them.
RAISED = {"Q3_K": "Q5_K", "Q4_K": "Q5_K"}

#: Layers at which llama.cpp takes an architecture for a 70B (``LLM_TYPE_70B``, src/models/).
LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}

#: What takes the place of a type whose block does not divide a row (``tensor_type_fallback``).
FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


# Parts

_PARTS = (
    (("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"), Part.VALUE),
    (("attn_k.weight",), Part.KEY),
    (("attn_q.weight",), Part.QUERY),
    (("attn_output.weight",), Part.ATTENTION_OUTPUT),
    (("ffn_up",), Part.UP),
    (("ffn_gate",), Part.GATE),
    (("ffn_down",), Part.DOWN),
)
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")

#: Matrices that stay as they are and that the converter (conversion/base.py) writes as F32.
_EXACT = (
    *("_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d", "shortconv.conv.weight"),
    *("altup_correct_coef", "altup_predict_coef", "position_embd.weight", "token_types.weight"),
    *("time_mix_first.weight", "time_mix_w1.weight", "time_mix_w2.weight"),
    *("time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight"),
    *(".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos"),
)
#: Matrices that stay as they are, in the type that the converter was asked for.
_KEPT = (
    *("altup", "laurel", "per_layer_model_proj", "attn_rel_b.weight", "ffn_gate_tid2eid.weight"),
    *("indexer.k_proj.weight", "indexer.q_proj.weight"),
    *("time_mix_w0.weight", "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight"),
    *("time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight"),
    *("time_mix_g1.weight", "time_mix_g2.weight"),
    *(".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd"),
)
_KEPT_IN_GLM5_NEXT = (
    *("hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate"),
    *("indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight"),
    *("ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight"),
    "attn_v_b.weight",
)
_CAREFUL_IN_GLM5_NEXT = ("attn_q_a", "attn_q_b", "nextn.eh_proj")


@lru_cache(maxsize=1024)
def part_of(name: str, architecture: str) -> Part:
    """Part of a matrix, by its name without ``blk.`` and the layer's number.

    What has fewer than two dimensions is never quantized, whatever its name.
    """
    if not name.endswith("weight") or _holds(name, _EXACT):
        return Part.EXACT
    glm5_next = architecture == "glm5-next"
    if _holds(name, _KEPT) or (glm5_next and _holds(name, _KEPT_IN_GLM5_NEXT)):
        return Part.KEPT
    if name == "output.weight":
        return Part.OUTPUT
    if name in _EMBEDDINGS:
        return Part.EMBEDDING
    if glm5_next and _holds(name, _CAREFUL_IN_GLM5_NEXT):
        return Part.CAREFUL
    return next((part for words, part in _PARTS if _holds(name, words)), Part.OTHER)


def _holds(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)
