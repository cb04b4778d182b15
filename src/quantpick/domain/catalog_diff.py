"""What is new about a repo: its catalog entry held against a listing, and two entries compared.

Entries are the documents of ``catalog/models``, as `quantpick.domain.entry` writes them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.entry import EntryFile
from quantpick.domain.listing import quant_sets
from quantpick.domain.quant import FileKind, parse_filename

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from quantpick.domain.listing import Listing, QuantSet

#: The source of what the Hub lists.
LISTING = "listing"

#: Fields of a row that a card tells and a listing does not.
WORDS = ("recommended", "token_embd_type", "output_type")

_Entry = dict[str, Any]


class ChangeKind(StrEnum):
    """What differs between two entries of a repo."""

    ENTRY = "entry"
    FIELD = "field"
    NEW = "new"
    GONE = "gone"
    SIZE = "size"
    EXACT = "exact"
    PATHS = "paths"
    SHA256 = "sha256"
    WORDS = "words"
    WEIGHTS = "weights"


class Change(NamedTuple):
    """One difference: of a field, or of the row with the label ``what``.

    ``was`` and ``now`` are values as in the file, None where there is none.
    """

    kind: ChangeKind
    what: str
    was: Any = None
    now: Any = None


class Merged(NamedTuple):
    """The rows of a repo as it is now, and what could not be settled, in words."""

    files: tuple[EntryFile, ...]
    notes: tuple[str, ...] = ()


# A listing


def entry_files(entry: _Entry) -> tuple[EntryFile, ...]:
    """Return the rows of an entry that was checked as it was read."""
    return tuple(
        EntryFile(
            label=row["label"],
            paths=tuple(row["paths"]),
            file_bytes=row["bytes"],
            rounded_to=row.get("rounded_to") or 0,
            sha256=tuple(row.get("sha256", ())),
            source=row["source"],
            seen=row["seen"],
            recommended=row.get("recommended"),
            token_embd_type=row.get("token_embd_type"),
            output_type=row.get("output_type"),
        )
        for row in entry["files"]
    )


def merge_listing(known: Sequence[EntryFile], listing: Listing, seen: str) -> Merged:
    """Return the rows of a listing, with what only the known rows tell.

    A row that the listing bears out stays as it is, with its source and day.
    """
    old = {file.label: file for file in known}
    sets = quant_sets(listing)
    files, notes = [], []
    for label, found in sets.items():
        quant = _same_or_first(found, old.get(label))
        if _raw(quant) and label not in old:
            notes.append(f"{label} is cut into raw byte parts: left out")
            continue
        if len(found) > 1 and label not in old:
            notes.append(f"{label} is there {len(found)} times: took {quant.files[0].path}")
        files.append(_merged(quant, old.get(label), seen))
    there = {file.label for file in files}
    listed = {parse_filename(file.path).label for file in listing.files if _is_model(file.path)}
    for label in [label for label in old if label in listed - there]:
        files.append(old[label])
        notes.append(f"{label} is not whole there now: kept as it was")
    return Merged(tuple(files), tuple(notes))


def _same_or_first(found: Sequence[QuantSet], old: EntryFile | None) -> QuantSet:
    """Return the set that the catalog has already, else the first."""
    paths = old.paths if old else ()
    return next((quant for quant in found if _paths(quant) == paths), found[0])


def _paths(quant: QuantSet) -> tuple[str, ...]:
    return tuple(file.path for file in quant.files)


def _raw(quant: QuantSet) -> bool:
    return parse_filename(quant.files[0].path).raw_part


def _is_model(path: str) -> bool:
    return parse_filename(path).kind is FileKind.MODEL


def _merged(quant: QuantSet, old: EntryFile | None, seen: str) -> EntryFile:
    digests = tuple(file.sha256 for file in quant.files if file.sha256)
    new = EntryFile(
        label=quant.label,
        paths=_paths(quant),
        file_bytes=sum(file.size for file in quant.files),
        rounded_to=0,
        sha256=digests if len(digests) == len(quant.files) else (),
        source=LISTING,
        seen=seen,
    )
    if old is None:
        return new
    new = new._replace(**{field: getattr(old, field) for field in WORDS})
    if not digests and (new.paths, new.file_bytes) == (old.paths, old.file_bytes):
        # A mirror may list no digest; that says nothing against the known one.
        new = new._replace(sha256=old.sha256)
    same = new._replace(source=old.source, seen=old.seen) == old
    return old if same else new


# Two entries


def changes(old: _Entry | None, new: _Entry) -> tuple[Change, ...]:
    """Return what differs between two entries of a repo: fields first, then rows by label."""
    start = () if old else (Change(ChangeKind.ENTRY, "files", None, len(new["files"])),)
    before = old or {"files": []}
    return (*start, *_field_changes(_flat(before), _flat(new)), *_row_changes(before, new))


def _flat(entry: _Entry) -> dict[str, Any]:
    """Return the fields of an entry with those of its shape and its sources beside them."""
    flat: dict[str, Any] = {}
    for name, value in entry.items():
        if name in {"shape", "sources"}:
            flat |= {f"{name}.{inner}": figure for inner, figure in value.items()}
        elif name not in {"schema", "files"}:
            flat[name] = value
    return flat


def _field_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in _in_order(old, new):
        if old.get(name) != new.get(name):
            yield Change(ChangeKind.FIELD, name, old.get(name), new.get(name))


def _row_changes(old: _Entry, new: _Entry) -> Iterator[Change]:
    before = {row["label"]: row for row in old["files"]}
    after = {row["label"]: row for row in new["files"]}
    for label in _in_order(after, before):
        if label not in before:
            yield Change(ChangeKind.NEW, label, None, _told(after[label]))
        elif label not in after:
            yield Change(ChangeKind.GONE, label, _told(before[label]))
        else:
            yield from _differences(label, before[label], after[label])


def _differences(label: str, old: _Entry, new: _Entry) -> Iterator[Change]:
    found = [*_size_change(label, old, new)]
    for kind, field in ((ChangeKind.PATHS, "paths"), (ChangeKind.SHA256, "sha256")):
        if old.get(field) != new.get(field):
            found.append(Change(kind, label, old.get(field), new.get(field)))
    words = [field for field in WORDS if old.get(field) != new.get(field)]
    if words:
        was, now = ({field: row.get(field) for field in words} for row in (old, new))
        found.append(Change(ChangeKind.WORDS, label, was, now))
    # They follow from the size: a line of their own only where nothing else says so.
    if not found and old.get("weights") != new.get("weights"):
        found.append(Change(ChangeKind.WEIGHTS, label, "weights" in old, "weights" in new))
    yield from found


def _size_change(label: str, old: _Entry, new: _Entry) -> Iterator[Change]:
    was, now = _size(old), _size(new)
    if was == now:
        return
    step = was.get("rounded_to", 0)
    learned = "rounded_to" not in now and abs(was["bytes"] - now["bytes"]) <= step
    yield Change(ChangeKind.EXACT if learned else ChangeKind.SIZE, label, was, now)


def _size(row: _Entry) -> dict[str, int]:
    return {name: row[name] for name in ("bytes", "rounded_to") if row.get(name)}


def _told(row: _Entry) -> _Entry:
    return {**_size(row), "paths": row["paths"], "sha256": row.get("sha256", [])}


def _in_order(*keyed: Iterable[str]) -> list[str]:
    """Return all keys, each once, in the order of the first that has them."""
    return list(dict.fromkeys(key for keys in keyed for key in keys))
