"""The rules of a catalog entry, each checked for itself, so that every fault is found at once.

The loader refuses a file at its first fault; this tells all of them, and those that a loader has no
business with: sizes that do not go with their label, and sums that do not come out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.bits import band_of, out_of_order
from quantpick.domain.entry import MOST_SHORT
from quantpick.domain.listing import MOST_BYTES
from quantpick.domain.names import is_sha256, unsafe_path
from quantpick.domain.quant import FileKind, canonical_label, parse_filename
from quantpick.domain.shape import MOST_BLOCKS, Layer, Shape
from quantpick.domain.tensors import TYPES_BY_NAME
from quantpick.domain.weights import MOST_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from quantpick.domain.model import Reference

_Row = dict[str, Any]


class Fault(NamedTuple):
    """What is wrong, and where: the file, and in it the row or field.

    ``row`` is the place of the row among the files, from 0, None for what is about no one row.
    """

    where: str
    what: str
    row: int | None = None


class _Field(NamedTuple):
    """What a field has to be, in words, and whether a file may do without it."""

    words: str
    holds: Callable[[Any], bool]
    needed: bool = False


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < MOST_BYTES


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(map(_is_text, value))


def _is_date(value: object) -> bool:
    return isinstance(value, str) and _DATE.fullmatch(value) is not None


_DATE = re.compile(r"20\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
_BUILD = re.compile(r"b\d{1,6}")

_TEXT = _Field("a text", _is_text)
_COUNT = _Field("a whole number above zero", _is_count)
_FLAG = _Field("true or false", lambda value: isinstance(value, bool))
_TYPE = _Field("a tensor type", lambda value: isinstance(value, str) and value in TYPES_BY_NAME)
_OBJECT = _Field("an object", lambda value: isinstance(value, dict) and value != {})
_LIST = _Field("a list that is not empty", lambda value: isinstance(value, list) and value != [])


def _needed(field: _Field) -> _Field:
    return field._replace(needed=True)


_ENTRY = {
    "schema": _Field("1", lambda value: value == 1 and type(value) is int, needed=True),
    "title": _needed(_TEXT),
    "base_model": _TEXT,
    "base_gated": _FLAG,
    "license": _TEXT,
    "quantizer": _needed(_TEXT),
    "llama_cpp": _Field(
        "a release such as b3472",
        lambda value: isinstance(value, str) and _BUILD.fullmatch(value) is not None,
    ),
    "imatrix": _FLAG,
    "prompt_format": _Field(
        "a text with {prompt}", lambda value: isinstance(value, str) and "{prompt}" in value
    ),
    "shape": _OBJECT,
    "sources": _Field(
        "texts by name",
        lambda value: (
            isinstance(value, dict) and value != {} and all(map(_is_text, value.values()))
        ),
        needed=True,
    ),
    "files": _needed(_LIST),
}
_ROW = {
    "label": _Field(
        "a quant label as llama.cpp spells it",
        lambda value: isinstance(value, str) and canonical_label(value) == value,
        needed=True,
    ),
    "bytes": _needed(_COUNT),
    "rounded_to": _COUNT,
    "paths": _Field("a list of texts", _are_texts, needed=True),
    "sha256": _Field(
        "a list of sha256 digests",
        lambda value: isinstance(value, list) and value != [] and all(map(is_sha256, value)),
    ),
    "recommended": _FLAG,
    "token_embd_type": _TYPE,
    "output_type": _TYPE,
    "source": _needed(_TEXT),
    "seen": _Field("a day such as 2025-08-27, a month or a year", _is_date, needed=True),
    "weights": _OBJECT,
}
#: Figures of a shape that may be left out.
_OPTIONAL = {
    *("feed_forward_length", "sliding_window", "sliding_window_pattern"),
    *Shape._field_defaults,
}
_SHAPE = {name: _COUNT if name in _OPTIONAL else _needed(_COUNT) for name in Shape._fields}
_SHAPE |= {
    "block_count": _Field(
        f"a whole number above zero, and at most {MOST_BLOCKS}",
        lambda value: _is_count(value) and value <= MOST_BLOCKS,
        needed=True,
    ),
    "architecture": _needed(_TEXT),
    "tied": _FLAG,
    "known": _FLAG,
    "layers": _LIST,
    "layer_kinds": _TEXT,
}
_LAYER = dict.fromkeys(Layer._fields, _COUNT) | {"windowed": _FLAG}


def check_entry(name: str, entry: _Row, reference: Reference) -> Iterator[Fault]:
    """Yield what is wrong with the document of a file: its fields, its shape, its rows."""
    yield from _fields(name, entry, _ENTRY)
    shape = entry.get("shape")
    shape = shape if isinstance(shape, dict) else None
    if shape is not None:
        yield from _shape_faults(f"{name}, shape", shape)
    files = entry.get("files")
    rows = list(enumerate(files if isinstance(files, list) else []))
    for at, row in rows:
        where = f"{name}, files row {at + 1}"
        if isinstance(row, dict):
            for fault in _row_faults(where, row, entry, reference):
                yield fault._replace(row=at)
        else:
            yield Fault(where, "not an object", at)
    yield from _doubles(name, [(at, row) for at, row in rows if isinstance(row, dict)])
    for small, large in out_of_order([row for _, row in rows if _has_size(row)]):
        yield Fault(f"{name}, files", f"{small} is larger than {large}")


def _fields(where: str, row: _Row, known: Mapping[str, _Field]) -> Iterator[Fault]:
    for name, field in known.items():
        if name not in row:
            if field.needed:
                yield Fault(where, f"{name} is missing")
        elif not field.holds(row[name]):
            yield Fault(where, f"{name} is not {field.words}")
    for name in row.keys() - known.keys():
        yield Fault(where, f"{name!r} is no field that is known")


def _has_size(row: object) -> bool:
    return (
        isinstance(row, dict) and isinstance(row.get("label"), str) and _is_count(row.get("bytes"))
    )


# The shape


def _shape_faults(where: str, shape: _Row) -> Iterator[Fault]:
    yield from _fields(where, shape, _SHAPE)
    if not {"feed_forward_length", "expert_feed_forward_length"} & shape.keys():
        yield Fault(where, "feed_forward_length is missing")
    layers = shape.get("layers")
    if not isinstance(layers, list):
        if "sliding_window" in shape and "sliding_window_pattern" not in shape:
            yield Fault(where, "sliding_window_pattern is missing")
        return
    for layer in layers:
        if isinstance(layer, dict):
            yield from _fields(f"{where}, layers", layer, _LAYER)
        else:
            yield Fault(f"{where}, layers", "not an object")
    order, count = shape.get("layer_kinds"), shape.get("block_count")
    if isinstance(order, str) and (len(order) != count or not _names_all(order, len(layers))):
        yield Fault(where, "layer_kinds is not one of its layers for each block")


def _names_all(order: str, kinds: int) -> bool:
    return set(order) <= {str(kind) for kind in range(kinds)}


# A row


def _row_faults(where: str, row: _Row, entry: _Row, reference: Reference) -> Iterator[Fault]:
    found = list(_fields(where, row, _ROW))
    yield from found
    sources = entry.get("sources")
    if _is_text(row.get("source")) and row["source"] not in (sources or {}):
        yield Fault(where, "its source is not among the file's sources")
    if found:
        # What is compared with what has to be there first.
        return
    yield from (Fault(where, what) for what in _file_faults(row))
    info = reference.info(row["label"])
    if info is None:
        yield Fault(where, f"{row['label']} is not in reference/quants.json")
    elif isinstance(entry.get("shape"), dict):
        yield from (Fault(where, what) for what in _bits_faults(row, entry["shape"], reference))
    if "weights" in row:
        yield from (Fault(where, what) for what in _sum_faults(row, entry.get("shape")))


def _file_faults(row: _Row) -> Iterator[str]:
    """Yield what is wrong with a row's paths: their names, their label, their number."""
    label, paths = row["label"], row["paths"]
    names = [parse_filename(path) for path in paths]
    if any(unsafe_path(path) for path in paths):
        yield "a path is not safe to write"
    if any(name.kind is not FileKind.MODEL for name in names):
        yield "a path is not named as a model"
    for path, name in zip(paths, names, strict=True):
        if name.label != label:
            yield f"{path} is named as {name.label or 'no label'}, not as {label}"
    shards = [(name.shard_index, name.shard_count) for name in names]
    wanted = [(index, len(paths)) for index in range(1, len(paths) + 1)]
    if shards not in (wanted, [(None, None)]):
        yield "the shards are not complete and in order"
    if "sha256" in row and len(row["sha256"]) != len(paths):
        yield f"sha256 has {len(row['sha256'])} digests for {len(paths)} paths"
    if row.get("rounded_to", 0) > row["bytes"]:
        yield "rounded_to is above its size"


def _bits_faults(row: _Row, shape: _Row, reference: Reference) -> Iterator[str]:
    """Yield a size that no file of this label has."""
    info, numbers = reference.info(row["label"]), shape.get("parameters")
    if info is None or not _is_count(numbers):
        return
    low, high = band_of(row["label"], info, shape)
    slack = row.get("rounded_to", 0)
    least, most = (
        8 * (row["bytes"] + slack) / numbers,
        8 * (row["bytes"] - slack - MOST_HEADER) / numbers,
    )
    if least < low or most > high:
        bpw = 8 * row["bytes"] / numbers
        yield f"{bpw:.2f} bits a weight, where {row['label']} has {low:.2f} to {high:.2f}"


def _sum_faults(row: _Row, shape: object) -> Iterator[str]:
    """Yield weights whose parts do not add up to the row's size."""
    weights = row["weights"]
    try:
        sizes = weights["layer_bytes"]
        both = zip(sizes, weights.get("expert_bytes", [0] * len(sizes)), strict=True)
        totals = [dense + experts for dense, experts in both]
        layers = sum(totals[int(kind)] for kind in weights["layer_kinds"])
        loaded = weights["embedding"] + weights["output"] - weights.get("tied", 0) + layers
    except (LookupError, TypeError, ValueError, AttributeError):
        yield "weights cannot be added up"
        return
    idle = isinstance(shape, dict) and shape.get("idle_blocks", 0)
    over, step = row["bytes"] - loaded, row.get("rounded_to", 0)
    most = max(MOST_HEADER, row["bytes"] // 1000) + step
    if over < -step - MOST_SHORT or (not idle and over > most):
        yield f"weights add up to {loaded} bytes, and the size is {row['bytes']}"


# Rows together


def _doubles(name: str, rows: list[tuple[int, _Row]]) -> Iterator[Fault]:
    """Yield labels and paths that are there twice."""
    labels: set[str] = set()
    paths: set[str] = set()
    for at, row in rows:
        where = f"{name}, files row {at + 1}"
        label, own = row.get("label"), row.get("paths")
        texts = {path for path in own if isinstance(path, str)} if isinstance(own, list) else set()
        if isinstance(label, str) and label in labels:
            yield Fault(where, f"the label {label} appears twice", at)
        for path in sorted(texts & paths):
            yield Fault(where, f"{path} is in another row too", at)
        labels |= {label} if isinstance(label, str) else set()
        paths |= texts
