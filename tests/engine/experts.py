"""Blueprints of models whose feed-forward networks are experts, a few chosen for each token.

The figures are those of each model's config.json on the Hugging Face Hub; the keys and tensors
those that llama.cpp's converter writes (conversion/) and its loader asks for (src/models/, b11540).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.engine import latent
from tests.engine.hollow import Blueprint
from tests.engine.latent import SIGMOID, routed, shared_expert
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

#                  layers, heads, KV heads, head width, embedding, ffn, vocab, context
_MIXTRAL_8X7B = Shape(32, 32, 8, 128, 4096, 14336, 32_000, 32_768)
_QWEN3_30B_A3B = Shape(48, 32, 4, 128, 2048, 6144, 151_936, 40_960)
_GPT_OSS_20B = Shape(24, 64, 8, 64, 2880, 2880, 201_088, 131_072)
_GPT_OSS_120B = Shape(36, 64, 8, 64, 2880, 2880, 201_088, 131_072)
_GLM_4_5_AIR = Shape(47, 96, 8, 128, 4096, 10944, 151_552, 131_072)
_SCOUT = Shape(48, 40, 8, 128, 5120, 16384, 202_048, 10_485_760)
_MAVERICK = Shape(48, 40, 8, 128, 5120, 16384, 202_048, 1_048_576)
_GEMMA_4_26B = Shape(30, 16, 8, 256, 2816, 2112, 262_144, 262_144)
_GRANITE_3B_A800M = Shape(32, 24, 8, 64, 1536, 512, 49_155, 131_072)
_MINIMAX_M2 = Shape(62, 48, 8, 128, 3072, 1536, 200_064, 196_608)


def _blueprint(
    name: str, shape: Shape, metadata: Keys, layers: list[Group], *, tied: bool = False
) -> Blueprint:
    slots = tensors(ends(shape, tied=tied), layers)
    return Blueprint(name, metadata, slots, shape.vocab_size)


def _routing(experts: int, used: int) -> Keys:
    return {"expert_count": experts, "expert_used_count": used}


def _mixtral(name: str, shape: Shape) -> Blueprint:
    """Build a llama with experts: its feed-forward length is that of one expert."""
    own = _routing(8, 2) | {
        "vocab_size": shape.vocab_size,
        "rope.dimension_count": shape.key_length,
        "rope.freq_base": 1_000_000.0,
    }
    layer = attention(shape) | norms(shape, "attn_norm", "ffn_norm")
    layer |= routed(shape, 8, shape.feed_forward_length)
    layers = [layer] * shape.block_count
    return _blueprint(name, shape, keys("llama", shape, _RMS | own), layers)


def _qwen3moe(name: str, shape: Shape, experts: int, wide: int) -> Blueprint:
    """Build a model whose config names a dense width that no layer has."""
    own = _routing(experts, 8) | head_width(shape) | {"expert_feed_forward_length": wide}
    own |= {"rope.freq_base": 1_000_000.0}
    layer = attention(shape) | query_key_norms(shape) | norms(shape, "attn_norm", "ffn_norm")
    layer |= routed(shape, experts, wide)
    layers = [layer] * shape.block_count
    return _blueprint(name, shape, keys("qwen3moe", shape, _RMS | own), layers)


def _gpt_oss(name: str, shape: Shape, experts: int) -> Blueprint:
    """Build a model of which even layers are windowed, which no key says."""
    wide = shape.feed_forward_length
    own = _routing(experts, 4) | head_width(shape)
    own |= {
        "expert_feed_forward_length": wide,
        "attention.sliding_window": 128,
        "rope.freq_base": 150_000.0,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 32.0,
        "rope.scaling.original_context_length": 4096,
    }
    layer = attention(shape) | norms(shape, "attn_norm", "post_attention_norm")
    layer |= routed(shape, experts, wide)
    layer |= {
        "attn_sinks.weight": (shape.head_count,),
        "attn_q.bias": (shape.query_width,),
        "attn_k.bias": (shape.kv_width,),
        "attn_v.bias": (shape.kv_width,),
        "attn_output.bias": (shape.embedding_length,),
        "ffn_gate_inp.bias": (experts,),
        "ffn_gate_exps.bias": (wide, experts),
        "ffn_up_exps.bias": (wide, experts),
        "ffn_down_exps.bias": (shape.embedding_length, experts),
    }
    layers = [layer] * shape.block_count
    return _blueprint(name, shape, keys("gpt-oss", shape, _RMS | own), layers)


def _glm4moe(name: str, shape: Shape) -> Blueprint:
    """Build a model with one dense layer first and one to predict the next token but one last.

    ``shape`` counts that last layer, as the key in the file does.
    """
    experts, wide = 128, 1408
    own = _routing(experts, 8) | head_width(shape)
    own |= {
        "expert_feed_forward_length": wide,
        "expert_shared_count": 1,
        "expert_gating_func": SIGMOID,
        "expert_weights_scale": 1.0,
        "expert_weights_norm": True,
        "expert_group_count": 1,
        "expert_group_used_count": 1,
        "leading_dense_block_count": 1,
        "nextn_predict_layers": 1,
        "rope.dimension_count": shape.key_length // 2,
        "rope.freq_base": 1_000_000.0,
    }
    common = attention(shape) | norms(shape, "attn_norm", "post_attention_norm")
    common |= {
        "attn_q.bias": (shape.query_width,),
        "attn_k.bias": (shape.kv_width,),
        "attn_v.bias": (shape.kv_width,),
    }
    expert = common | routed(shape, experts, wide) | shared_expert(shape, wide)
    expert |= {"exp_probs_b.bias": (experts,)}
    middle = [expert] * (shape.block_count - 2)
    layers = [common | gated(shape), *middle, expert | _next_token(shape)]
    return _blueprint(name, shape, keys("glm4moe", shape, _RMS | own), layers)


def _next_token(shape: Shape) -> Group:
    """Return what the extra layer has beyond a layer, two tables as large as the embedding."""
    table = (shape.embedding_length, shape.vocab_size)
    return {
        "nextn.eh_proj.weight": (2 * shape.embedding_length, shape.embedding_length),
        "nextn.embed_tokens.weight": table,
        "nextn.shared_head_head.weight": table,
        **norms(shape, "nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm"),
    }


def _llama4(name: str, shape: Shape, experts: int, step: int) -> Blueprint:
    """Build a model whose every ``step``-th layer has experts; its window is in no key."""
    wide = 8192
    own = _routing(experts, 1) | head_width(shape)
    own |= {
        "expert_feed_forward_length": wide,
        "interleave_moe_layer_step": step,
        "vocab_size": shape.vocab_size,
        "rope.dimension_count": shape.key_length,
        "rope.freq_base": 500_000.0,
    }
    common = attention(shape) | norms(shape, "attn_norm", "ffn_norm")
    expert = common | routed(shape, experts, wide) | shared_expert(shape, wide)
    dense = common | gated(shape)
    layers = ([dense] * (step - 1) + [expert]) * (shape.block_count // step)
    outside = ends(shape, tied=False)
    if step == 1:
        # Scout alone stretches its positions, with a factor for each of half a head.
        outside["rope_freqs.weight"] = (shape.key_length // 2,)
    metadata = keys("llama4", shape, _RMS | own)
    return Blueprint(name, metadata, tensors(outside, layers), shape.vocab_size)


def _gemma4(name: str, shape: Shape) -> Blueprint:
    """Build Gemma 4 with experts beside a dense network; full layers have 2 wide KV heads.

    Names and lengths checked against the header of a published file, which has 658 tensors
    (github.com/lemonade-sdk/llamacpp-rocm/issues/81, LostRuins/koboldcpp/issues/2262).
    """
    full = shape._replace(head_count_kv=2, key_length=512)
    windowed = tuple((index + 1) % 6 != 0 for index in range(shape.block_count))
    own = _routing(128, 8) | head_width(full)
    own |= {
        "attention.head_count_kv": tuple(
            shape.head_count_kv if local else full.head_count_kv for local in windowed
        ),
        "attention.key_length_swa": shape.key_length,
        "attention.value_length_swa": shape.key_length,
        "attention.sliding_window": 1024,
        "attention.sliding_window_pattern": windowed,
        "attention.shared_kv_layers": 0,
        "embedding_length_per_layer_input": 0,
        "expert_feed_forward_length": 704,
        "final_logit_softcapping": 30.0,
        "rope.freq_base": 1_000_000.0,
        "rope.freq_base_swa": 10_000.0,
        "rope.dimension_count": full.key_length,
        "rope.dimension_count_swa": shape.key_length,
    }
    layers = [_gemma4_layer(shape if local else full, full=not local) for local in windowed]
    outside = ends(shape, tied=True) | {"rope_freqs.weight": (full.key_length // 2,)}
    metadata = keys("gemma4", shape, _RMS | own)
    return Blueprint(name, metadata, tensors(outside, layers), shape.vocab_size)


def _gemma4_layer(shape: Shape, *, full: bool) -> Group:
    narrow, wide, experts = shape.embedding_length, 704, 128
    layer = attention(shape) | query_key_norms(shape) | gated(shape)
    layer |= norms(shape, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    layer |= norms(shape, "pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2")
    if full:
        # Its values are its keys.
        del layer["attn_v.weight"]
    return layer | {
        "layer_output_scale.weight": (1,),
        "ffn_gate_inp.weight": (narrow, experts),
        "ffn_gate_inp.scale": (narrow,),
        "ffn_gate_up_exps.weight": (narrow, 2 * wide, experts),
        "ffn_down_exps.weight": (wide, narrow, experts),
        "ffn_down_exps.scale": (experts,),
    }


def _granitemoe(name: str, shape: Shape, experts: int) -> Blueprint:
    own = _routing(experts, 8) | {
        "vocab_size": shape.vocab_size,
        "rope.dimension_count": shape.key_length,
        "attention.scale": 0.015625,
        "embedding_scale": 12.0,
        "residual_scale": 0.22,
        "logit_scale": 6.0,
    }
    layer = attention(shape) | norms(shape, "attn_norm", "ffn_norm")
    layer |= routed(shape, experts, shape.feed_forward_length)
    layers = [layer] * shape.block_count
    return _blueprint(name, shape, keys("granitemoe", shape, _RMS | own), layers, tied=True)


def _minimax_m2(name: str, shape: Shape) -> Blueprint:
    experts, wide = 256, shape.feed_forward_length
    own = _routing(experts, 8) | head_width(shape)
    own |= {
        "expert_feed_forward_length": wide,
        "expert_gating_func": SIGMOID,
        "rope.dimension_count": 64,
        "rope.freq_base": 5_000_000.0,
    }
    layer = attention(shape) | norms(shape, "attn_norm", "ffn_norm")
    layer |= routed(shape, experts, wide)
    layer |= {
        "exp_probs_b.bias": (experts,),
        # Over all heads together, unlike other models' norms of queries and keys.
        "attn_q_norm.weight": (shape.query_width,),
        "attn_k_norm.weight": (shape.kv_width,),
    }
    layers = [layer] * shape.block_count
    return _blueprint(name, shape, keys("minimax-m2", shape, _RMS | own), layers)


MODELS: dict[str, Callable[[], Blueprint]] = {
    **latent.MODELS,
    "mixtral-8x7b": partial(_mixtral, "mixtral-8x7b", _MIXTRAL_8X7B),
    "qwen3-30b-a3b": partial(_qwen3moe, "qwen3-30b-a3b", _QWEN3_30B_A3B, 128, 768),
    "gpt-oss-20b": partial(_gpt_oss, "gpt-oss-20b", _GPT_OSS_20B, 32),
    "gpt-oss-120b": partial(_gpt_oss, "gpt-oss-120b", _GPT_OSS_120B, 128),
    "glm-4.5-air": partial(_glm4moe, "glm-4.5-air", _GLM_4_5_AIR),
    "llama-4-scout": partial(_llama4, "llama-4-scout", _SCOUT, experts=16, step=1),
    "llama-4-maverick": partial(_llama4, "llama-4-maverick", _MAVERICK, experts=128, step=2),
    "gemma-4-26b-a4b": partial(_gemma4, "gemma-4-26b-a4b", _GEMMA_4_26B),
    "granite-3.1-3b-a800m": partial(
        _granitemoe, "granite-3.1-3b-a800m", _GRANITE_3B_A800M, experts=40
    ),
    "minimax-m2": partial(_minimax_m2, "minimax-m2", _MINIMAX_M2),
}
