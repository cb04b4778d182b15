"""Where the bytes of a quant go, from the header of another quant of the same model.

All quants of a repo have the same tensors; only the types differ, and those follow from the label
by llama.cpp's mixing rules. The size of the real file tells whether its maker kept to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.mixing import mixed_types
from quantpick.domain.tensors import Tensor
from quantpick.domain.weights import weights_of

if TYPE_CHECKING:
    from quantpick.domain.header import Header
    from quantpick.domain.shape import Shape
    from quantpick.domain.weights import Weights

#: How far a file may be from its predicted size and still count as mixed by the rules.
_TOLERANCE = 0.001

_ALIGNMENT = 32


def predict_weights(header: Header, shape: Shape, label: str, file_bytes: int) -> Weights | None:
    """Return where a quant's bytes go, None where its mix is not llama.cpp's own.

    ``header`` is of any quant of the same model; both ways to mix are tried, with an importance
    matrix and without.
    """
    for imatrix in (True, False):
        tensors = _mixed(header, shape, label, imatrix=imatrix)
        if tensors is None:
            return None
        data = sum(-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors)
        if abs(data + header.header_bytes - file_bytes) <= _TOLERANCE * file_bytes:
            return weights_of(tensors, shape.block_count, shape.idle_blocks)
    return None


def _mixed(header: Header, shape: Shape, label: str, *, imatrix: bool) -> tuple[Tensor, ...] | None:
    types = mixed_types(
        label,
        tuple((tensor.name, tensor.dims) for tensor in header.tensors),
        architecture=shape.architecture,
        block_count=shape.block_count,
        head_count=_count(header, f"{shape.architecture}.attention.head_count", shape.head_count),
        head_count_kv=_count(
            header, f"{shape.architecture}.attention.head_count_kv", shape.head_count_kv
        ),
        expert_count=shape.expert_count,
        imatrix=imatrix,
        source=tuple(tensor.type for tensor in header.tensors),
    )
    if types is None:
        return None
    rows = zip(header.tensors, types, strict=True)
    return tuple(Tensor(tensor.name, tensor.dims, kind) for tensor, kind in rows)


def _count(header: Header, key: str, default: int) -> int:
    """Return a whole number; of one a layer, the first layer's."""
    value = header.metadata.get(key)
    if isinstance(value, tuple) and value:
        value = value[0]
    return value if isinstance(value, int) else default
