"""What a command would write into the catalog, and how it differs from what is there."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.catalog_check import check_entry
from quantpick.domain.catalog_diff import Change, ChangeKind, changes
from quantpick.domain.entry import entry_document
from quantpick.domain.first_facts import SHAPE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantpick.domain.entry import EntryFacts, EntryFile
    from quantpick.domain.model import Reference


class Proposal(NamedTuple):
    """The entry of a repo as it would be, None where there is nothing to write.

    ``notes`` say what was left out, or left as it was, and why.
    """

    repo_id: str
    document: dict[str, Any] | None
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


class RepoState(StrEnum):
    """How a catalogued repo compares with the Hub."""

    SAME = "same"
    CHANGED = "changed"
    GONE = "gone"
    FAILED = "failed"


class Outcome(NamedTuple):
    """One repo of a refresh. ``notes`` say why, where it is gone or could not be asked."""

    repo_id: str
    state: RepoState
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


class Draft(NamedTuple):
    """Facts and rows that make an entry."""

    facts: EntryFacts
    files: tuple[EntryFile, ...]


class Known(NamedTuple):
    """The entry that is there: the file's document, and the draft it was made from."""

    document: dict[str, Any]
    draft: Draft


def propose(
    repo_id: str, known: Known | None, new: Draft, reference: Reference, notes: Iterable[str]
) -> Proposal:
    """Return what to write of a draft.

    A row that breaks a rule stays as it was, or is left out; so is a shape. Of rows that do not go
    together nobody knows which is wrong: they are taken, and said so.
    """
    told = list(notes)
    if not _says_more(known, new):
        return Proposal(repo_id, None, (), tuple(told))
    new, refused = _sound_rows(known, _sound_shape(known, new, reference, told), reference)
    told += refused
    if not new.files:
        return Proposal(repo_id, None, (), (*told, "there is no quant to catalogue"))
    if not _says_more(known, new):
        return Proposal(repo_id, None, (), tuple(told))
    document = entry_document(*new)
    left = (fault for fault in check_entry("", document, reference) if fault.row is None)
    told += (f"quantpick catalog check will say: {fault.what}" for fault in left)
    return Proposal(
        repo_id, document, changes(known.document if known else None, document), tuple(told)
    )


def _says_more(known: Known | None, new: Draft) -> bool:
    """Whether a draft says something else than when and where the same was read."""
    if known is None:
        return True
    facts, files = known.draft
    return new.facts._replace(sources=facts.sources) != facts or set(new.files) != set(files)


def _sound_shape(known: Known | None, new: Draft, reference: Reference, told: list[str]) -> Draft:
    """Return a draft with the known shape, or none, in place of one that breaks a rule."""
    found = check_entry("", entry_document(new.facts, ()), reference)
    wrong = next((fault.what for fault in found if fault.where.startswith(", shape")), None)
    if wrong is None:
        return new
    told.append(f"the shape was not taken: {wrong}")
    shape = known.draft.facts.shape if known else None
    before = known.draft.facts.sources.get(SHAPE) if known else None
    sources = {name: text for name, text in new.facts.sources.items() if name != SHAPE}
    sources |= {SHAPE: before} if before else {}
    return new._replace(facts=new.facts._replace(shape=shape, sources=sources))


def _sound_rows(known: Known | None, new: Draft, reference: Reference) -> tuple[Draft, list[str]]:
    """Return a draft whose rows keep the rules, and what was taken back."""
    document = entry_document(*new)
    rows = document["files"]
    old = {file.label: file for file in known.draft.files} if known else {}
    found = check_entry("", document, reference)
    wrong = {rows[fault.row]["label"]: fault.what for fault in found if fault.row is not None}
    files, notes = [], []
    for file in new.files:
        before = old.get(file.label)
        if file.label in wrong and before != file:
            kept = "kept as it was" if before else "left out"
            notes.append(
                f"{file.label} is {kept}, for what is there now breaks a rule: {wrong[file.label]}"
            )
            files += [before] if before else []
        else:
            files.append(file)
    return new._replace(files=tuple(files)), notes


def count_changes(found: Iterable[Change]) -> dict[str, int]:
    """Return how many changes there are of each kind, without those of a field."""
    counts = dict.fromkeys((str(kind) for kind in ChangeKind if kind is not ChangeKind.FIELD), 0)
    for change in found:
        if change.kind in counts:
            counts[change.kind] += 1
    return counts
