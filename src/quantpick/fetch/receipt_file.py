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
from quantpick.fetch.places import STAGING, disk_error, tidy, write_text
from quantpick.locks import hold

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
    known = _known(path, repo_id)
    if path.exists() and _grown(known, licence, entries) == known:
        return path
    try:
        # Another process may add another quant now.
        with hold([folder / STAGING / f"{path.name}.lock"]):
            record = receipt_record(_grown(_known(path, repo_id), licence, entries))
            write_text(path, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise disk_error(folder, error) from error
    finally:
        tidy(folder)
    return path


def _known(path: Path, repo_id: str) -> Receipt:
    """Return the receipt that is there, an empty one where there is none or a damaged one."""
    with suppress(IntegrityError):
        if path.exists():
            return receipt_of(_read(path), path.name)
    return Receipt(repo_id, None, ())


def _grown(known: Receipt, licence: str | None, entries: Sequence[Entry]) -> Receipt:
    return add_entries(known._replace(license=licence), entries)


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
