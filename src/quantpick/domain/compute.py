"""The compute buffer: scratch memory of the widest moment while a batch is computed.

llama.cpp packs the tensors of a graph by lifetime (ggml-alloc.c), so the buffer is the largest sum
of tensors alive at once. Which moment that is was found by measuring 50 models in their true shape
with llama.cpp b11540 and b11549; ``README`` shows how far the estimate is off.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.cache import largest_cache_tensor, padded, window_cells
from quantpick.domain.shape import layers_of

if TYPE_CHECKING:
    from quantpick.domain.need import Need
    from quantpick.domain.shape import Shape

_F32 = 4
_F16 = 2

#: Architectures whose feed-forward layers have no gate, so one row in place of three.
_UNGATED = frozenset({"gptneox", "nemotron", "nemotron_h", "nemotron_h_moe", "phi2", "starcoder2"})

#: Architectures whose shared expert is computed while the routed ones are still held.
_SHARED_BESIDE = frozenset({"llama4"})

#: By how much the estimate for an architecture that is not known is raised, to be a bound. Taken
#: for unknown, none of 42 measured models needs more than 1.17 times the common rule.
_UNKNOWN_FACTOR = 2

#: Query heads a KV head from which on a copied cache takes more room.
_MANY_SHARE = 4

#: Rows of the embedding's width that models hold beside the common ones where their layers get
#: inputs of their own (Gemma 3n and 4).
_ROWS_FOR_LAYER_INPUTS = 4


class Compute(NamedTuple):
    """Scratch memory in bytes of one offloaded model, for each kind of place.

    ``first`` and ``further`` are the buffers of the first and any further device, ``host`` the
    pinned part that the first device reads its inputs from. ``layer`` is what a device holds while
    it works through a layer's matrices, beside which copied weights need their room.
    """

    first: int
    further: int
    host: int
    layer: int


@cache
def estimate_compute(shape: Shape, need: Need) -> int:
    """Bytes of the compute buffer in RAM of a model that runs on the CPU alone."""
    row = need.rows * _F32
    return _widest_moment(shape, need, 2, shape.embedding_length * row)


@cache
def estimate_offloaded(shape: Shape, need: Need, *, pipelined: bool) -> Compute:
    """Bytes of the compute buffers of a model with layers on devices.

    Several devices that hold all layers work as a pipeline of four batches, and keep four copies
    of the mask and of the rows that come in and pass between them (``ggml_backend_sched``). How
    many rows each place holds was measured at b11549.
    """
    row = need.rows * _F32
    width = shape.embedding_length * row
    mask = _mask_bytes(shape, need)
    # Unfused attention reads its keys and values from there too.
    keys = 0 if need.fused else 2 * shape.head_count_kv * shape.key_length * row
    single = _widest_moment(shape, need, 1, 0)
    if not pipelined:
        layer = mask + _layer_rows(shape) * row
        return Compute(single, single, mask + 4 * width + keys, layer)
    return Compute(
        first=single + 3 * mask + 12 * width,
        further=single + 3 * mask + 8 * width,
        host=4 * mask + 10 * width + keys,
        layer=0,
    )


@cache
def estimate_staged_cache(shape: Shape, need: Need) -> int:
    """Bytes on the first device while it attends over the cache of a layer that lives in RAM.

    K and V of one layer are copied over, and where many heads share few KV heads another copy of
    one of them is held (measured at b11549).
    """
    copies = 3 if shape.head_count >= _MANY_SHARE * shape.head_count_kv else 2
    if need.fused:
        beside = _mask_bytes(shape, need) + 5 * shape.embedding_length * need.rows * _F32
    else:
        beside = _widest_moment(shape, need, 1, 0)
    return beside + copies * largest_cache_tensor(shape, need)


def _mask_bytes(shape: Shape, need: Need) -> int:
    """Bytes of the attention masks: a number a cell and token, in f16 with flash attention."""
    if not shape.head_count:
        return 0
    cells = padded(need.ctx_size) + window_cells(shape, need)
    return cells * need.rows * (_F16 if need.fused else _F32)


def _widest_moment(shape: Shape, need: Need, logit_rows: int, beside: int) -> int:
    """Return the larger of two moments: the logits of all slots, or the widest layer.

    ``beside`` are bytes that the CPU holds where a device reads its input from the host.
    """
    row = need.rows * _F32
    logits = shape.vocab_size * need.parallel * _F32 + logit_rows * shape.embedding_length * row
    layer = _mask_bytes(shape, need) + _layer_rows(shape) * row
    if shape.recurrent_rows:
        # The states of all slots of one layer are rewritten at once.
        states = max(item.state for item in layers_of(shape)) * need.parallel * _F32
        scan = (shape.recurrent_rows + shape.embedding_length) * row + states
        layer = max(layer, _mask_bytes(shape, need) + scan)
    if not need.fused:
        layer = max(layer, _mask_bytes(shape, need) + _attention_bytes(shape, need))
    return max(logits, layer + beside) * (1 if shape.known else _UNKNOWN_FACTOR)


def _attention_bytes(shape: Shape, need: Need) -> int:
    """Bytes of unfused attention: the scores of every head, with queries, keys and residuals."""
    row = need.rows * _F32
    heads = shape.head_count * shape.key_length
    keys = shape.head_count_kv * shape.key_length
    scores = padded(need.ctx_size) * shape.head_count * row
    if shape.latent:
        mask = padded(need.ctx_size) * need.rows * _F16
        return scores + mask + _latent_rows(shape) * row
    return scores + 2 * (shape.embedding_length + heads + keys) * row


def _layer_rows(shape: Shape) -> int:
    """Numbers a token in the widest moment of a layer: feed-forward, experts or latent heads."""
    e = shape.embedding_length
    heads = e if shape.latent else shape.head_count * shape.key_length
    inputs = shape.per_layer_inputs
    extra = inputs + _ROWS_FOR_LAYER_INPUTS * e if inputs else 0
    gates = 1 if shape.architecture in _UNGATED else 3
    moments = [gates * shape.feed_forward_length + 3 * e + heads]
    if shape.expert_used_count:
        used, wide = shape.expert_used_count, shape.expert_feed_forward_length
        moments = [gates * used * (wide or shape.feed_forward_length) + 3 * e + heads]
        if shape.architecture in _SHARED_BESIDE:
            moments[0] += gates * wide
        # The outputs of all experts used, before and after they are weighted.
        moments.append(2 * used * e + 5 * e)
    if shape.latent:
        moments.append(_latent_rows(shape))
    return max(moments) + extra


def _latent_rows(shape: Shape) -> int:
    """Numbers a token while heads attend over the latent cache: two latent rows and a query."""
    e = shape.embedding_length
    return shape.head_count * (2 * shape.key_length + shape.latent_query) + 3 * e
