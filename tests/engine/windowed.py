"""Blueprints of dense models most of whose layers see a sliding window only.

The figures are those of each model's config.json on the Hugging Face Hub; the keys and tensors
those that llama.cpp's converter writes and its loader (src/models/, b11540) asks for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

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
_RMS: Keys = {"attention.layer_norm_rms_epsilon": 1e-6}
_NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")

#                 layers, heads, KV heads, head width, embedding, feed-forward, vocab, context
_GEMMA_2_9B = Shape(42, 16, 8, 256, 3584, 14336, 256_000, 8192)
_GEMMA_3_270M = Shape(18, 4, 1, 256, 640, 2048, 262_144, 32_768)
# The Hub's config says 262,208; the converter drops the 64 rows that no token uses.
_GEMMA_3_4B = Shape(34, 8, 4, 256, 2560, 10240, 262_144, 131_072)
_GEMMA_3_27B = Shape(62, 32, 16, 128, 5376, 21504, 262_144, 131_072)
_GEMMA_3N_E4B = Shape(35, 8, 2, 256, 2048, 16384, 262_400, 32_768)
_GEMMA_4_E4B = Shape(42, 8, 2, 256, 2560, 10240, 262_144, 131_072)
_GEMMA_4_31B = Shape(60, 32, 16, 256, 5376, 21504, 262_144, 262_144)
_COMMAND_R7B = Shape(32, 32, 8, 128, 4096, 14336, 256_000, 132_096)


def _gemma2(name: str, shape: Shape, window: int) -> Blueprint:
    own: Keys = {
        **_RMS,
        **head_width(shape),
        "attention.sliding_window": window,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    layer = attention(shape) | gated(shape) | norms(shape, *_NORMS)
    return Blueprint(
        name,
        keys("gemma2", shape, own),
        tensors(ends(shape, tied=True), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _gemma3(name: str, shape: Shape, window: int) -> Blueprint:
    own = _RMS | head_width(shape) | {"attention.sliding_window": window}
    layer = attention(shape) | query_key_norms(shape) | gated(shape) | norms(shape, *_NORMS)
    return Blueprint(
        name,
        keys("gemma3", shape, own),
        tensors(ends(shape, tied=True), [layer] * shape.block_count),
        shape.vocab_size,
    )


def _every(period: int, layers: int) -> tuple[bool, ...]:
    """Say which layers are windowed where each last of a period sees everything."""
    return tuple((index + 1) % period != 0 for index in range(layers))


def _per_layer_ends(shape: Shape, width: int) -> Group:
    """Tensors of a second embedding, of which each layer gets a slice of this width."""
    total = width * shape.block_count
    return {
        "per_layer_token_embd.weight": (total, shape.vocab_size),
        "per_layer_model_proj.weight": (shape.embedding_length, total),
        "per_layer_proj_norm.weight": (width,),
    }


def _per_layer_input(shape: Shape, width: int) -> Group:
    return {
        "inp_gate.weight": (shape.embedding_length, width),
        "proj.weight": (width, shape.embedding_length),
        **norms(shape, "post_norm"),
    }


def _gemma3n(name: str, shape: Shape, *, window: int, shared: int) -> Blueprint:
    """Build a model of four streams side by side (AltUp) with a low-rank shortcut (LAuReL)."""
    width, streams, rank, slice_width = shape.embedding_length, 4, 64, 256
    layers = shape.block_count
    own: Keys = {
        **_RMS,
        **head_width(shape),
        "feed_forward_length": (shape.feed_forward_length,) * layers,
        "attention.sliding_window": window,
        "attention.sliding_window_pattern": _every(5, layers),
        "attention.shared_kv_layers": shared,
        "altup.active_idx": 0,
        "altup.num_inputs": streams,
        "embedding_length_per_layer_input": slice_width,
        "activation_sparsity_scale": (1.645,) * 10 + (float("-inf"),) * (layers - 10),
    }
    outside: Group = {
        "altup_proj.weight": (width, width, streams - 1),
        "altup_unembd_proj.weight": (width, width, streams - 1),
    }
    layer = attention(shape) | query_key_norms(shape) | gated(shape) | norms(shape, *_NORMS)
    layer |= _per_layer_input(shape, slice_width)
    layer |= norms(shape, "altup_correct_scale", "altup_router_norm", "laurel_post_norm")
    layer |= {
        "altup_correct_coef.weight": (streams, streams),
        "altup_predict_coef.weight": (streams, streams * streams),
        "altup_router.weight": (width, streams),
        "laurel_l.weight": (width, rank),
        "laurel_r.weight": (rank, width),
    }
    outside |= ends(shape, tied=True) | _per_layer_ends(shape, slice_width)
    return Blueprint(
        name, keys("gemma3n", shape, own), tensors(outside, [layer] * layers), shape.vocab_size
    )


class _Gemma4(NamedTuple):
    """What sets one Gemma 4 apart: windowed layers have the heads of its `Shape`."""

    window: int
    full_key_length: int = 512
    #: KV heads of a layer that sees everything, whose values are its keys; None: as elsewhere.
    full_head_count_kv: int | None = None
    shared: int = 0
    slice_width: int = 0


def _gemma4(name: str, shape: Shape, kind: _Gemma4) -> Blueprint:
    windowed = _every(6, shape.block_count)
    own: Keys = {
        **_RMS,
        "attention.key_length": kind.full_key_length,
        "attention.value_length": kind.full_key_length,
        "attention.key_length_swa": shape.key_length,
        "attention.value_length_swa": shape.key_length,
        "attention.sliding_window": kind.window,
        "attention.sliding_window_pattern": windowed,
        "attention.shared_kv_layers": kind.shared,
        "embedding_length_per_layer_input": kind.slice_width,
        "rope.dimension_count": kind.full_key_length,
        "rope.dimension_count_swa": shape.key_length,
        "rope.freq_base_swa": 10_000.0,
        "final_logit_softcapping": 30.0,
    }
    if kind.full_head_count_kv is not None:
        full = kind.full_head_count_kv
        own["attention.head_count_kv"] = tuple(
            shape.head_count_kv if local else full for local in windowed
        )
    outside = ends(shape, tied=True) | {"rope_freqs.weight": (kind.full_key_length // 2,)}
    if kind.slice_width:
        outside |= _per_layer_ends(shape, kind.slice_width)
    return Blueprint(
        name,
        keys("gemma4", shape, own),
        tensors(outside, [_gemma4_layer(shape, kind, local=local) for local in windowed]),
        shape.vocab_size,
    )


def _gemma4_layer(shape: Shape, kind: _Gemma4, *, local: bool) -> Group:
    """Return the tensors of one layer; a layer without KV of its own keeps the matrices unused."""
    wide = shape._replace(
        key_length=kind.full_key_length,
        head_count_kv=kind.full_head_count_kv or shape.head_count_kv,
    )
    heads = shape if local else wide
    layer = attention(heads) | query_key_norms(heads) | gated(shape) | norms(shape, *_NORMS)
    if kind.full_head_count_kv is not None and not local:
        del layer["attn_v.weight"]
    if kind.slice_width:
        layer |= _per_layer_input(shape, kind.slice_width)
    return layer | {"layer_output_scale.weight": (1,)}


def _cohere2(name: str, shape: Shape, window: int) -> Blueprint:
    """Build a model in which attention and feed-forward read the same norm side by side."""
    own: Keys = {
        "attention.layer_norm_epsilon": 1e-5,
        "attention.sliding_window": window,
        "logit_scale": 0.25,
        "rope.dimension_count": shape.key_length,
        "rope.scaling.type": "none",
        "vocab_size": shape.vocab_size,
        **head_width(shape),
    }
    layer = attention(shape) | gated(shape) | norms(shape, "attn_norm")
    return Blueprint(
        name,
        keys("cohere2", shape, own),
        tensors(ends(shape, tied=True), [layer] * shape.block_count),
        shape.vocab_size,
    )


_E4B = _Gemma4(window=512, shared=18, slice_width=256)
_31B = _Gemma4(window=1024, full_head_count_kv=4)

MODELS: dict[str, Callable[[], Blueprint]] = {
    "gemma-2-9b": partial(_gemma2, "gemma-2-9b", _GEMMA_2_9B, 4096),
    "gemma-3-270m": partial(_gemma3, "gemma-3-270m", _GEMMA_3_270M, 512),
    "gemma-3-4b": partial(_gemma3, "gemma-3-4b", _GEMMA_3_4B, 1024),
    "gemma-3-27b": partial(_gemma3, "gemma-3-27b", _GEMMA_3_27B, 1024),
    "gemma-3n-e4b": partial(_gemma3n, "gemma-3n-e4b", _GEMMA_3N_E4B, window=512, shared=15),
    "gemma-4-e4b": partial(_gemma4, "gemma-4-e4b", _GEMMA_4_E4B, _E4B),
    "gemma-4-31b": partial(_gemma4, "gemma-4-31b", _GEMMA_4_31B, _31B),
    "command-r7b": partial(_cohere2, "command-r7b", _COMMAND_R7B, 4096),
}
