"""What the header of a GGUF file says, without its data: key-values and the tensor table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantpick.domain.tensors import Tensor

Scalar = bool | int | float | str


class LongArray(NamedTuple):
    """An array that was walked past, such as a tokenizer's: its element type and length."""

    type: str
    length: int


Value = Scalar | tuple[Scalar, ...] | LongArray


class Header(NamedTuple):
    """The header of a GGUF file, or of a split set with the tables of all its shards.

    ``metadata`` holds scalars and short arrays as they are and long arrays as their length.
    ``header_bytes`` is where the tensor data starts (summed over shards), ``file_bytes`` the
    length of all files.
    """

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    header_bytes: int
    file_bytes: int
    shard_count: int = 1
