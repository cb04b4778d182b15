"""Blueprints of models in which some or all layers keep a state of one size, and no KV cache.

The figures are those of each model's config.json on the Hugging Face Hub (another source is named
where it is used); the keys and tensors those that llama.cpp's converter writes (conversion/) and
its loader asks for (src/models/, b11540).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tests.engine import delta
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

#: What the converter writes as context length where positions are not encoded.
_ANY_LENGTH = 2**20

#                  layers, heads, KV heads, head width, embedding, ffn, vocab, context
# Without attention: the converter writes heads and feed-forward length as 0.
_MAMBA2_2_7B = Shape(64, 0, 0, 0, 2560, 0, 50_288, _ANY_LENGTH)
_GRANITE_4_H_TINY = Shape(40, 12, 4, 128, 1536, 512, 100_352, _ANY_LENGTH)
# The family's table in huggingface.co/docs/transformers/model_doc/falcon_h1; ffn and vocab are not
# in it and rest on the total, 7.59 billion parameters.
_FALCON_H1_7B = Shape(44, 12, 2, 128, 3072, 12288, 130_049, 262_144)
_NEMOTRON_NANO_9B = Shape(56, 40, 8, 128, 4480, 15680, 131_072, _ANY_LENGTH)
_NEMOTRON_3_NANO = Shape(52, 32, 2, 128, 2688, 1856, 131_072, _ANY_LENGTH)
_LFM2_1_2B = Shape(16, 32, 8, 64, 2048, 8192, 65_536, 128_000)
_LFM2_8B_A1B = Shape(24, 32, 8, 64, 2048, 7168, 65_536, 128_000)
_JAMBA_MINI = Shape(32, 32, 8, 128, 4096, 14336, 65_536, 262_144)

#: One sign a layer: M a state, * attention, - a dense network, E experts.
_NEMOTRON_NANO_9B_LAYERS = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
_NEMOTRON_3_NANO_LAYERS = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
_LFM2_1_2B_LAYERS = "MM*MM*MM*M*M*M*M"
_LFM2_8B_A1B_LAYERS = "MM*MMM*MMM*MMM*MMM*MM*MM"


class _Mamba2(NamedTuple):
    """The figures of a selective state: its width, its depth, its heads, its groups."""

    inner: int
    state: int
    heads: int
    groups: int

    def keys(self) -> Keys:
        """Return the keys from which the size of the state follows."""
        return {
            "ssm.conv_kernel": 4,
            "ssm.inner_size": self.inner,
            "ssm.state_size": self.state,
            "ssm.time_step_rank": self.heads,
            "ssm.group_count": self.groups,
        }

    def tensors(self, width: int) -> Group:
        """Return the tensors of a layer; two of them go without the suffix of the others."""
        convolved = self.inner + 2 * self.groups * self.state
        return {
            "ssm_in.weight": (width, self.inner + convolved + self.heads),
            "ssm_conv1d.weight": (4, convolved),
            "ssm_conv1d.bias": (convolved,),
            "ssm_dt.bias": (self.heads,),
            "ssm_a": (1, self.heads),
            "ssm_d": (1, self.heads),
            "ssm_norm.weight": (self.inner // self.groups, self.groups),
            "ssm_out.weight": (self.inner, width),
        }


def _kv_heads(shape: Shape, layers: str) -> tuple[int, ...]:
    """Return KV heads by layer: 0 is how a file says that a layer has no attention."""
    return tuple(shape.head_count_kv if sign == "*" else 0 for sign in layers)


def _mamba2(name: str, shape: Shape, state: _Mamba2) -> Blueprint:
    layer = norms(shape, "attn_norm") | state.tensors(shape.embedding_length)
    metadata = keys("mamba2", shape, _RMS | state.keys())
    # The converter does not write it for a model without attention.
    del metadata["mamba2.attention.head_count_kv"]
    slots = tensors(ends(shape, tied=True), [layer] * shape.block_count)
    return Blueprint(name, metadata, slots, shape.vocab_size)


def _granitehybrid(name: str, shape: Shape, state: _Mamba2) -> Blueprint:
    """Build a model with attention in each tenth layer from the sixth, experts in every one."""
    signs = "MMMMM*MMMM" * (shape.block_count // 10)
    experts, shared = 64, 1024
    own = _RMS | state.keys()
    own |= {
        "attention.head_count_kv": _kv_heads(shape, signs),
        "vocab_size": shape.vocab_size,
        "rope.dimension_count": shape.key_length,
        "rope.freq_base": 10_000.0,
        "rope.scaling.finetuned": False,
        "expert_count": experts,
        "expert_used_count": 6,
        "expert_shared_feed_forward_length": shared,
        "attention.scale": 0.0078125,
        "embedding_scale": 12.0,
        "residual_scale": 0.22,
        "logit_scale": 6.0,
    }
    common = norms(shape, "attn_norm", "ffn_norm")
    common |= routed(shape, experts, shape.feed_forward_length) | shared_expert(shape, shared)
    kinds = {"M": common | state.tensors(shape.embedding_length), "*": common | attention(shape)}
    slots = tensors(ends(shape, tied=True), [kinds[sign] for sign in signs])
    return Blueprint(name, keys("granitehybrid", shape, own), slots, shape.vocab_size)


def _falcon_h1(name: str, shape: Shape, state: _Mamba2) -> Blueprint:
    """Build a model that has both in each layer, side by side."""
    own = _RMS | state.keys() | head_width(shape)
    own |= {"vocab_size": shape.vocab_size, "rope.freq_base": 1e11}
    layer = attention(shape) | gated(shape) | norms(shape, "attn_norm")
    layer |= state.tensors(shape.embedding_length)
    # Its name has no suffix in these files.
    layer["ffn_norm"] = (shape.embedding_length,)
    slots = tensors(ends(shape, tied=False), [layer] * shape.block_count)
    return Blueprint(name, keys("falcon-h1", shape, own), slots, shape.vocab_size)


def _nemotron_h(name: str, shape: Shape, state: _Mamba2, signs: str) -> Blueprint:
    """Build a model whose layers have one part each: a state, attention, or a network."""
    width, wide = shape.embedding_length, shape.feed_forward_length
    own = _nemotron_keys(shape, state, signs)
    dense: Group = {"ffn_down.weight": (wide, width), "ffn_up.weight": (width, wide)}
    kinds = {"M": state.tensors(width), "*": attention(shape), "-": dense}
    layers = [norms(shape, "attn_norm") | kinds[sign] for sign in signs]
    slots = tensors(ends(shape, tied=False), layers)
    return Blueprint(name, keys("nemotron_h", shape, own), slots, shape.vocab_size)


def _nemotron_keys(shape: Shape, state: _Mamba2, signs: str) -> Keys:
    wide = shape.feed_forward_length
    return {
        **_RMS,
        **state.keys(),
        **head_width(shape),
        "attention.layer_norm_epsilon": 1e-5,
        "attention.head_count_kv": _kv_heads(shape, signs),
        "feed_forward_length": tuple(wide if sign in "-E" else 0 for sign in signs),
        "vocab_size": shape.vocab_size,
        "rope.dimension_count": shape.embedding_length // shape.head_count,
        "rope.scaling.finetuned": False,
    }


def _nemotron_h_moe(name: str, shape: Shape, state: _Mamba2, signs: str) -> Blueprint:
    """Build the same with experts, which have no gate.

    Keys as in the header of a published file (github.com/ggml-org/llama.cpp/issues/20570).
    """
    width, wide, experts, shared = shape.embedding_length, shape.feed_forward_length, 128, 3712
    own = _nemotron_keys(shape, state, signs)
    own |= {
        "expert_count": experts,
        "expert_used_count": 6,
        "expert_shared_count": 1,
        "expert_feed_forward_length": wide,
        "expert_shared_feed_forward_length": shared,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
        "expert_group_count": 1,
        "expert_group_used_count": 1,
    }
    network = routed(shape, experts, wide) | shared_expert(shape, shared)
    del network["ffn_gate_exps.weight"], network["ffn_gate_shexp.weight"]
    network["exp_probs_b.bias"] = (experts,)
    kinds = {"M": state.tensors(width), "*": attention(shape), "E": network}
    layers = [norms(shape, "attn_norm") | kinds[sign] for sign in signs]
    slots = tensors(ends(shape, tied=False), layers)
    return Blueprint(name, keys("nemotron_h_moe", shape, own), slots, shape.vocab_size)


def _short_convolution(shape: Shape, length: int) -> Group:
    width = shape.embedding_length
    return {
        "shortconv.conv.weight": (length, width),
        "shortconv.in_proj.weight": (width, 3 * width),
        "shortconv.out_proj.weight": (width, width),
    }


def _lfm2_parts(shape: Shape, signs: str) -> tuple[Keys, list[Group], Group]:
    """Return keys, the layers without their networks, and the tensors outside of them."""
    own: Keys = {
        **_RMS,
        "attention.head_count_kv": _kv_heads(shape, signs),
        "shortconv.l_cache": 3,
        "vocab_size": shape.vocab_size,
        "rope.freq_base": 1_000_000.0,
    }
    common = norms(shape, "attn_norm", "ffn_norm")
    kinds = {
        "M": common | _short_convolution(shape, 3),
        "*": common | attention(shape) | query_key_norms(shape),
    }
    outside = ends(shape, tied=True)
    # The last norm, under a name that was given by mistake and kept.
    outside["token_embd_norm.weight"] = outside.pop("output_norm.weight")
    return own, [kinds[sign] for sign in signs], outside


def _lfm2(name: str, shape: Shape, signs: str) -> Blueprint:
    own, layers, outside = _lfm2_parts(shape, signs)
    slots = tensors(outside, [layer | gated(shape) for layer in layers])
    return Blueprint(name, keys("lfm2", shape, own), slots, shape.vocab_size)


def _lfm2moe(name: str, shape: Shape, signs: str) -> Blueprint:
    dense, experts, wide = 2, 32, 1792
    own, layers, outside = _lfm2_parts(shape, signs)
    own |= {
        "expert_count": experts,
        "expert_used_count": 4,
        "expert_feed_forward_length": wide,
        "expert_gating_func": SIGMOID,
        "leading_dense_block_count": dense,
    }
    network = routed(shape, experts, wide) | {"exp_probs_b.bias": (experts,)}
    whole = [layer | gated(shape) for layer in layers[:dense]]
    whole += [layer | network for layer in layers[dense:]]
    return Blueprint(name, keys("lfm2moe", shape, own), tensors(outside, whole), shape.vocab_size)


def _jamba(name: str, shape: Shape) -> Blueprint:
    """Build a model with attention in each eighth layer, experts in each second."""
    signs = "MMMM*MMM" * (shape.block_count // 8)
    width, state, rank = shape.embedding_length, 16, 256
    own = _RMS | {
        "attention.head_count_kv": _kv_heads(shape, signs),
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 2 * width,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
        "expert_count": 16,
        "expert_used_count": 2,
    }
    kinds = {"M": _mamba1(width, state, rank), "*": attention(shape)}
    networks = (gated(shape), routed(shape, 16, shape.feed_forward_length))
    common = norms(shape, "attn_norm", "ffn_norm")
    layers = [common | kinds[sign] | networks[index % 2] for index, sign in enumerate(signs)]
    slots = tensors(ends(shape, tied=False), layers)
    return Blueprint(name, keys("jamba", shape, own), slots, shape.vocab_size)


def _mamba1(width: int, state: int, rank: int) -> Group:
    inner = 2 * width
    return {
        "ssm_in.weight": (width, 2 * inner),
        "ssm_conv1d.weight": (4, inner),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (inner, rank + 2 * state),
        "ssm_dt_norm.weight": (rank,),
        "ssm_b_norm.weight": (state,),
        "ssm_c_norm.weight": (state,),
        "ssm_dt.weight": (rank, inner),
        "ssm_dt.bias": (inner,),
        "ssm_a": (state, inner),
        "ssm_d": (inner,),
        "ssm_out.weight": (inner, width),
    }


MODELS: dict[str, Callable[[], Blueprint]] = {
    **delta.MODELS,
    "mamba2-2.7b": partial(_mamba2, "mamba2-2.7b", _MAMBA2_2_7B, _Mamba2(5120, 128, 80, 1)),
    "granite-4.0-h-tiny": partial(
        _granitehybrid, "granite-4.0-h-tiny", _GRANITE_4_H_TINY, _Mamba2(3072, 128, 48, 1)
    ),
    "falcon-h1-7b": partial(_falcon_h1, "falcon-h1-7b", _FALCON_H1_7B, _Mamba2(3072, 256, 24, 1)),
    "nemotron-nano-9b-v2": partial(
        _nemotron_h,
        "nemotron-nano-9b-v2",
        _NEMOTRON_NANO_9B,
        _Mamba2(10240, 128, 128, 8),
        _NEMOTRON_NANO_9B_LAYERS,
    ),
    "nemotron-3-nano-30b-a3b": partial(
        _nemotron_h_moe,
        "nemotron-3-nano-30b-a3b",
        _NEMOTRON_3_NANO,
        _Mamba2(4096, 128, 64, 8),
        _NEMOTRON_3_NANO_LAYERS,
    ),
    "lfm2-1.2b": partial(_lfm2, "lfm2-1.2b", _LFM2_1_2B, _LFM2_1_2B_LAYERS),
    "lfm2-8b-a1b": partial(_lfm2moe, "lfm2-8b-a1b", _LFM2_8B_A1B, _LFM2_8B_A1B_LAYERS),
    "jamba-mini": partial(_jamba, "jamba-mini", _JAMBA_MINI),
}
