"""The tensors of catalogued models, from their shape alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.blueprint import blueprint

if TYPE_CHECKING:
    from quantpick.domain.blueprint import Slot
    from quantpick.domain.shape import Shape


def slots_of(shape: Shape, *, rope_freqs: bool) -> tuple[Slot, ...]:
    """Return names and dimensions; ``rope_freqs`` adds the tensor that Llama 3.1 and 3.2 have."""
    slots = blueprint(
        architecture=shape.architecture,
        block_count=shape.block_count,
        head_count=shape.head_count,
        head_count_kv=shape.head_count_kv,
        key_length=shape.key_length,
        value_length=shape.value_length,
        embedding_length=shape.embedding_length,
        feed_forward_length=shape.feed_forward_length,
        vocab_size=shape.vocab_size,
        tied=shape.tied,
        rope_freqs=rope_freqs,
    )
    assert slots is not None
    return slots
