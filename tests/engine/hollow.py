"""Hollow models: a GGUF with the true header of a published model, and no weights.

The tensor data is a hole in a sparse file of the true length, so that a 70B takes a few megabytes
on disk; llama.cpp loads it, builds its graphs and sizes its buffers as for the real file. The
vocabulary is 256 byte tokens and fillers: only its length matters to memory.

    python -m tests.engine.hollow DIR NAME LABEL

writes one model of `tests.engine.models` (or ``ALL``) into a folder, in the mix of types of a
label such as Q4_K_M, and prints the path of each file.
"""

from __future__ import annotations

import struct
import sys
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.header import Header, LongArray
from quantpick.domain.mixing import mixed_types
from quantpick.domain.tensors import TENSOR_TYPES, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from quantpick.domain.header import Scalar

#: A tensor by name and dimensions, in ggml's order: the length of a row first.
Slot = tuple[str, tuple[int, ...]]

_ALIGNMENT = 32
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TYPE_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}

#: Kinds of token, from llama.cpp's llama.h.
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


class Blueprint(NamedTuple):
    """A model without its weights: what its converter writes, but for the tokenizer.

    ``metadata`` holds ``general.architecture`` and the keys of the architecture with their
    prefix. Whole numbers become u32, floats f32, and tuples arrays of i32, f32, bool or text.
    """

    name: str
    metadata: Mapping[str, Scalar | tuple[Scalar, ...]]
    tensors: tuple[Slot, ...]
    vocab_size: int

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(prod(dims) for _, dims in self.tensors)


def tensor_table(blueprint: Blueprint, label: str) -> tuple[Tensor, ...]:
    """Give each tensor of a model its type in a file of this label."""
    types = mixed_types(
        label,
        blueprint.tensors,
        architecture=str(blueprint.metadata["general.architecture"]),
        block_count=_figure(blueprint, "block_count"),
        head_count=_figure(blueprint, "attention.head_count"),
        head_count_kv=_figure(blueprint, "attention.head_count_kv"),
        expert_count=_figure(blueprint, "expert_count"),
    )
    if types is None:
        raise ValueError(f"llama.cpp makes no {label} of {blueprint.name}")
    pairs = zip(blueprint.tensors, types, strict=True)
    return tuple(Tensor(name, dims, kind) for (name, dims), kind in pairs)


def _figure(blueprint: Blueprint, key: str) -> int:
    """Return a figure of the architecture, of its first layer if layers differ, or 0."""
    value = blueprint.metadata.get(f"{blueprint.metadata['general.architecture']}.{key}", 0)
    first = value[0] if isinstance(value, tuple) else value
    assert isinstance(first, int)
    return first


def hollow_header(blueprint: Blueprint, label: str) -> Header:
    """Return the header of the file that `write_hollow` writes, without writing it."""
    tensors = tensor_table(blueprint, label)
    start = len(_head(blueprint, tensors))
    tokens = LongArray("str", blueprint.vocab_size)
    metadata = {**blueprint.metadata, "tokenizer.ggml.tokens": tokens}
    return Header(3, metadata, tensors, start, start + _data_bytes(tensors))


def write_hollow(blueprint: Blueprint, label: str, directory: Path) -> Path:
    """Write a model's header and a hole of the length of its weights; return the file."""
    tensors = tensor_table(blueprint, label)
    head = _head(blueprint, tensors)
    path = directory / f"{blueprint.name}-{label}.gguf"
    with path.open("wb") as out:
        out.write(head)
        out.truncate(len(head) + _data_bytes(tensors))
    return path


def _data_bytes(tensors: tuple[Tensor, ...]) -> int:
    return sum(_padded(tensor.nbytes) for tensor in tensors)


def _head(blueprint: Blueprint, tensors: tuple[Tensor, ...]) -> bytes:
    pairs = [_text(key) + _value(value) for key, value in blueprint.metadata.items()]
    pairs += _tokenizer(blueprint.vocab_size)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(pairs) + b"".join(_infos(tensors))
    return head + bytes(-len(head) % _ALIGNMENT)


def _infos(tensors: tuple[Tensor, ...]) -> Iterable[bytes]:
    offset = 0
    for name, dims, kind in tensors:
        row = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        yield _text(name) + row + struct.pack("<IQ", _TYPE_NUMBERS[kind], offset)
        offset += _padded(Tensor(name, dims, kind).nbytes)


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Scalar | tuple[Scalar, ...]) -> bytes:
    if isinstance(value, tuple):
        kind, items = _elements(value)
        return _array(kind, len(value), items)
    if isinstance(value, int) and not isinstance(value, bool):
        return struct.pack("<II", _U32, value)
    kind, items = _elements((value,))
    return struct.pack("<I", kind) + items


def _elements(values: tuple[Scalar, ...]) -> tuple[int, bytes]:
    match values[0]:
        case str():
            return _STRING, b"".join(_text(str(value)) for value in values)
        case bool():
            return _BOOL, bytes(map(bool, values))
        case int():
            return _I32, struct.pack(f"<{len(values)}i", *values)
        case float():
            return _F32, struct.pack(f"<{len(values)}f", *values)


def _array(kind: int, length: int, items: bytes) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, length) + items


@cache
def _tokenizer(vocab_size: int) -> tuple[bytes, ...]:
    """Return the keys of a SentencePiece vocabulary: three marks, 256 bytes, fillers."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256]
    fillers = range(vocab_size - len(names))
    tokens = b"".join(map(_text, names)) + b"".join(_text(f"\u2581{i:07d}") for i in fillers)
    kinds += [_NORMAL] * len(fillers)
    scores = struct.pack(f"<{vocab_size}f", *(-float(i) for i in range(vocab_size)))
    return (
        _text("tokenizer.ggml.model") + _value("llama"),
        _text("tokenizer.ggml.tokens") + _array(_STRING, vocab_size, tokens),
        _text("tokenizer.ggml.scores") + _array(_F32, vocab_size, scores),
        _text("tokenizer.ggml.token_type")
        + _array(_I32, vocab_size, struct.pack(f"<{vocab_size}i", *kinds)),
        _text("tokenizer.ggml.bos_token_id") + _value(1),
        _text("tokenizer.ggml.eos_token_id") + _value(2),
        _text("tokenizer.ggml.unknown_token_id") + _value(0),
    )


def main(words: list[str], models: Mapping[str, Callable[[], Blueprint]]) -> None:
    """Write the models asked for on the command line."""
    directory, name, label = words
    Path(directory).mkdir(parents=True, exist_ok=True)
    for chosen in models if name == "ALL" else [name]:
        sys.stdout.write(f"{write_hollow(models[chosen](), label, Path(directory))}\n")


if __name__ == "__main__":
    # Only here: the registry imports the blueprints, and those this module.
    from tests.engine.models import MODELS

    main(sys.argv[1:], MODELS)
