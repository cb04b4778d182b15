"""GGUF files byte by byte: valid headers of every kind, and what is needed to break them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quantpick.domain.tensors import TENSOR_TYPES, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)

_LETTERS = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "?",
    U64: "Q",
    I64: "q",
    F64: "d",
}
_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}


@dataclass(frozen=True)
class Pair:
    """A key-value; ``of`` is the type of an array's elements."""

    key: str
    kind: int
    value: Any
    of: int = U32


@dataclass(frozen=True)
class Row:
    """A row of the tensor table; what is None follows from the rest."""

    name: str
    dims: tuple[int, ...]
    type: str | int = "F32"
    offset: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the data; none for a type given by a number of its own."""
        return tensor_bytes(self.dims or (1,), self.type) if isinstance(self.type, str) else 0


ARCHITECTURE = Pair("general.architecture", STR, "llama")
ROWS = (Row("token_embd.weight", (256, 4), "Q8_0"), Row("blk.0.norm.weight", (7,)))


def pack_header(
    pairs: Sequence[Pair] = (ARCHITECTURE,),
    rows: Sequence[Row] = ROWS,
    *,
    version: int = 3,
    order: str = "<",
    alignment: int = 32,
) -> bytes:
    """Return a header with the padding after it."""
    head = b"GGUF" + struct.pack(f"{order}IQQ", version, len(rows), len(pairs))
    head += b"".join(_pair(pair, order) for pair in pairs)
    offset = 0
    for row in rows:
        number = row.type if isinstance(row.type, int) else _NUMBERS[row.type]
        place = offset if row.offset is None else row.offset
        head += _text(row.name, order)
        head += struct.pack(f"{order}I{len(row.dims)}Q", len(row.dims), *row.dims)
        head += struct.pack(f"{order}IQ", number, place)
        offset += _padded(row.size, alignment)
    return head + bytes(_padded(len(head), alignment) - len(head) if rows else 0)


def pack_file(
    pairs: Sequence[Pair] = (ARCHITECTURE,),
    rows: Sequence[Row] = ROWS,
    *,
    version: int = 3,
    order: str = "<",
    alignment: int = 32,
) -> bytes:
    """Return a whole file, its tensors all zeros."""
    head = pack_header(pairs, rows, version=version, order=order, alignment=alignment)
    return head + bytes(_padded_data(rows, alignment))


def write_70b(path: Path) -> int:
    """Write a file with a header as long as that of Llama 3.1 70B; return the header's length.

    Its tokens, merges and tensors are as many, and its texts as long on the average. The tensors
    themselves are smaller, so that a test can take the checksum of the file.
    """
    names = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"]
    names += ["ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
    rows = [Row("token_embd.weight", (256, 128), "Q8_0"), Row("output_norm.weight", (8192,))]
    rows += [Row(f"blk.{at}.{name}.weight", (256, 512)) for at in range(80) for name in names]
    rows += [Row("output.weight", (256, 128), "Q6_K"), Row("rope_freqs.weight", (64,))]
    pairs = [
        ARCHITECTURE,
        Pair("general.name", STR, "Seventy B"),
        Pair("llama.block_count", U32, 80),
        Pair("llama.context_length", U32, 131072),
        Pair("tokenizer.ggml.model", STR, "gpt2"),
        Pair("tokenizer.ggml.tokens", ARR, [f"t{n:07}" for n in range(128256)], STR),
        Pair("tokenizer.ggml.token_type", ARR, [1] * 128256, I32),
        Pair("tokenizer.ggml.merges", ARR, [f"ab {n:08}" for n in range(280147)], STR),
        Pair("tokenizer.chat_template", STR, "{{ messages }}" * 400),
    ]
    head = pack_header(pairs, rows)
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + _padded_data(rows, 32))
    return len(head)


def _padded_data(rows: Sequence[Row], alignment: int) -> int:
    return sum(_padded(row.size, alignment) for row in rows)


def _padded(size: int, alignment: int) -> int:
    return size + -size % alignment


def _pair(pair: Pair, order: str) -> bytes:
    head = _text(pair.key, order) + struct.pack(f"{order}I", pair.kind)
    if pair.kind != ARR:
        return head + _value(pair.kind, pair.value, order)
    head += struct.pack(f"{order}IQ", pair.of, len(pair.value))
    return head + b"".join(_value(pair.of, item, order) for item in pair.value)


def _value(kind: int, value: Any, order: str) -> bytes:  # noqa: ANN401 -- of the kind's own type
    if kind == STR:
        return _text(value, order)
    return struct.pack(order + _LETTERS[kind], value)


def _text(value: str | bytes, order: str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(f"{order}Q", len(raw)) + raw
