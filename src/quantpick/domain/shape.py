"""The figures of a model that decide its memory, named as in GGUF metadata."""

from typing import NamedTuple

#: llama.cpp's own limit, LLAMA_MAX_LAYERS.
MOST_BLOCKS = 512

#: Figures that only some models have, 0 in the others, in the order of a catalog file.
FURTHER_FIGURES = (
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "idle_blocks",
    "latent_query",
    "per_layer_inputs",
    "recurrent_rows",
)


class Layer(NamedTuple):
    """What one layer remembers: numbers per cell in K and in V, and f32 numbers per sequence.

    A ``windowed`` layer keeps the cells of its sliding window only. Layers without attention, or
    that use another layer's cache, have no width; those without a recurrent state no ``state``.
    """

    key_width: int = 0
    value_width: int = 0
    windowed: bool = False
    state: int = 0


class Shape(NamedTuple):
    """The figures of a model that decide its memory.

    ``sliding_window`` is in tokens, and every ``sliding_window_pattern``-th layer sees the whole
    context; both are None for a model without sliding windows. ``layers`` is given where the
    layers differ in more than that. ``tied`` marks an output layer that shares the token
    embedding. The last ``idle_blocks`` of all blocks (multi-token prediction) are not loaded by
    default, but llama.cpp counts them among the layers. ``latent_query`` is the width of a query
    head over a latent cache, 0 without one; ``per_layer_inputs`` counts the numbers a token that
    the layers get beside the embedding, and ``recurrent_rows`` those that a state-space layer
    works on. ``parameters`` is the count of weights without a separate vision tower; 0 if unknown.
    ``known`` is False for an architecture whose rules are not known, which makes every estimate a
    bound.
    """

    architecture: str
    parameters: int
    block_count: int
    head_count: int
    head_count_kv: int
    key_length: int
    value_length: int
    embedding_length: int
    feed_forward_length: int
    vocab_size: int
    context_length: int
    sliding_window: int | None = None
    sliding_window_pattern: int | None = None
    tied: bool = False
    expert_count: int = 0
    expert_used_count: int = 0
    expert_feed_forward_length: int = 0
    layers: tuple[Layer, ...] = ()
    idle_blocks: int = 0
    latent_query: int = 0
    per_layer_inputs: int = 0
    recurrent_rows: int = 0
    known: bool = True

    @property
    def latent(self) -> bool:
        """Whether attention works on a latent cache that all heads share (MLA)."""
        return self.latent_query > 0


def layers_of(shape: Shape) -> tuple[Layer, ...]:
    """Return what each layer remembers, first layer first."""
    if shape.layers:
        return shape.layers
    full = Layer(shape.head_count_kv * shape.key_length, shape.head_count_kv * shape.value_length)
    if not shape.sliding_window or not shape.sliding_window_pattern:
        return (full,) * shape.block_count
    period = shape.sliding_window_pattern
    windowed = full._replace(windowed=True)
    return tuple(
        windowed if index % period < period - 1 else full for index in range(shape.block_count)
    )
