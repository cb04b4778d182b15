"""The tensors of a model that is known by its figures alone: names and dimensions.

As llama.cpp's converter writes them and its loader (src/models/, b11540) asks for them, for the
architectures whose figures tell everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from quantpick.domain.shape import Shape

#: A tensor by name and dimensions, in ggml's order: the length of a row first.
Slot = tuple[str, tuple[int, ...]]


class _Style(NamedTuple):
    """What tells the transformers of one architecture from those of another.

    ``biased`` marks biases of queries, keys and values, and ``all_biased`` those of the output and
    the experts too. ``head_norms`` is over each head of queries and keys, ``wide_norms`` over all
    heads at once. ``joined`` marks queries, keys and values in one matrix, ``joined_gate`` gate
    and up in one. ``sinks`` are a number a head that attention may fall into.
    """

    norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    biased: bool = False
    all_biased: bool = False
    head_norms: bool = False
    wide_norms: bool = False
    joined: bool = False
    joined_gate: bool = False
    sinks: bool = False
    tied: bool = False
    rope: tuple[str, ...] = ("rope_freqs",)


_FOUR_NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
_PHI_ROPE = ("rope_factors_long", "rope_factors_short")

_STYLES = {
    "gemma2": _Style(norms=_FOUR_NORMS, tied=True),
    "gemma3": _Style(norms=_FOUR_NORMS, tied=True, head_norms=True),
    "glm4": _Style(norms=_FOUR_NORMS, biased=True, joined_gate=True),
    "gpt-oss": _Style(
        norms=("attn_norm", "post_attention_norm"), biased=True, all_biased=True, sinks=True
    ),
    "llama": _Style(),
    "olmo2": _Style(norms=("post_attention_norm", "post_ffw_norm"), wide_norms=True),
    "phi3": _Style(joined=True, joined_gate=True, rope=_PHI_ROPE),
    "qwen2": _Style(biased=True),
    "qwen2vl": _Style(biased=True),
    "qwen3": _Style(head_norms=True),
    "qwen3moe": _Style(head_norms=True),
    "qwen3vl": _Style(head_norms=True),
    "smollm3": _Style(),
}

#: What has experts, and what may have.
_WITH_EXPERTS = frozenset({"gpt-oss", "qwen3moe"})
_EXPERTS_POSSIBLE = _WITH_EXPERTS | {"llama"}


class _Widths(NamedTuple):
    """Lengths of the vectors that a model's matrices lead from and to."""

    embedding: int
    query: int
    key: int
    value: int
    #: All heads' outputs together, which the output matrix of attention reads.
    heads: int
    feed_forward: int
    head: int
    experts: int


def blueprint(shape: Shape, *, rope_freqs: bool = False) -> tuple[Slot, ...] | None:
    """Return the tensors of a model, None if its figures do not tell them.

    ``rope_freqs`` marks a model with a factor for each rotary frequency, such as Llama 3.x.
    """
    style = _STYLES.get(shape.architecture)
    if style is None or not _experts_make_sense(shape):
        return None
    # An expert of Mixtral's kind is as wide as the feed-forward network of a dense model.
    expert_width = shape.expert_feed_forward_length if shape.expert_count else 0
    widths = _Widths(
        embedding=shape.embedding_length,
        query=shape.head_count * shape.key_length,
        key=shape.head_count_kv * shape.key_length,
        value=shape.head_count_kv * shape.value_length,
        heads=shape.head_count * shape.value_length,
        feed_forward=expert_width or shape.feed_forward_length,
        head=shape.key_length,
        experts=shape.expert_count,
    )
    ends = _ends(widths, shape.vocab_size, tied=shape.tied or style.tied)
    if rope_freqs:
        ends |= {f"{name}.weight": (widths.head // 2,) for name in style.rope}
    layer = _attention(widths, style) | _feed_forward(widths, style)
    layer |= {f"{name}.weight": (widths.embedding,) for name in style.norms}
    blocks = range(shape.block_count)
    inside = ((f"blk.{i}.{name}", dims) for i in blocks for name, dims in layer.items())
    return (*ends.items(), *inside)


def _experts_make_sense(shape: Shape) -> bool:
    if shape.expert_count:
        return shape.architecture in _EXPERTS_POSSIBLE
    return shape.architecture not in _WITH_EXPERTS


def _ends(widths: _Widths, vocab_size: int, *, tied: bool) -> dict[str, tuple[int, ...]]:
    table = (widths.embedding, vocab_size)
    output = {} if tied else {"output.weight": table}
    return {"token_embd.weight": table, "output_norm.weight": (widths.embedding,), **output}


def _attention(widths: _Widths, style: _Style) -> dict[str, tuple[int, ...]]:
    sides = {"attn_q": widths.query, "attn_k": widths.key, "attn_v": widths.value}
    if style.joined:
        sides = {"attn_qkv": sum(sides.values())}
    found: dict[str, tuple[int, ...]] = {
        f"{name}.weight": (widths.embedding, width) for name, width in sides.items()
    }
    found["attn_output.weight"] = (widths.heads, widths.embedding)
    if style.biased:
        found |= {f"{name}.bias": (width,) for name, width in sides.items()}
    if style.all_biased:
        found["attn_output.bias"] = (widths.embedding,)
    if style.sinks:
        found["attn_sinks.weight"] = (widths.heads // widths.head,)
    if style.head_norms:
        found |= {f"{name}.weight": (widths.head,) for name in ("attn_q_norm", "attn_k_norm")}
    if style.wide_norms:
        found |= {"attn_q_norm.weight": (widths.query,), "attn_k_norm.weight": (widths.key,)}
    return found


def _feed_forward(widths: _Widths, style: _Style) -> dict[str, tuple[int, ...]]:
    narrow, wide = widths.embedding, widths.feed_forward
    if style.joined_gate:
        return {"ffn_up.weight": (narrow, 2 * wide), "ffn_down.weight": (wide, narrow)}
    plain = {"ffn_gate": (narrow, wide), "ffn_up": (narrow, wide), "ffn_down": (wide, narrow)}
    if not widths.experts:
        return {f"{name}.weight": dims for name, dims in plain.items()}
    found: dict[str, tuple[int, ...]] = {"ffn_gate_inp.weight": (narrow, widths.experts)}
    found |= {f"{name}_exps.weight": (*dims, widths.experts) for name, dims in plain.items()}
    if style.all_biased:
        found["ffn_gate_inp.bias"] = (widths.experts,)
        found |= {f"{name}_exps.bias": (out, widths.experts) for name, (_, out) in plain.items()}
    return found
