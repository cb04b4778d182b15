"""Tensors of a GGUF file: their names, dimensions and encodings, and so their bytes."""

from __future__ import annotations

from math import prod
from typing import NamedTuple


class TensorType(NamedTuple):
    """How one tensor is encoded: blocks of ``elements`` numbers in ``bytes`` bytes."""

    name: str
    elements: int
    bytes: int


#: GGUF's type numbers. Block sizes are those of the package gguf (a test compares them over its
#: whole enum) and, for Q2_0, which it does not have yet, of ggml.h at llama.cpp b11540.
TENSOR_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 40),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}

TYPES_BY_NAME = {kind.name: kind for kind in TENSOR_TYPES.values()}


class Tensor(NamedTuple):
    """One row of a tensor table; ``dims`` in ggml's order, the length of a row first."""

    name: str
    dims: tuple[int, ...]
    type: str

    @property
    def nbytes(self) -> int:
        """Bytes of the data, without padding."""
        return tensor_bytes(self.dims, self.type)


def tensor_bytes(dims: tuple[int, ...], type_name: str) -> int:
    """Bytes of a tensor of these dimensions in this type."""
    kind = TYPES_BY_NAME[type_name]
    return prod(dims) // kind.elements * kind.bytes
