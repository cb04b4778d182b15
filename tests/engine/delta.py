"""Blueprints of Qwen3-Next and Qwen3.5: three layers of linear attention to one of full.

The figures are those of each model's config.json on the Hugging Face Hub; the keys and tensors
those that llama.cpp's converter writes (conversion/qwen.py) and its loader asks for (b11540).
Key names checked against headers of published files printed in github.com/ggml-org/llama.cpp
(issues/17578, pull/22673, issues/25121); Qwen3-Next's 843 tensors in
ikawrakow/ik_llama.cpp/pull/1251.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tests.engine.hollow import Blueprint
from tests.engine.latent import routed, shared_expert
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

#                  layers, heads, KV heads, head width, embedding, ffn, vocab, context
# The feed-forward lengths of those with experts are in config.json and on no layer.
_QWEN3_NEXT = Shape(48, 16, 2, 256, 2048, 5120, 151_936, 262_144)
_QWEN3_5_9B = Shape(32, 16, 4, 256, 4096, 12288, 248_320, 262_144)
_QWEN3_5_27B = Shape(64, 24, 4, 256, 5120, 17408, 248_320, 262_144)
_QWEN3_5_35B = Shape(40, 16, 2, 256, 2048, 5120, 248_320, 262_144)

#: Linear attention: the width of a head, and the heads of queries and keys.
_HEAD, _KEY_HEADS = 128, 16


class _Delta(NamedTuple):
    """What tells these models apart: heads of linear values, experts, a layer to look ahead."""

    architecture: str
    value_heads: int
    #: Experts in all, chosen for a token, and their width.
    experts: tuple[int, int, int] | None = None
    next_token: bool = False


def _model(name: str, shape: Shape, kind: _Delta) -> Blueprint:
    layers = [_layer(shape, kind, full=(index + 1) % 4 == 0) for index in range(shape.block_count)]
    counted = shape
    if kind.next_token:
        counted = shape._replace(block_count=shape.block_count + 1)
        layers.append(_layer(shape, kind, full=True) | _next_token(shape))
    return Blueprint(
        name,
        keys(kind.architecture, counted, _own(shape, kind)),
        tensors(ends(shape, tied=False), layers),
        shape.vocab_size,
    )


def _own(shape: Shape, kind: _Delta) -> Keys:
    own: Keys = {
        "attention.layer_norm_rms_epsilon": 1e-6,
        **head_width(shape),
        "rope.freq_base": 10_000_000.0,
        "rope.dimension_count": shape.key_length // 4,
        "ssm.conv_kernel": 4,
        "ssm.state_size": _HEAD,
        "ssm.group_count": _KEY_HEADS,
        "ssm.time_step_rank": kind.value_heads,
        "ssm.inner_size": _HEAD * kind.value_heads,
        "full_attention_interval": 4,
    }
    if kind.architecture != "qwen3next":
        own["rope.dimension_sections"] = (11, 11, 10, 0)
    if kind.experts:
        count, used, wide = kind.experts
        own |= {
            "expert_count": count,
            "expert_used_count": used,
            "expert_feed_forward_length": wide,
            "expert_shared_feed_forward_length": wide,
        }
    if kind.next_token:
        # The converter of b11540 says for each layer whether it is linear; older files with the
        # extra layer have the interval alone (issues/25121).
        linear = ((True,) * 3 + (False,)) * (shape.block_count // 4)
        own["attention.recurrent_layers"] = (*linear, False)
        own["nextn_predict_layers"] = 1
    return own


def _layer(shape: Shape, kind: _Delta, *, full: bool) -> Group:
    layer = norms(shape, "attn_norm", "post_attention_norm")
    layer |= _full(shape) if full else _linear(shape, kind)
    if kind.experts is None:
        return layer | gated(shape)
    count, _, wide = kind.experts
    layer |= routed(shape, count, wide) | shared_expert(shape, wide)
    # A gate of one output for the shared expert.
    return layer | norms(shape, "ffn_gate_inp_shexp")


def _full(shape: Shape) -> Group:
    """Return attention whose query matrix also yields a gate of the same width."""
    group = attention(shape) | query_key_norms(shape)
    group["attn_q.weight"] = (shape.embedding_length, 2 * shape.query_width)
    return group


def _linear(shape: Shape, kind: _Delta) -> Group:
    width, heads = shape.embedding_length, kind.value_heads
    values = _HEAD * heads
    convolved = 2 * _HEAD * _KEY_HEADS + values
    group: Group = {
        "attn_qkv.weight": (width, convolved),
        "attn_gate.weight": (width, values),
        "ssm_conv1d.weight": (4, convolved),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads,),
        "ssm_norm.weight": (_HEAD,),
        "ssm_out.weight": (values, width),
    }
    if kind.architecture == "qwen3next":
        return group | {"ssm_ba.weight": (width, 2 * heads)}
    return group | {"ssm_beta.weight": (width, heads), "ssm_alpha.weight": (width, heads)}


def _next_token(shape: Shape) -> Group:
    """Return what the extra layer has beyond a layer; embedding and output are the model's."""
    width = shape.embedding_length
    return {
        "nextn.eh_proj.weight": (2 * width, width),
        **norms(shape, "nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm"),
    }


_NEXT = _Delta("qwen3next", 32, (512, 10, 512))
_DENSE_9B = _Delta("qwen35", 32)
_DENSE_27B = _Delta("qwen35", 48)
_MOE = _Delta("qwen35moe", 32, (256, 8, 512))

MODELS: dict[str, Callable[[], Blueprint]] = {
    "qwen3-next-80b-a3b": partial(_model, "qwen3-next-80b-a3b", _QWEN3_NEXT, _NEXT),
    "qwen3.5-9b": partial(_model, "qwen3.5-9b", _QWEN3_5_9B, _DENSE_9B),
    "qwen3.5-27b": partial(_model, "qwen3.5-27b", _QWEN3_5_27B, _DENSE_27B),
    "qwen3.5-35b-a3b": partial(_model, "qwen3.5-35b-a3b", _QWEN3_5_35B, _MOE),
    # With the layer that looks ahead, as the converter writes it unless told not to.
    "qwen3.6-35b-a3b": partial(
        _model, "qwen3.6-35b-a3b", _QWEN3_5_35B, _MOE._replace(next_token=True)
    ),
}
