"""A header as plain JSON values, and back: what the cache keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantpick.domain.header import Header, LongArray
from quantpick.domain.tensors import TYPES_BY_NAME, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantpick.domain.header import Value


def header_record(header: Header) -> dict[str, Any]:
    """Return all of a header; header_from_record makes the same header of it."""
    return {
        **header._asdict(),
        "metadata": {key: _plain(value) for key, value in header.metadata.items()},
        "tensors": [[tensor.name, list(tensor.dims), tensor.type] for tensor in header.tensors],
    }


def header_from_record(record: Mapping[str, Any]) -> Header:
    """Return the header of a record. Raises one of Python's own errors for anything else."""
    return Header(
        version=int(record["version"]),
        metadata={key: _value(value) for key, value in record["metadata"].items()},
        tensors=tuple(
            Tensor(str(name), tuple(map(int, dims)), TYPES_BY_NAME[type_name].name)
            for name, dims, type_name in record["tensors"]
        ),
        header_bytes=int(record["header_bytes"]),
        file_bytes=int(record["file_bytes"]),
        shard_count=int(record["shard_count"]),
    )


def _plain(value: Value) -> object:
    # Before tuples, of which it is one.
    if isinstance(value, LongArray):
        return value._asdict()
    return list(value) if isinstance(value, tuple) else value


def _value(plain: Any) -> Value:  # noqa: ANN401 -- what a JSON document holds
    if isinstance(plain, dict):
        return LongArray(str(plain["type"]), int(plain["length"]))
    if isinstance(plain, list):
        if not all(isinstance(item, bool | int | float | str) for item in plain):
            raise TypeError("an array of something else than scalars")
        return tuple(plain)
    if not isinstance(plain, bool | int | float | str):
        raise TypeError("a value that is none")
    return plain
