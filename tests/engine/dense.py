"""Blueprints of dense models whose layers are all alike.

The figures are those of each model's config.json on the Hugging Face Hub; the keys and tensors
those that llama.cpp's converter writes and its loader (src/models/, b11540) asks for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.engine.hollow import Blueprint
from tests.engine.parts import (
    Group,
    Keys,
    Shape,
    attention,
    ends,
    gated,
    head_width,
    keys,
    norms,
    query_key_norms,
    tensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable

#: An epsilon: its value does not matter to memory, but every loader asks for one.
_RMS: Keys = {"attention.layer_norm_rms_epsilon": 1e-5}
_LAYER_NORM: Keys = {"attention.layer_norm_epsilon": 1e-5}

#                  layers, heads, KV heads, head width, embedding, feed-forward, vocab, context
_LLAMA_3_1_8B = Shape(32, 32, 8, 128, 4096, 14336, 128_256, 131_072)
_LLAMA_3_1_70B = Shape(80, 64, 8, 128, 8192, 28672, 128_256, 131_072)
_LLAMA_3_2_1B = Shape(16, 32, 8, 64, 2048, 8192, 128_256, 131_072)
_MISTRAL_7B = Shape(32, 32, 8, 128, 4096, 14336, 32_768, 32_768)
_MINISTRAL_3_8B = Shape(34, 32, 8, 128, 4096, 14336, 131_072, 262_144)
_MISTRAL_SMALL = Shape(40, 32, 8, 128, 5120, 32768, 131_072, 131_072)
_QWEN2_5_7B = Shape(28, 28, 4, 128, 3584, 18944, 152_064, 32_768)
_QWEN3_8B = Shape(36, 32, 8, 128, 4096, 12288, 151_936, 40_960)
_QWEN3_14B = Shape(40, 40, 8, 128, 5120, 17408, 151_936, 40_960)
_PHI_4 = Shape(40, 40, 10, 128, 5120, 17920, 100_352, 16_384)
_PHI_3_5_MINI = Shape(32, 32, 32, 96, 3072, 8192, 32_064, 131_072)
_GLM_4_9B = Shape(40, 32, 2, 128, 4096, 13696, 151_552, 32_768)
_GRANITE_3_3_8B = Shape(40, 32, 8, 128, 4096, 12800, 49_159, 131_072)
_OLMO_2_7B = Shape(32, 32, 32, 128, 4096, 11008, 100_352, 4096)
_COMMAND_R = Shape(40, 64, 64, 128, 8192, 22528, 256_000, 131_072)
_STARCODER2_7B = Shape(32, 36, 4, 128, 4608, 18432, 49_152, 16_384)


def _llama(name: str, shape: Shape, *, tied: bool = False, long_rope: bool = True) -> Blueprint:
    own: Keys = {**_RMS, "rope.dimension_count": shape.key_length, "vocab_size": shape.vocab_size}
    rope: Group = {"rope_freqs.weight": (shape.key_length // 2,)} if long_rope else {}
    layer = attention(shape) | gated(shape) | norms(shape, "attn_norm", "ffn_norm")
    outside = ends(shape, tied=tied) | rope
    return Blueprint(
        name,
        keys("llama", shape, own),
        tensors(outside, [layer] * shape.block_count),
        shape.vocab_size,
    )


def _mistral3(name: str, shape: Shape, *, yarn: bool) -> Blueprint:
    scaling: Keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 16.0,
        "rope.scaling.original_context_length": 16384,
        "rope.scaling.yarn_beta_fast": 32.0,
        "rope.scaling.yarn_beta_slow": 1.0,
        "rope.scaling.yarn_log_multiplier": 1.0,
        "attention.temperature_scale": 0.1,
    }
    own = _RMS | head_width(shape) | {"rope.dimension_count": shape.key_length}
    layer = attention(shape) | gated(shape) | norms(shape, "attn_norm", "ffn_norm")
    return Blueprint(
        name,
        keys("mistral3", shape, own | scaling if yarn else own),
        tensors(ends(shape, tied=False), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _qkv_biases(shape: Shape) -> Group:
    return {
        "attn_q.bias": (shape.query_width,),
        "attn_k.bias": (shape.kv_width,),
        "attn_v.bias": (shape.kv_width,),
    }


def _qwen2(name: str, shape: Shape) -> Blueprint:
    layer = attention(shape) | _qkv_biases(shape) | gated(shape)
    layer |= norms(shape, "attn_norm", "ffn_norm")
    return Blueprint(
        name,
        keys("qwen2", shape, _RMS),
        tensors(ends(shape, tied=False), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _qwen3(name: str, shape: Shape) -> Blueprint:
    layer = attention(shape) | query_key_norms(shape) | gated(shape)
    layer |= norms(shape, "attn_norm", "ffn_norm")
    return Blueprint(
        name,
        keys("qwen3", shape, _RMS | head_width(shape)),
        tensors(ends(shape, tied=False), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _phi3(name: str, shape: Shape, own: Keys, outside: Group) -> Blueprint:
    """Build a model with queries, keys and values in one matrix, and gate and up in one."""
    width = shape.embedding_length
    layer: Group = {
        "attn_qkv.weight": (width, shape.query_width + 2 * shape.kv_width),
        "attn_output.weight": (shape.query_width, width),
        "ffn_up.weight": (width, 2 * shape.feed_forward_length),
        "ffn_down.weight": (shape.feed_forward_length, width),
    }
    layer |= norms(shape, "attn_norm", "ffn_norm")
    return Blueprint(
        name,
        keys("phi3", shape, {**_RMS, "rope.dimension_count": shape.key_length, **own}),
        tensors(ends(shape, tied=False) | outside, [layer] * shape.block_count),
        shape.vocab_size,
    )


def _phi_4() -> Blueprint:
    own: Keys = {"rope.scaling.original_context_length": 16384, "attention.sliding_window": 0}
    return _phi3("phi-4", _PHI_4, own, {})


def _phi_3_5_mini() -> Blueprint:
    own: Keys = {
        "rope.scaling.original_context_length": 4096,
        "rope.scaling.attn_factor": 1.19,
        "attention.sliding_window": 262_144,
    }
    half = _PHI_3_5_MINI.key_length // 2
    factors: Group = {"rope_factors_long.weight": (half,), "rope_factors_short.weight": (half,)}
    return _phi3("phi-3.5-mini", _PHI_3_5_MINI, own, factors)


def _glm4(name: str, shape: Shape) -> Blueprint:
    """Build a model with gate and up in one matrix and half of each head turned."""
    own = _RMS | head_width(shape) | {"rope.dimension_count": shape.key_length // 2}
    width = shape.embedding_length
    layer = attention(shape) | {
        "ffn_up.weight": (width, 2 * shape.feed_forward_length),
        "ffn_down.weight": (shape.feed_forward_length, width),
    }
    layer |= _qkv_biases(shape)
    layer |= norms(shape, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    return Blueprint(
        name,
        keys("glm4", shape, own),
        tensors(ends(shape, tied=False), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _granite(name: str, shape: Shape) -> Blueprint:
    own: Keys = {
        **_RMS,
        "rope.dimension_count": shape.key_length,
        "vocab_size": shape.vocab_size,
        "attention.scale": 0.0078125,
        "embedding_scale": 12.0,
        "residual_scale": 0.22,
        "logit_scale": 16.0,
    }
    layer = attention(shape) | gated(shape) | norms(shape, "attn_norm", "ffn_norm")
    return Blueprint(
        name,
        keys("granite", shape, own),
        tensors(ends(shape, tied=True), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _olmo2(name: str, shape: Shape) -> Blueprint:
    """Build a model with norms behind, not before, and over all heads at once."""
    layer = attention(shape) | gated(shape)
    layer |= {"attn_q_norm.weight": (shape.query_width,), "attn_k_norm.weight": (shape.kv_width,)}
    layer |= norms(shape, "post_attention_norm", "post_ffw_norm")
    return Blueprint(
        name,
        keys("olmo2", shape, _RMS),
        tensors(ends(shape, tied=False), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _command_r(name: str, shape: Shape) -> Blueprint:
    """Build a model in which attention and feed-forward read the same norm side by side."""
    own: Keys = {**_LAYER_NORM, "logit_scale": 0.0625, "rope.scaling.type": "none"}
    layer = attention(shape) | gated(shape) | norms(shape, "attn_norm")
    return Blueprint(
        name,
        keys("command-r", shape, own),
        tensors(ends(shape, tied=True), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _starcoder2(name: str, shape: Shape) -> Blueprint:
    """Build a model without a gate and with a bias on everything."""
    width, wide = shape.embedding_length, shape.feed_forward_length
    layer = attention(shape) | {"ffn_up.weight": (width, wide), "ffn_down.weight": (wide, width)}
    layer |= norms(shape, "attn_norm", "ffn_norm")
    layer |= {name.replace(".weight", ".bias"): (dims[-1],) for name, dims in layer.items()}
    outside = ends(shape, tied=True) | {"output_norm.bias": (width,)}
    return Blueprint(
        name,
        keys("starcoder2", shape, _LAYER_NORM),
        tensors(outside, [layer] * shape.block_count),
        shape.vocab_size,
    )


MODELS: dict[str, Callable[[], Blueprint]] = {
    "llama-3.1-8b": partial(_llama, "llama-3.1-8b", _LLAMA_3_1_8B),
    "llama-3.1-70b": partial(_llama, "llama-3.1-70b", _LLAMA_3_1_70B),
    "llama-3.2-1b": partial(_llama, "llama-3.2-1b", _LLAMA_3_2_1B, tied=True),
    "mistral-7b-v0.3": partial(_llama, "mistral-7b-v0.3", _MISTRAL_7B, long_rope=False),
    "ministral-3-8b": partial(_mistral3, "ministral-3-8b", _MINISTRAL_3_8B, yarn=True),
    "mistral-small-3.1-24b": partial(
        _mistral3, "mistral-small-3.1-24b", _MISTRAL_SMALL, yarn=False
    ),
    "qwen2.5-7b": partial(_qwen2, "qwen2.5-7b", _QWEN2_5_7B),
    "qwen3-8b": partial(_qwen3, "qwen3-8b", _QWEN3_8B),
    "qwen3-14b": partial(_qwen3, "qwen3-14b", _QWEN3_14B),
    "phi-4": _phi_4,
    "phi-3.5-mini": _phi_3_5_mini,
    "glm-4-9b-0414": partial(_glm4, "glm-4-9b-0414", _GLM_4_9B),
    "granite-3.3-8b": partial(_granite, "granite-3.3-8b", _GRANITE_3_3_8B),
    "olmo-2-7b": partial(_olmo2, "olmo-2-7b", _OLMO_2_7B),
    "command-r-35b": partial(_command_r, "command-r-35b", _COMMAND_R),
    "starcoder2-7b": partial(_starcoder2, "starcoder2-7b", _STARCODER2_7B),
}
