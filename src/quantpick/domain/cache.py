"""The KV cache and recurrent state, layer by layer: exact, from the model's shape.

Formulas are llama.cpp's own: llama-kv-cache.cpp, llama-kv-cache-iswa.cpp and
llama-memory-recurrent.cpp. The tests hold them to what the engine prints, to its last digit.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from quantpick.domain.need import CacheType
from quantpick.domain.shape import layers_of

if TYPE_CHECKING:
    from quantpick.domain.need import Need
    from quantpick.domain.shape import Layer, Shape

#: Bytes that 32 elements take: block quants hold 32 elements and a scale.
_BYTES_OF_32 = {
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

#: Recurrent state is kept in f32, once a slot.
_STATE_BYTES = 4


def padded(tokens: int) -> int:
    """Cells of a cache for so many tokens: a multiple of 256."""
    return -(-tokens // 256) * 256


def window_cells(shape: Shape, need: Need) -> int:
    """Cells of a sliding-window layer: min(context, window x slots + micro-batch), padded.

    0 for a model without sliding windows.
    """
    if not shape.sliding_window:
        return 0
    wanted = shape.sliding_window * need.parallel + need.rows
    return padded(min(padded(need.ctx_size), wanted))


@cache
def layer_caches(shape: Shape, need: Need) -> tuple[int, ...]:
    """Bytes that each layer remembers at the wanted context, first layer first.

    Cells x (K width + V width) in their types, plus the recurrent state of every slot. Without
    flash attention V is stored transposed, as wide in every layer as in the widest.
    """
    layers = layers_of(shape)
    widest = 0 if need.fused else max(layer.value_width for layer in layers)
    full, window = padded(need.ctx_size), window_cells(shape, need)
    sizes = {
        layer: _layer_bytes(layer, window if layer.windowed else full, widest, need)
        for layer in set(layers)
    }
    return tuple(sizes[layer] for layer in layers)


def estimate_kv_cache(shape: Shape, need: Need) -> int:
    """Bytes of the KV cache and recurrent state of all layers."""
    return sum(layer_caches(shape, need))


def largest_cache_tensor(shape: Shape, need: Need) -> int:
    """Bytes of the largest single K or V tensor, which has to fit one buffer of the backend."""
    cells = {True: window_cells(shape, need), False: padded(need.ctx_size)}
    key, value = _BYTES_OF_32[need.type_k], _BYTES_OF_32[need.type_v]
    return max(
        cells[layer.windowed] * max(layer.key_width * key, layer.value_width * value) // 32
        for layer in set(layers_of(shape))
    )


def _layer_bytes(layer: Layer, cells: int, widest: int, need: Need) -> int:
    value_width = max(layer.value_width, widest if layer.value_width else 0)
    row = layer.key_width * _BYTES_OF_32[need.type_k] + value_width * _BYTES_OF_32[need.type_v]
    return cells * row // 32 + layer.state * _STATE_BYTES * need.parallel
