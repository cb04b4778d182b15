"""Files of the catalog as rows of checked fields.

A file that breaks a rule is an error that names the file and the row; nothing in it is then used.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from quantpick.errors import IntegrityError, NotFoundError

#: The form of catalog files this version reads.
SCHEMA = 1

#: Environment variable that names another catalog folder to use in place of the embedded one.
CATALOG_VARIABLE = "QUANTPICK_CATALOG"

_T = TypeVar("_T")


def catalog_dir() -> Path:
    """Return the folder of the catalog in use."""
    override = os.environ.get(CATALOG_VARIABLE)
    return Path(override) if override else Path(__file__).parents[1] / "catalog"


def read_document(name: str) -> dict[str, Any]:
    """Return a file of the catalog. Raises NotFoundError without it, IntegrityError if broken."""
    path = catalog_dir() / name
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NotFoundError(
            f"cannot read the catalog file {path}: {error.strerror}",
            f"reinstall quantpick, or correct {CATALOG_VARIABLE} if you set it",
        ) from error
    except (ValueError, RecursionError) as error:
        broken(name, f"not valid JSON: {error}")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        broken(name, f"not a catalog file of schema {SCHEMA}")
    return document


def broken(where: str, what: str) -> NoReturn:
    """Raise IntegrityError: say where the catalog is broken, and how."""
    raise IntegrityError(
        f"broken catalog: {where}: {what}",
        f"reinstall quantpick, or correct the file under {catalog_dir()}",
    )


def rows_of(document: dict[str, Any], name: str, field: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a list in a document, each with the words for where it is."""
    rows = document.get(field)
    if not isinstance(rows, list) or not rows:
        broken(name, f"{field} is not a list of rows")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            broken(f"{name}, {field} row {number}", "not an object")
    return [(f"{name}, {field} row {number}", row) for number, row in enumerate(rows, start=1)]


def typed(row: dict[str, Any], field: str, kind: type[_T], where: str) -> _T:
    """Return a field of a row. Raises IntegrityError where it is missing or of another type."""
    value = optional(row, field, kind, where)
    if value is None:
        broken(where, f"{field} is missing")
    return value


def optional(row: dict[str, Any], field: str, kind: type[_T], where: str) -> _T | None:
    """Return a field of a row, None where it is missing."""
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        broken(where, f"{field} is not of type {kind.__name__}")
    return value


def text_of(row: dict[str, Any], field: str, where: str) -> str:
    """Return a text that is not empty."""
    value = typed(row, field, str, where)
    if not value:
        broken(where, f"{field} is empty")
    return value


def count_of(row: dict[str, Any], field: str, where: str) -> int:
    """Return a whole number above zero."""
    value = typed(row, field, int, where)
    if value <= 0:
        broken(where, f"{field} is not above zero")
    return value


def texts_of(row: dict[str, Any], field: str, where: str) -> tuple[str, ...]:
    """Return a list of texts, none of them empty."""
    values = typed(row, field, list, where)
    if not all(isinstance(value, str) and value for value in values):
        broken(where, f"{field} holds something other than text")
    return tuple(values)
