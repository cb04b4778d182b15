"""What was fetched from one repo into a folder: from which commit, and the digest of every file.

A receipt lies beside the files, so that they can be proven again without the Hub. It grows with
each quant; a file that is fetched again has its entry replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.file_record import file_of, file_record, safe_path, text
from quantpick.domain.names import printable
from quantpick.domain.plan import Target
from quantpick.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How the names of receipts end.
SUFFIX = ".quantpick.json"

_FORMAT = 1


class Entry(NamedTuple):
    """One file: its digests, its quant, its commit, the day and time it was fetched (UTC).

    ``by`` is the version of quantpick that fetched it.
    """

    target: Target
    label: str
    revision: str
    fetched: str
    by: str


class Receipt(NamedTuple):
    """What a receipt says of the files from one repo."""

    repo_id: str
    license: str | None
    entries: tuple[Entry, ...]


def receipt_name(repo_id: str) -> str:
    """Return the name of a repo's receipt."""
    return f"{repo_id.replace('/', '--')}{SUFFIX}"


def add_entries(receipt: Receipt, entries: Iterable[Entry]) -> Receipt:
    """Return a receipt with files added; one that says the same already keeps its date."""
    known = {entry.target.path: entry for entry in receipt.entries}
    for entry in entries:
        old = known.get(entry.target.path)
        if old is None or old._replace(fetched="", by="") != entry._replace(fetched="", by=""):
            known[entry.target.path] = entry
    return receipt._replace(entries=tuple(known.values()))


def receipt_record(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as the fields of its JSON file."""
    return {
        "format": _FORMAT,
        "repo_id": receipt.repo_id,
        "license": receipt.license,
        "files": [
            {
                "path": entry.target.path,
                "label": entry.label,
                "revision": entry.revision,
                "fetched": entry.fetched,
                "quantpick": entry.by,
                "parts": [file_record(part) for part in entry.target.parts],
            }
            for entry in receipt.entries
        ],
    }


def receipt_of(record: Any, name: str) -> Receipt:  # noqa: ANN401 -- JSON, checked here
    """Return the receipt of a JSON file; ``name`` is for messages. Raises IntegrityError."""
    try:
        known = {_FORMAT: record["files"]}
        entries = tuple(_entry(row) for row in known[record["format"]])
        licence = record["license"]
        return Receipt(text(record["repo_id"]), None if licence is None else text(licence), entries)
    except (TypeError, LookupError, ValueError) as error:
        raise IntegrityError(
            f"{name} is no receipt that can be read: {printable(str(error))}",
            "remove it and download the quant again",
        ) from error


def _entry(row: dict[str, Any]) -> Entry:
    parts = tuple(file_of(part) for part in row["parts"])
    if not parts:
        raise ValueError("a file without parts")
    words = (text(row[key]) for key in ("label", "revision", "fetched", "quantpick"))
    return Entry(Target(safe_path(row["path"]), parts), *words)
