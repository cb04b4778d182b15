"""Receipts on disk: written beside what was fetched, and found again from any of its files."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quantpick.domain.receipt import SUFFIX, receipt_name, receipt_of, receipt_record
from quantpick.errors import IntegrityError
from quantpick.fetch.places import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from quantpick.domain.plan import Plan
    from quantpick.domain.receipt import Receipt

#: Folders above a file in which its receipt may be: paths in a repo are not deeper.
_DEEPEST = 8


def write_receipt(folder: Path, plan: Plan, receipt: Receipt) -> Path:
    """Write a quant's receipt below the folder that its paths begin in; return where it is.

    One that says the same already is left as it is, with its date. Raises DiskError.
    """
    path = folder / receipt_name(plan)
    with suppress(OSError, ValueError, IntegrityError):
        known = receipt_of(json.loads(path.read_text("utf-8")), path.name)
        if known == receipt._replace(license=None, fetched="", by=""):
            return path
    write_text(path, json.dumps(receipt_record(receipt), indent=1) + "\n")
    return path


def receipts_in(folder: Path) -> Iterator[Receipt]:
    """Yield the receipts of a folder. Raises IntegrityError for one that cannot be read."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        yield receipt_of(_read(path), str(path))


def receipts_above(file: Path) -> Iterator[tuple[Path, Receipt]]:
    """Yield the receipts in a file's folder and those above, each with its folder."""
    for folder in list(file.absolute().parents)[:_DEEPEST]:
        for receipt in receipts_in(folder):
            yield folder, receipt


def _read(path: Path) -> Any:  # noqa: ANN401 -- JSON, for receipt_of to check
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(
            f"cannot read the receipt {path}: {error}",
            "remove it and download the quant again",
        ) from error
