"""Parts that most blueprints share: the keys and the tensors of a plain transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from quantpick.domain.header import Scalar
    from tests.engine.hollow import Slot

Keys = dict[str, "Scalar | tuple[Scalar, ...]"]

#: Tensors of one layer, or of none, by name without the layer's prefix.
Group = dict[str, tuple[int, ...]]


class Shape(NamedTuple):
    """The figures of a plain transformer, in the order of a published table."""

    block_count: int
    head_count: int
    head_count_kv: int
    key_length: int
    embedding_length: int
    feed_forward_length: int
    vocab_size: int
    context_length: int

    @property
    def query_width(self) -> int:
        """Width of all query heads."""
        return self.head_count * self.key_length

    @property
    def kv_width(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.head_count_kv * self.key_length


def keys(architecture: str, shape: Shape, own: Mapping[str, Scalar | tuple[Scalar, ...]]) -> Keys:
    """Return what every converter writes, with the keys of this architecture (no prefix) added."""
    common: Keys = {
        "context_length": shape.context_length,
        "embedding_length": shape.embedding_length,
        "block_count": shape.block_count,
        "feed_forward_length": shape.feed_forward_length,
        "attention.head_count": shape.head_count,
        "attention.head_count_kv": shape.head_count_kv,
    }
    prefixed = {f"{architecture}.{key}": value for key, value in {**common, **own}.items()}
    return {"general.architecture": architecture, **prefixed}


def head_width(shape: Shape) -> Keys:
    """Name the width of a head, as converters do where the model's own config names it."""
    return {
        "attention.key_length": shape.key_length,
        "attention.value_length": shape.key_length,
    }


def attention(shape: Shape) -> Group:
    """Four matrices of attention."""
    return {
        "attn_q.weight": (shape.embedding_length, shape.query_width),
        "attn_k.weight": (shape.embedding_length, shape.kv_width),
        "attn_v.weight": (shape.embedding_length, shape.kv_width),
        "attn_output.weight": (shape.query_width, shape.embedding_length),
    }


def query_key_norms(shape: Shape) -> Group:
    """Norms over each head of queries and keys."""
    return {"attn_q_norm.weight": (shape.key_length,), "attn_k_norm.weight": (shape.key_length,)}


def gated(shape: Shape) -> Group:
    """Three matrices of a gated feed-forward network."""
    wide, narrow = shape.feed_forward_length, shape.embedding_length
    return {
        "ffn_gate.weight": (narrow, wide),
        "ffn_up.weight": (narrow, wide),
        "ffn_down.weight": (wide, narrow),
    }


def norms(shape: Shape, *names: str) -> Group:
    """One weight an embedding dimension under each name."""
    return {f"{name}.weight": (shape.embedding_length,) for name in names}


def ends(shape: Shape, *, tied: bool) -> Group:
    """Embedding, last norm and, unless it is the embedding again, the output."""
    table = (shape.embedding_length, shape.vocab_size)
    output = {} if tied else {"output.weight": table}
    return {"token_embd.weight": table, **norms(shape, "output_norm"), **output}


def tensors(outside: Group, layers: Iterable[Group]) -> tuple[Slot, ...]:
    """Name all tensors: those outside the layers as they are, those inside by their layer."""
    inside = [
        (f"blk.{index}.{name}", dims)
        for index, group in enumerate(layers)
        for name, dims in group.items()
    ]
    return (*outside.items(), *inside)
