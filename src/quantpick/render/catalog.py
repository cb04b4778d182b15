"""The catalog's upkeep in words and as documents: one line a change, one a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantpick.domain.catalog_diff import ChangeKind
from quantpick.domain.proposal import RepoState, count_changes
from quantpick.domain.units import format_gb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from quantpick.domain.catalog_check import Fault
    from quantpick.domain.catalog_diff import Change
    from quantpick.domain.catalog_stats import Tally
    from quantpick.domain.proposal import Outcome, Proposal

_MARKS = {ChangeKind.ENTRY: "+", ChangeKind.NEW: "+", ChangeKind.GONE: "-"}

#: Characters of a value that are shown: a digest can be told by its first.
_DIGEST, _LONGEST = 12, 100

_COUNTED = {
    ChangeKind.NEW: "new",
    ChangeKind.GONE: "gone",
    ChangeKind.SIZE: "of another size",
    ChangeKind.EXACT: "now exact",
    ChangeKind.PATHS: "renamed",
    ChangeKind.SHA256: "with another or a new sha256",
}

Record = dict[str, Any]


# One repo


def proposal_lines(found: Proposal) -> Iterator[str]:
    """Yield what would change, one line each, and what was left out."""
    if found.document is None:
        yield f"{found.repo_id}: nothing new"
    yield from _lines(found.repo_id, found.changes, found.notes)


def proposal_document(found: Proposal, written: str | None) -> Record:
    """Return a proposal; ``entry`` is the whole file, ``written`` where it was put."""
    return {
        "repo_id": found.repo_id,
        "changes": [_change_record(change) for change in found.changes],
        "notes": list(found.notes),
        "entry": found.document,
        "written": written,
    }


# All repos


class Summary:
    """Counts of a refresh as it goes."""

    def __init__(self) -> None:
        self.repos = dict.fromkeys(RepoState, 0)
        self.changes = count_changes(())

    def count(self, found: Outcome) -> None:
        """Count one repo."""
        self.repos[found.state] += 1
        for kind, number in count_changes(found.changes).items():
            self.changes[kind] += number

    @property
    def asked(self) -> int:
        """All repos so far."""
        return sum(self.repos.values())

    def record(self) -> Record:
        """Return the counts for a document."""
        repos = {str(state): number for state, number in self.repos.items()}
        return {"repos": {"all": self.asked, **repos}, "changes": self.changes}

    def line(self, *, write: bool) -> str:
        """Return the counts in one line."""
        counted = [f"{n} {word}" for kind, word in _COUNTED.items() if (n := self.changes[kind])]
        files = f"; files: {', '.join(counted)}" if counted else ""
        changed = self.repos[RepoState.CHANGED]
        written = "written" if write else "nothing written, to write: --write"
        repos = f"{self.asked} repo{'' if self.asked == 1 else 's'}: "
        repos += f"{self.repos[RepoState.SAME]} as catalogued, {changed} changed"
        for state in (RepoState.GONE, RepoState.FAILED):
            repos += f", {self.repos[state]} {state}" if self.repos[state] else ""
        return f"{repos}{files}{f' ({written})' if changed else ''}"


def outcome_lines(found: Outcome) -> Iterator[str]:
    """Yield what is new about one repo, nothing for one that is as catalogued."""
    if found.state is RepoState.GONE:
        yield f"- {found.repo_id}  its entry stays, but {found.notes[0]}"
    elif found.state is RepoState.FAILED:
        yield f"! {found.repo_id}  {found.notes[0]}"
    else:
        yield from _lines(found.repo_id, found.changes, found.notes)


def outcome_record(found: Outcome) -> Record:
    """Return one repo of a refresh."""
    return {
        "repo_id": found.repo_id,
        "state": found.state,
        "changes": [_change_record(change) for change in found.changes],
        "notes": list(found.notes),
    }


# Changes


def _lines(repo_id: str, changes: Iterable[Change], notes: Iterable[str]) -> Iterator[str]:
    for change in changes:
        yield f"{_mark(change)} {repo_id}  {_words(change)}"
    for note in notes:
        yield f"! {repo_id}  {note}"


def _mark(change: Change) -> str:
    """Return whether something came, went or changed."""
    if change.kind is ChangeKind.FIELD and (change.was is None or change.now is None):
        return "+" if change.was is None else "-"
    return _MARKS.get(change.kind, "~")


def _words(change: Change) -> str:
    """Return a change without its mark and repo."""
    was, now = change.was, change.now
    if change.kind is ChangeKind.ENTRY:
        return f"a new entry of {now} quant{'' if now == 1 else 's'}"
    if change.kind is ChangeKind.FIELD and (was is None or now is None):
        return f"{change.what}: {_value(was if now is None else now)}"
    if change.kind is ChangeKind.FIELD:
        return f"{change.what}: {_value(was)} -> {_value(now)}"
    if change.kind in {ChangeKind.NEW, ChangeKind.GONE}:
        return f"{change.what}  {_row(now or was)}"
    if change.kind is ChangeKind.WEIGHTS:
        return f"{change.what}  where its bytes go is {'known' if now else 'no longer known'}"
    name, told = _TOLD[change.kind]
    return f"{change.what}  {name} {told(was)} -> {told(now)}"


def _value(value: object) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _size(size: Record) -> str:
    if "rounded_to" in size:
        return f"~{format_gb(size['bytes'])} (in steps of {format_gb(size['rounded_to'])})"
    return f"{size['bytes']} bytes"


def _row(row: Record) -> str:
    paths = row["paths"]
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    proven = ", sha256 known" if row["sha256"] else ""
    return f"{_size(row)}  {paths[0]}{more}{proven}"


def _digests(digests: list[str] | None) -> str:
    return " ".join(digest[:_DIGEST] for digest in digests) if digests else "unknown"


def _said(words: Record) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in words.items())


#: How a change of a row is told: what changes, and the value before and after.
_TOLD: dict[ChangeKind, tuple[str, Callable[[Any], str]]] = {
    ChangeKind.SIZE: ("size", _size),
    ChangeKind.EXACT: ("size now exact:", _size),
    ChangeKind.PATHS: ("files", _value),
    ChangeKind.SHA256: ("sha256", _digests),
    ChangeKind.WORDS: ("the card's words:", _said),
}


def _change_record(change: Change) -> Record:
    return {"kind": change.kind, "what": change.what, "was": change.was, "now": change.now}


# The check


def fault_line(fault: Fault) -> str:
    """Return where a fault is, and what it is."""
    return f"{fault.where}: {fault.what}"


def stats_lines(tally: Tally) -> Iterator[str]:
    """Yield the counts: how much there is, how much of it is known, and by what."""
    yield f"{tally.repos} repos with {tally.rows} quants"
    for name, (known, of) in tally.shares().items():
        yield f"{name}: {known} of {of} ({_percent(known, of)})"
    for title, counts in _groups(tally).items():
        yield f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts)


def stats_record(tally: Tally) -> Record:
    """Return the counts for a document."""
    return {
        "repos": tally.repos,
        "quants": tally.rows,
        "known": {
            name.replace(" ", "_"): {"count": known, "of": of}
            for name, (known, of) in tally.shares().items()
        },
        **{title.replace(" ", "_"): dict(counts) for title, counts in _groups(tally).items()},
    }


def _groups(tally: Tally) -> dict[str, list[tuple[str, int]]]:
    counters = {
        "repos by quantizer": tally.quantizers,
        "repos by architecture": tally.architectures,
        "quants by family": tally.families,
    }
    return {
        title: sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        for title, counts in counters.items()
    }


def _percent(known: int, of: int) -> str:
    return f"{100 * known / of:.0f} %" if of else "none"
