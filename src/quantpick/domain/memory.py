"""What llama-server needs beside the file: KV cache and compute buffer, from the model's shape.

Formulas are llama.cpp's own, read in its source at build b10587 and compared with what it prints:
the KV cache of 200 measured runs to the hundredth of a MiB, the compute buffer of llama-type models
with flash attention within 0.1 MiB. They hold for llama-server with its defaults: flash attention
on, micro-batch 512, four slots over one unified cache.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.need import CacheType

if TYPE_CHECKING:
    from quantpick.domain.model import Shape
    from quantpick.domain.need import Need

#: llama-server's defaults: slots over one cache, and tokens computed at once.
SLOTS = 4
MICRO_BATCH = 512

#: Bytes that 32 elements take: block quants hold 32 elements and a scale.
_CACHE_BYTES = {
    CacheType.F32: 128,
    CacheType.F16: 64,
    CacheType.BF16: 64,
    CacheType.Q8_0: 34,
    CacheType.Q5_1: 24,
    CacheType.Q5_0: 22,
    CacheType.Q4_1: 20,
    CacheType.Q4_0: 18,
    CacheType.IQ4_NL: 18,
}


class Memory(NamedTuple):
    """Terms of what a quant needs, in bytes; None marks a term that cannot be known.

    ``total`` is the sum of the known terms, so a lower bound when one is unknown.
    """

    weights: int
    kv_cache: int | None
    compute: int | None

    @property
    def total(self) -> int:
        """Sum of the known terms."""
        return self.weights + (self.kv_cache or 0) + (self.compute or 0)

    @property
    def complete(self) -> bool:
        """Whether every term is known."""
        return self.kv_cache is not None and self.compute is not None


def estimate_memory(file_bytes: int, shape: Shape | None, need: Need, *, gpus: int) -> Memory:
    """Return the memory of a file at the wanted context, on ``gpus`` devices (0 = on the CPU).

    The weights are the whole file. llama.cpp keeps the token embedding of an offloaded model in
    RAM, unless the output layer shares it, so the true VRAM need is lower by 1 to 2 % of the file.
    """
    if shape is None:
        return Memory(file_bytes, None, None)
    return Memory(file_bytes, estimate_kv_cache(shape, need), estimate_compute(shape, need, gpus))


@cache
def estimate_kv_cache(shape: Shape, need: Need) -> int:
    """Bytes of the KV cache: per layer, cells x (K width + V width) in their types.

    A sliding-window layer keeps min(context, window x slots + micro-batch) cells; cells are
    rounded up to 256 (llama-kv-cache.cpp, llama-kv-cache-iswa.cpp).
    """
    cells = _cells(need.ctx_size)
    windowed, window_cells = 0, 0
    if shape.sliding_window and shape.sliding_window_pattern:
        windowed = shape.block_count - shape.block_count // shape.sliding_window_pattern
        window_cells = _cells(min(cells, shape.sliding_window * SLOTS + MICRO_BATCH))
    rows = (shape.block_count - windowed) * cells + windowed * window_cells
    width = shape.head_count_kv * (
        shape.key_length * _CACHE_BYTES[need.type_k]
        + shape.value_length * _CACHE_BYTES[need.type_v]
    )
    return rows * width // 32


@cache
def estimate_compute(shape: Shape, need: Need, gpus: int) -> int:
    """Bytes of the compute buffers on all devices (or in RAM, for ``gpus`` = 0).

    The larger of two moments: the logits of the slots, and the attention mask with one layer's
    feed-forward and residual rows. Gemma's rows differ by its wider heads. Several devices keep a
    buffer each.
    """
    rows = MICRO_BATCH * 4
    e, f = shape.embedding_length, shape.feed_forward_length
    gemma = shape.architecture.startswith("gemma")
    heads = shape.head_count * shape.key_length if gemma else 0
    cells = _cells(need.ctx_size)
    if shape.sliding_window:
        cells += _cells(min(cells, shape.sliding_window * SLOTS + MICRO_BATCH))
    mask = cells * MICRO_BATCH * 2
    logits = shape.vocab_size * SLOTS * 4
    if gpus == 0:
        layer = (3 * f + 3 * e + (heads if gemma else e)) * rows
        return max(logits + 2 * e * rows, mask + layer)
    layer = (3 * f + 2 * e + 2 * heads) * rows
    return gpus * max(logits + e * rows, mask + layer)


def _cells(tokens: int) -> int:
    return -(-tokens // 256) * 256
