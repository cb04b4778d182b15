"""Blueprints of models with multi-head latent attention: DeepSeek V2, V3 (R1, V3.1), Kimi K2.

Figures: config.json of deepseek-ai/DeepSeek-V2-Lite, deepseek-ai/DeepSeek-V3-0324 and
moonshotai/Kimi-K2-Instruct. Keys and tensors as in llama.cpp's conversion/deepseek.py and
src/models/deepseek2.cpp (b11540). V3's MTP layer is in no file: the converter leaves it out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tests.engine.hollow import Blueprint
from tests.engine.parts import Group, Keys, Shape, ends, gated, keys, norms, tensors

if TYPE_CHECKING:
    from collections.abc import Callable

#: Numbers of `expert_gating_func`, gguf.ExpertGatingFuncType.
SOFTMAX, SIGMOID = 1, 2

#: Alike in all: the rank to which keys and values are compressed together, the parts of a head
#: without and with position, the width of a head of values.
_KV_RANK, _PLAIN, _ROPE, _VALUE = 512, 128, 64, 128


class _Latent(NamedTuple):
    """What tells these models apart beyond their `Shape`."""

    query_rank: int | None
    dense: int
    experts: int
    used: int
    shared: int
    expert_width: int
    gating: int
    weights_scale: float
    groups: tuple[int, int]
    yarn_factor: float
    yarn_multiplier: float


#                        layers, heads, KV heads, head width, embedding, ffn, vocab, context
# One KV head: what is cached is the compressed row, which all heads share.
_V2_LITE_SHAPE = Shape(27, 16, 1, _PLAIN + _ROPE, 2048, 10944, 102_400, 163_840)
_V3_SHAPE = Shape(61, 128, 1, _PLAIN + _ROPE, 7168, 18432, 129_280, 163_840)
_K2_SHAPE = Shape(61, 64, 1, _PLAIN + _ROPE, 7168, 18432, 163_840, 131_072)

_V2_LITE = _Latent(None, 1, 64, 6, 2, 1408, SOFTMAX, 1.0, (1, 1), 40.0, 0.0707)
_V3 = _Latent(1536, 3, 256, 8, 1, 2048, SIGMOID, 2.5, (8, 4), 40.0, 0.1)
_K2 = _Latent(1536, 1, 384, 8, 1, 2048, SIGMOID, 2.827, (1, 1), 32.0, 0.1)


def _deepseek2(name: str, shape: Shape, kind: _Latent) -> Blueprint:
    common = norms(shape, "attn_norm", "ffn_norm") | _attention(shape, kind)
    dense = common | gated(shape)
    expert = common | _experts(shape, kind)
    layers = [dense] * kind.dense + [expert] * (shape.block_count - kind.dense)
    return Blueprint(
        name,
        keys("deepseek2", shape, _own(shape, kind)),
        tensors(ends(shape, tied=False), layers),
        shape.vocab_size,
    )


def _own(shape: Shape, kind: _Latent) -> Keys:
    own: Keys = {
        "attention.layer_norm_rms_epsilon": 1e-6,
        "vocab_size": shape.vocab_size,
        "leading_dense_block_count": kind.dense,
        "attention.kv_lora_rank": _KV_RANK,
        "attention.key_length": _KV_RANK + _ROPE,
        "attention.value_length": _KV_RANK,
        "attention.key_length_mla": _PLAIN + _ROPE,
        "attention.value_length_mla": _VALUE,
        "expert_feed_forward_length": kind.expert_width,
        "expert_count": kind.experts,
        "expert_used_count": kind.used,
        "expert_shared_count": kind.shared,
        "expert_group_count": kind.groups[0],
        "expert_group_used_count": kind.groups[1],
        "expert_gating_func": kind.gating,
        "expert_weights_scale": kind.weights_scale,
        "rope.dimension_count": _ROPE,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": kind.yarn_factor,
        "rope.scaling.original_context_length": 4096,
        "rope.scaling.yarn_log_multiplier": kind.yarn_multiplier,
    }
    if kind.query_rank is not None:
        own["attention.q_lora_rank"] = kind.query_rank
    if kind.gating == SIGMOID:
        own["expert_weights_norm"] = True
    return own


def _attention(shape: Shape, kind: _Latent) -> Group:
    """Return attention with kv_b split in two, as the converter does since April 2025."""
    width, heads = shape.embedding_length, shape.head_count
    group: Group = {
        "attn_kv_a_mqa.weight": (width, _KV_RANK + _ROPE),
        "attn_kv_a_norm.weight": (_KV_RANK,),
        "attn_k_b.weight": (_PLAIN, _KV_RANK, heads),
        "attn_v_b.weight": (_KV_RANK, _VALUE, heads),
        "attn_output.weight": (heads * _VALUE, width),
    }
    if kind.query_rank is None:
        return group | {"attn_q.weight": (width, shape.query_width)}
    return group | {
        "attn_q_a.weight": (width, kind.query_rank),
        "attn_q_a_norm.weight": (kind.query_rank,),
        "attn_q_b.weight": (kind.query_rank, shape.query_width),
    }


def _experts(shape: Shape, kind: _Latent) -> Group:
    shared = kind.expert_width * kind.shared
    group = routed(shape, kind.experts, kind.expert_width) | shared_expert(shape, shared)
    # The correction of the router came with the sigmoid.
    bias: Group = {"exp_probs_b.bias": (kind.experts,)}
    return group | bias if kind.gating == SIGMOID else group


def routed(shape: Shape, experts: int, wide: int) -> Group:
    """Return the router, and the experts of this width stacked."""
    narrow = shape.embedding_length
    return {
        "ffn_gate_inp.weight": (narrow, experts),
        "ffn_gate_exps.weight": (narrow, wide, experts),
        "ffn_up_exps.weight": (narrow, wide, experts),
        "ffn_down_exps.weight": (wide, narrow, experts),
    }


def shared_expert(shape: Shape, wide: int) -> Group:
    """Return the network of this width that every token takes beside its experts."""
    narrow = shape.embedding_length
    return {
        "ffn_gate_shexp.weight": (narrow, wide),
        "ffn_up_shexp.weight": (narrow, wide),
        "ffn_down_shexp.weight": (wide, narrow),
    }


MODELS: dict[str, Callable[[], Blueprint]] = {
    "deepseek-v2-lite": partial(_deepseek2, "deepseek-v2-lite", _V2_LITE_SHAPE, _V2_LITE),
    "deepseek-v3": partial(_deepseek2, "deepseek-v3", _V3_SHAPE, _V3),
    "kimi-k2": partial(_deepseek2, "kimi-k2", _K2_SHAPE, _K2),
}
