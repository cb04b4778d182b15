"""Receipts on disk: written beside what was fetched, and found again from any of its files."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quantpick.domain.receipt import (
    SUFFIX,
    Receipt,
    add_entries,
    receipt_name,
    receipt_of,
    receipt_record,
)
from quantpick.errors import IntegrityError
from quantpick.fetch.places import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from quantpick.domain.receipt import Entry

#: Folders above a file in which its receipt may be: paths in a repo are not deeper.
_DEEPEST = 8


def write_receipt(
    folder: Path, repo_id: str, licence: str | None, entries: Sequence[Entry]
) -> Path:
    """Add files to a repo's receipt in the folder that their paths begin in; return where it is.

    One that cannot be read is written anew. Raises DiskError.
    """
    path = folder / receipt_name(repo_id)
    known = Receipt(repo_id, licence, ())
    with suppress(IntegrityError):
        known = receipt_of(_read(path), path.name) if path.exists() else known
    written = add_entries(known._replace(repo_id=repo_id, license=licence), entries)
    if written != known or not path.exists():
        write_text(path, json.dumps(receipt_record(written), indent=1) + "\n")
    return path


def receipts_below(folder: Path) -> Iterator[tuple[Path, Receipt]]:
    """Yield the receipts in a folder and below, each with its folder.

    Raises IntegrityError for one that cannot be read.
    """
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        yield path.parent, receipt_of(_read(path), str(path))


def receipts_above(path: Path) -> Iterator[tuple[Path, Receipt]]:
    """Yield the receipts in the folders above a file or folder, each with its folder.

    Raises IntegrityError for one beside it that cannot be read; further up it may be a stranger's.
    """
    for depth, folder in enumerate(list(path.absolute().parents)[:_DEEPEST]):
        ignored = (IntegrityError,) if depth else ()
        for found in sorted(folder.glob(f"*{SUFFIX}")):
            with suppress(*ignored):
                yield folder, receipt_of(_read(found), str(found))


def _read(path: Path) -> Any:  # noqa: ANN401 -- JSON, for receipt_of to check
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(
            f"cannot read the receipt {path}: {error}",
            "remove it and download the quant again",
        ) from error
