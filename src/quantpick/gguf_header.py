"""GGUF headers: the key-values that matter and the tensor table, read forwards and no further.

What is valid is what llama.cpp's gguf.cpp takes: versions 2 and 3, in either byte order. A header
is untrusted: every count and length is held against what the file can still hold and against the
limits below before anything is read, so that a hostile one costs little. Long arrays, such as a
tokenizer's, are walked past without building their elements.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from quantpick.domain.header import Header, LongArray
from quantpick.domain.names import printable
from quantpick.domain.tensors import TENSOR_TYPES, TYPES_BY_NAME, Tensor
from quantpick.errors import IntegrityError, UsageError
from quantpick.gguf_cursor import SCALARS, STRING, Cursor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quantpick.domain.header import Scalar, Value
    from quantpick.gguf_cursor import Fetch

_U32 = 4
_ARRAY = 9

#: Limits that no real file comes near: they hold up to about a hundred keys and two thousand
#: tensors, and llama.cpp refuses a longer tensor name.
_MOST_KEYS = 1 << 16
_MOST_TENSORS = 1 << 16
_LONGEST_KEY = (1 << 16) - 1
_LONGEST_NAME = 63
_MOST_DIMS = 4

#: Bytes of a key and a value, and of a tensor, at the least.
_LEAST_PAIR = 8 + 1 + 4 + 1
_LEAST_TENSOR = 8 + 4 + 4 + 8

#: Elements of the longest array that is kept; per-layer figures have one a layer.
_LONGEST_TUPLE = 1024

#: Bytes of values kept from one header; what comes after that is walked past.
_MOST_KEPT = 8 << 20

#: Characters of a key that a message shows.
_LONGEST_SHOWN = 80

#: Bytes a local file is read in.
_BLOCK = 1 << 20

_ALIGNMENT = "general.alignment"
_REMOVED_TYPES = frozenset({4, 5, 31, 32, 33, 36, 37, 38})
_SHARD_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_LARGEST = (1 << 63) - 1


def read_file(path: Path) -> Header:
    """Read a local file; for any shard of a split set, the whole set beside it.

    Raises IntegrityError for a header that is wrong or cut short and for a set that is incomplete
    or does not belong together, UsageError for a file that cannot be read.
    """
    header = read_one(path)
    count = split_count(header)
    if count <= 1:
        return header
    paths = shard_paths(path, count)
    return join_shards([read_one(shard) for shard in paths], [shard.name for shard in paths])


def parse_header(fetch: Fetch, size: int, name: str) -> Header:
    """Read one file's header; ``size`` is the length of the file, ``name`` is for messages.

    ``fetch`` returns bytes from an offset on, at least as many as are asked for unless the file
    ends before. Raises IntegrityError.
    """
    cursor = Cursor(fetch, size, printable(name))
    version = _read_version(cursor)
    tensor_count, pair_count = cursor.number("Q"), cursor.number("Q")
    cursor.check_count(tensor_count, _LEAST_TENSOR, _MOST_TENSORS, "tensors")
    cursor.check_count(pair_count, _LEAST_PAIR, _MOST_KEYS, "keys")
    metadata = _read_pairs(cursor, pair_count)
    alignment = _alignment(cursor, metadata)
    tensors = _read_tensors(cursor, tensor_count, alignment)
    start = cursor.at + (-cursor.at % alignment if tensors else 0)
    _check_data(cursor, tensors, alignment, start)
    return Header(version, metadata, tensors, start, size)


def split_count(header: Header) -> int:
    """Return how many files the header's own set has, 1 where it says nothing of a set."""
    count = header.metadata.get("split.count")
    return count if isinstance(count, int) and count > 0 else 1


def join_shards(headers: Sequence[Header], names: Sequence[str]) -> Header:
    """Return the header of a whole set from those of its files in order, or of a file alone.

    Key-values are those of the first. Raises IntegrityError where the files do not say of
    themselves that they are this set.
    """
    first, count = headers[0], len(headers)
    for index, (header, name) in enumerate(zip(headers, names, strict=True)):
        _check_shard(header, index, count, printable(name))
    if count == 1:
        return first
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    total = first.metadata.get("split.tensors.count")
    if total is not None and total != len(tensors):
        raise _bad_set(f"{printable(names[0])} says {total} tensors, the set has {len(tensors)}")
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise _bad_set(f"two shards of {printable(names[0])} hold a tensor of the same name")
    return first._replace(
        tensors=tensors,
        header_bytes=sum(header.header_bytes for header in headers),
        file_bytes=sum(header.file_bytes for header in headers),
        shard_count=count,
    )


class UnknownTypeError(IntegrityError):
    """A tensor has a type that this reader, and so far mainline llama.cpp, does not know."""


def read_one(path: Path, name: str | None = None) -> Header:
    """Read one local file by itself; ``name`` is for messages.

    Raises IntegrityError for a header that is wrong or cut short, UsageError for a file that cannot
    be read.
    """
    try:
        size = path.stat().st_size
        # Unbuffered: the cursor keeps what it needs itself.
        with path.open("rb", buffering=0) as stream:

            def fetch(start: int, least: int) -> bytes:
                stream.seek(start)
                return stream.read(max(least, _BLOCK))

            return parse_header(fetch, size, name or path.name)
    except OSError as error:
        raise UsageError(
            f"cannot read {printable(str(path))}: {error.strerror or error}", "check the path"
        ) from error


def shard_paths(path: Path, count: int) -> list[Path]:
    """Return the files of the set of ``count`` shards that a file belongs to, the first one first.

    Raises IntegrityError for a file that is not named as a shard of it, or a missing shard.
    """
    if count <= 1:
        return [path]
    named = _SHARD_NAME.fullmatch(path.name)
    if named is None or int(named.group(3)) != count:
        raise _bad_set(
            f"{printable(path.name)} is one of {count} shards by its header, but not by its name"
        )
    paths = [
        path.with_name(f"{named.group(1)}-{number:05d}-of-{count:05d}.gguf")
        for number in range(1, count + 1)
    ]
    missing = [printable(shard.name) for shard in paths if not shard.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise IntegrityError(
            f"the set of {printable(path.name)} is incomplete: {missing[0]}{more} not found",
            "put all shards into one folder under their own names, or download the quant again",
        )
    return paths


def _check_shard(header: Header, index: int, count: int, name: str) -> None:
    if split_count(header) != count:
        raise _bad_set(f"{name} is one of {split_count(header)} shards, the set has {count}")
    number = header.metadata.get("split.no", 0)
    if count > 1 and number != index:
        raise _bad_set(f"{name} holds shard {number} (from 0), not {index}")


def _bad_set(message: str) -> IntegrityError:
    return IntegrityError(
        message, "give the shards the names they had, or download the whole quant again"
    )


def _read_version(cursor: Cursor) -> int:
    magic = cursor.take(4)
    if magic != b"GGUF":
        raise cursor.error(f"no GGUF file: it begins with {magic!r}, not b'GGUF'", at=0)
    version = cursor.number("I")
    if version and version & 0xFFFF == 0:
        # As llama.cpp has it: the other byte order leaves the low half of a small number empty.
        cursor.read_big_endian()
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
    if version not in {2, 3}:
        raise cursor.error(f"GGUF version {version}, where 2 and 3 are known", at=4)
    return version


def _read_pairs(cursor: Cursor, count: int) -> dict[str, Value]:
    pairs: dict[str, Value] = {}
    for _ in range(count):
        at = cursor.at
        key = cursor.text(_LONGEST_KEY, "a key")
        if not key or key in pairs:
            raise cursor.error(f"the key {_short(key)} is there twice" if key else "empty key", at)
        pairs[key] = _read_value(cursor, key)
    return pairs


def _read_value(cursor: Cursor, key: str) -> Value:
    at, kind = cursor.at, cursor.number("I")
    if key == _ALIGNMENT and kind != _U32:
        raise cursor.error(f"{_ALIGNMENT} is no u32", at)
    if kind == STRING:
        return _read_text(cursor)
    if kind == _ARRAY:
        return _read_array(cursor, key)
    if kind not in SCALARS:
        raise cursor.error(f"the key {_short(key)} has a value of unknown type {kind}", at)
    value: Scalar = cursor.values(kind, 1)[0]
    return value


def _read_text(cursor: Cursor) -> str | LongArray:
    size = cursor.length("a text")
    if cursor.may_keep(size, _MOST_KEPT):
        return cursor.take(size).decode("utf-8", "replace")
    cursor.skip(size)
    return LongArray("char", size)


def _read_array(cursor: Cursor, key: str) -> Value:
    at, kind, length = cursor.at, cursor.number("I"), cursor.number("Q")
    if kind == STRING:
        cursor.check_count(length, 8, cursor.size, f"texts in {_short(key)}")
        return _read_texts(cursor, length)
    if kind not in SCALARS:
        what = "of arrays" if kind == _ARRAY else f"of unknown type {kind}"
        raise cursor.error(f"the key {_short(key)} has an array {what}", at)
    width = SCALARS[kind].width
    cursor.check_count(length, width, cursor.size, f"elements in {_short(key)}")
    if length <= _LONGEST_TUPLE and cursor.may_keep(length * width, _MOST_KEPT):
        return cursor.values(kind, length)
    cursor.skip(length * width)
    return LongArray(SCALARS[kind].name, length)


def _read_texts(cursor: Cursor, length: int) -> Value:
    # Empty texts are not free: each counts with the bytes of its length.
    if length > _LONGEST_TUPLE or not cursor.may_keep(8 * length, _MOST_KEPT):
        cursor.skip_texts(length)
        return LongArray("str", length)
    texts: list[Scalar] = []
    for _ in range(length):
        text = _read_text(cursor)
        if isinstance(text, str):
            texts.append(text)
    return tuple(texts) if len(texts) == length else LongArray("str", length)


def _short(key: str) -> str:
    """Return a key for a message: quoted, and not at its full length if that is absurd."""
    return repr(key if len(key) <= _LONGEST_SHOWN else key[:_LONGEST_SHOWN] + "...")


def _alignment(cursor: Cursor, metadata: dict[str, Value]) -> int:
    alignment = metadata.get(_ALIGNMENT, 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.error(f"{_ALIGNMENT} is {alignment}, not a power of two")
    return alignment


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    expected = 0
    for _ in range(count):
        at = cursor.at
        name = cursor.text(_LONGEST_NAME, "a tensor name")
        if name in tensors:
            raise cursor.error(f"the tensor {name!r} is there twice", at)
        tensor = Tensor(name, _read_dims(cursor, name), _read_type(cursor, name))
        _check_rows(cursor, tensor, at)
        at, offset = cursor.at, cursor.number("Q")
        if offset != expected:
            raise cursor.error(f"the tensor {name!r} is at {offset}, not at {expected}", at)
        expected += tensor.nbytes + -tensor.nbytes % alignment
        tensors[name] = tensor
    return tuple(tensors.values())


def _read_dims(cursor: Cursor, name: str) -> tuple[int, ...]:
    at, count = cursor.at, cursor.number("I")
    if count > _MOST_DIMS:
        raise cursor.error(f"the tensor {name!r} has {count} dimensions, more than 4", at)
    dims = tuple(cursor.number("Q") for _ in range(count)) or (1,)
    elements = 1
    for length in dims:
        elements *= max(length, 1)
    if elements > _LARGEST:
        raise cursor.error(f"the tensor {name!r} has more elements than can be counted", at)
    return dims


def _read_type(cursor: Cursor, name: str) -> str:
    at, number = cursor.at, cursor.number("I")
    if number in TENSOR_TYPES:
        return TENSOR_TYPES[number].name
    if number in _REMOVED_TYPES:
        raise cursor.error(
            f"the tensor {name!r} has type {number}, which llama.cpp has removed",
            at,
            "choose a newer file: no current llama.cpp loads this one",
        )
    error = cursor.error(f"the tensor {name!r} has the unknown type {number}", at)
    raise UnknownTypeError(
        error.message, "the file is damaged, or made for a fork or a newer version of llama.cpp"
    )


def _check_rows(cursor: Cursor, tensor: Tensor, at: int) -> None:
    block = TYPES_BY_NAME[tensor.type].elements
    if tensor.dims[0] % block:
        raise cursor.error(
            f"the tensor {tensor.name!r} has rows of {tensor.dims[0]}, not a multiple of "
            f"the {block} elements in a block of {tensor.type}",
            at,
        )


def _check_data(cursor: Cursor, tensors: tuple[Tensor, ...], alignment: int, start: int) -> None:
    """Check that the last tensor ends within the file; padding after it may be missing."""
    end = start
    for tensor in tensors:
        end += -(end - start) % alignment + tensor.nbytes
    if end > cursor.size:
        raise cursor.error(
            f"cut short: its tensors end at byte {end}, the file at byte {cursor.size}",
            cursor.size,
        )
