"""Bits a weight that go with a label: not below its smallest type's, nor above its largest's."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from quantpick.domain.compatibility import BORN_IN
from quantpick.domain.quant import base_label
from quantpick.domain.tensors import TYPES_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from quantpick.domain.model import QuantInfo

#: How far norms, biases and what is counted as a parameter may move a file out of its types' bits.
_BELOW, _ABOVE = 0.97, 1.04

#: Bits more that makers of llama.cpp's own mixes spend on the newest models (Gemma 4, 2026).
_SPENT = 1.0

#: Mixes of others than llama.cpp keep what they like in more bits, those of 8 bits in any number of
#: them, but little in fewer.
_MIXED_BELOW, _MIXED_ABOVE, _FLOAT = 0.95, 4.0, 16.0

_BYTE = 8

#: Where rows are not of whole blocks of 256, llama.cpp falls back to types of up to so many bits.
_BLOCK, _FALLBACK = 256, 8.5

#: llama.cpp's own mixes in the order of their sizes, whatever the model, and what counts as equal.
_CHAINS = (
    ("Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K", "Q8_0", "F16", "F32"),
    ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K"),
    ("Q3_K_S", "Q3_K_M", "Q3_K_L"),
    ("Q4_K_S", "Q4_K_M"),
    ("Q5_K_S", "Q5_K_M"),
    ("IQ1_S", "IQ1_M", "IQ2_M", "IQ3_M"),
    ("IQ2_XXS", "IQ2_XS", "IQ2_M"),
    ("IQ3_XXS", "IQ3_XS", "IQ4_XS"),
)
_SAME = 1.005


def band_of(label: str, info: QuantInfo, shape: Mapping[str, Any]) -> tuple[float, float]:
    """Return the fewest and the most bits a weight that a file of this label has."""
    if shape.get("architecture") in BORN_IN:
        return 0.0, 32 * _ABOVE
    types = [_bits_of(kind) for kind in info.tensor_types]
    own = [bits for bits in types if bits is not None]
    mixed = label != base_label(label) and not label.startswith("i1-")
    if mixed or not own or len(own) < len(types):
        most = _FLOAT if info.bits >= _BYTE else info.bits + _MIXED_ABOVE
        low, high = info.bits * _MIXED_BELOW, most
    else:
        low, high = min(own) * _BELOW, max(own) + _SPENT
    widths = (shape.get("embedding_length"), shape.get("feed_forward_length"))
    if any(isinstance(width, int) and width % _BLOCK for width in widths):
        high = max(high, _FALLBACK * _ABOVE)
    return low, high


def out_of_order(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield pairs of labels of one repo, of which the smaller quant is the larger file."""
    by_label = {row["label"]: row for row in rows}
    for labels in _CHAINS:
        chain = [by_label[label] for label in labels if label in by_label]
        for small, large in pairwise(chain):
            slack = (small.get("rounded_to") or 0) + (large.get("rounded_to") or 0)
            if small["bytes"] > large["bytes"] * _SAME + slack:
                yield small["label"], large["label"]


def _bits_of(kind: str) -> float | None:
    # Q4_0_4_4 and its like are Q4_0 in another order.
    known = TYPES_BY_NAME.get("Q4_0" if kind.startswith("Q4_0_") else kind)
    return None if known is None else 8 * known.bytes / known.elements
