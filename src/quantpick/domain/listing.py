"""A repo's real listing, and which of its files make up one quant.

What the Hub lists is untrusted: a file whose name could land outside the target folder, or could
write to the terminal, is never part of a quant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.names import near_hint, unsafe_path
from quantpick.domain.quant import (
    FileKind,
    canonical_label,
    matching_labels,
    parse_filename,
)
from quantpick.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
    groups: dict[tuple[str, str], list[RemoteFile]] = {}
    for file in listing.files:
        name = parse_filename(file.path)
        if name.kind is FileKind.MODEL and name.label and not unsafe_path(file.path):
            groups.setdefault((name.label, _set_name(file.path)), []).append(file)
    sets: dict[str, list[QuantSet]] = {}
    for (label, _), files in groups.items():
        shards = _complete(files)
        if shards is not None:
            sets.setdefault(label, []).append(QuantSet(label, shards))
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


def no_quants(repo_id: str) -> NotFoundError:
    """Return the error for a repo of which no quant can be offered."""
    return NotFoundError(
        f"{repo_id} holds no GGUF model that quantpick can tell apart by label",
        "check the repo name: repos with GGUF files often end in -GGUF",
    )


def _set_name(path: str) -> str:
    """Return the path without its shard number: equal for the shards of one set."""
    return re.sub(r"-\d+-of-(\d+)(?=\.gguf$)", r"-of-\1", path, flags=re.IGNORECASE)


def _complete(files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...] | None:
    """Return a set's files in shard order, None where one is missing or doubled."""
    names = {parse_filename(file.path): file for file in files}
    first = next(iter(names))
    if any(name.raw_part for name in names):
        return None
    if first.shard_count is None:
        return tuple(files) if len(files) == 1 else None
    by_index = {name.shard_index: file for name, file in names.items()}
    wanted = range(1, first.shard_count + 1)
    if len(files) != len(wanted) or any(index not in by_index for index in wanted):
        return None
    return tuple(by_index[index] for index in wanted)


def _ambiguous(listing: Listing, label: str, found: Sequence[QuantSet]) -> NotFoundError:
    names = ", ".join(quant.files[0].path for quant in found)
    labels = sorted({quant.label for quant in found})
    if len(labels) > 1:
        hint = f"ask for one of {', '.join(labels)}"
    else:
        hint = f"fetch one by its path: hf download {listing.repo_id} PATH"
    return NotFoundError(f"{label} matches {len(found)} quants of {listing.repo_id}: {names}", hint)


def _missing(
    listing: Listing, label: str, sets: Mapping[str, Sequence[QuantSet]]
) -> NotFoundError | IntegrityError:
    """Return the error for a label of which no usable quant exists: why, and what there is."""
    named = [file.path for file in listing.files if _is_model_of(file.path, label)]
    if any(unsafe_path(path) for path in named):
        return IntegrityError(
            f"{listing.repo_id} lists {label} under a file name that is not safe to write",
            "do not download from this repo; choose another quantizer's repo of the model",
        )
    if any(parse_filename(path).raw_part for path in named):
        return NotFoundError(
            f"{label} of {listing.repo_id} is cut into raw byte parts, which quantpick cannot join",
            "choose another quant, or fetch the parts by hand and join them with cat",
        )
    if named:
        count = parse_filename(named[0]).shard_count or len(named)
        return IntegrityError(
            f"{label} of {listing.repo_id} is incomplete: {len(named)} of {count} shards are there",
            "choose another quant, or try again later: an upload may be under way",
        )
    if not sets:
        return no_quants(listing.repo_id)
    return NotFoundError(
        f"{listing.repo_id} has no quant {label}",
        near_hint(label, sets),
        f"run: quantpick list {listing.repo_id}",
    )


def _is_model_of(path: str, label: str) -> bool:
    name = parse_filename(path)
    return name.label == label and name.kind is FileKind.MODEL
