"""A repo's real listing, and which of its files make up one quant.

What the Hub lists is untrusted: a file whose name could land outside the target folder, or could
write to the terminal, is never part of a quant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.names import near_hint, printable, unsafe_path
from quantpick.domain.quant import (
    FileKind,
    canonical_label,
    matching_labels,
    parse_filename,
    set_name,
)
from quantpick.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


#: More than any file has: a size from outside above it makes no sense.
MOST_BYTES = 1 << 60


class RemoteFile(NamedTuple):
    """A file as the Hub lists it at one commit.

    ``sha256`` is None for files outside LFS, which have ``git_oid`` instead: git's sha1 of them.
    """

    path: str
    size: int
    sha256: str | None
    git_oid: str | None = None

    @property
    def digest(self) -> str | None:
        """What the bytes are proven with, None where nothing is listed."""
        return self.sha256 or self.git_oid

    @property
    def digest_name(self) -> str:
        """What kind of digest it is, for a message."""
        return "sha256" if self.sha256 else "git sha1"


class Listing(NamedTuple):
    """All files of a repo at one commit, and what the repo says of its licence and base."""

    repo_id: str
    revision: str
    files: tuple[RemoteFile, ...]
    license: str | None = None
    base_model: str | None = None


class QuantSet(NamedTuple):
    """The files of one quant at one commit, shards in order."""

    label: str
    files: tuple[RemoteFile, ...]


def quant_sets(listing: Listing) -> dict[str, list[QuantSet]]:
    """Complete quants by label, in listing order; several under one label are told apart by name.

    Projectors, drafts and other companions are left out, and so is an incomplete shard set.
    """
    sets: dict[str, list[QuantSet]] = {}
    for files in _groups(listing):
        label, pieces = parse_filename(files[0].path).label, _complete(files)
        if label and pieces is not None:
            sets.setdefault(label, []).append(QuantSet(label, pieces))
    return sets


def find_quant(listing: Listing, label: str) -> QuantSet:
    """Return the one quant of this label.

    Raises NotFoundError with near labels, IntegrityError for an unsafe name or a missing shard,
    and NotFoundError listing all candidates when two sets match.
    """
    sets = quant_sets(listing)
    found = [quant for name in matching_labels(label, sets) for quant in sets[name]]
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(listing, label, found)
    raise _missing(listing, canonical_label(label) or label, sets)


def find_file(listing: Listing, path: str) -> QuantSet:
    """Return the quant that a listed file is, or is a piece of, whatever it is for.

    Its label is that of its name, or else the name. Raises NotFoundError with near paths, and
    IntegrityError for an unsafe name or a missing shard.
    """
    known = {file.path: file for file in listing.files}
    if path not in known:
        near = near_hint(path, [name for name in known if parse_filename(name).kind != "other"])
        raise NotFoundError(f"{listing.repo_id} has no file {path}", near)
    if unsafe_path(path):
        raise _unsafe(listing, path)
    files = [file for file in listing.files if set_name(file.path) == set_name(path)]
    pieces, label = _complete(files), parse_filename(path).label or path.rpartition("/")[2]
    if pieces is None:
        raise _incomplete(listing, label, files)
    return QuantSet(label, pieces)


def no_quants(repo_id: str) -> NotFoundError:
    """Return the error for a repo of which no quant can be offered."""
    return NotFoundError(
        f"{repo_id} holds no GGUF model that quantpick can tell apart by label",
        "check the repo name: repos with GGUF files often end in -GGUF",
    )


def _groups(listing: Listing) -> Iterable[list[RemoteFile]]:
    """Return the files of models with a label and a safe name, those of one set together."""
    groups: dict[tuple[str | None, str], list[RemoteFile]] = {}
    for file in listing.files:
        name = parse_filename(file.path)
        if name.kind is FileKind.MODEL and name.label and not unsafe_path(file.path):
            groups.setdefault((name.label, set_name(file.path)), []).append(file)
    return groups.values()


def _complete(files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...] | None:
    """Return a set's files in their order, None where one is missing or doubled.

    Raw byte parts with letters do not say how many they are: they have to begin with the first and
    leave none out, and what they make up is checked once it is there.
    """
    names = {parse_filename(file.path): file for file in files}
    first = next(iter(names))
    if first.shard_index is None:
        return tuple(files) if len(files) == 1 and not first.raw_part else None
    if first.shard_count is None and not first.raw_part:
        return None
    by_index = {name.shard_index: file for name, file in names.items()}
    wanted = range(1, (first.shard_count or len(files)) + 1)
    if len(files) != len(wanted) or any(index not in by_index for index in wanted):
        return None
    return tuple(by_index[index] for index in wanted)


def _ambiguous(listing: Listing, label: str, found: Sequence[QuantSet]) -> NotFoundError:
    names = ", ".join(quant.files[0].path for quant in found)
    labels = sorted({quant.label for quant in found})
    if len(labels) > 1:
        hint = f"ask for one of {', '.join(labels)}"
    else:
        hint = f"name one by its path: quantpick download {listing.repo_id}:PATH"
    return NotFoundError(f"{label} matches {len(found)} quants of {listing.repo_id}: {names}", hint)


def _missing(
    listing: Listing, label: str, sets: Mapping[str, Sequence[QuantSet]]
) -> NotFoundError | IntegrityError:
    """Return the error for a label of which no usable quant exists: why, and what there is."""
    named = [file for file in listing.files if _is_model_of(file.path, label)]
    if any(unsafe_path(file.path) for file in named):
        return _unsafe(listing, label)
    if named:
        return _incomplete(listing, label, named)
    if not sets:
        return no_quants(listing.repo_id)
    hints = [near_hint(label, sets), f"run: quantpick list {listing.repo_id}"]
    nameless = [file.path for file in listing.files if _is_model_of(file.path, None)]
    if nameless:
        hints.append(
            f"{len(nameless)} more files have no label that llama.cpp knows, such as "
            f"{printable(nameless[0])}: name one by its path, {listing.repo_id}:PATH"
        )
    return NotFoundError(f"{listing.repo_id} has no quant {label}", *hints)


def _unsafe(listing: Listing, what: str) -> IntegrityError:
    return IntegrityError(
        f"{listing.repo_id} lists {printable(what)} under a file name that is not safe to write",
        "do not download from this repo; choose another quantizer's repo of the model",
    )


def _incomplete(listing: Listing, label: str, files: Sequence[RemoteFile]) -> IntegrityError:
    first = parse_filename(files[0].path)
    count, kind = first.shard_count, "raw parts" if first.raw_part else "shards"
    of = f"{len(files)} of {count}" if count else f"only {len(files)}"
    return IntegrityError(
        f"{label} of {listing.repo_id} is incomplete: {of} {kind} are there",
        "choose another quant, or try again later: an upload may be under way",
    )


def _is_model_of(path: str, label: str | None) -> bool:
    name = parse_filename(path)
    return name.label == label and name.kind is FileKind.MODEL
