"""The door to the matrix of tensor types by backend: read, checked row by row, made into values."""

from __future__ import annotations

from typing import Any

from quantpick.domain.model import TypeSupport
from quantpick.sources.rows import broken, read_document, rows_of, texts_of, typed

#: The file inside the catalog.
NAME = "reference/backends.json"

#: The fields of a row, which are those of a TypeSupport, by the type of their values.
_FIELDS: dict[str, type] = {
    **dict.fromkeys(("tensor_types", "backends"), list),
    **dict.fromkeys(("since", "until", "checked", "slow_until"), int),
    **dict.fromkeys(("source", "date", "otherwise", "needs", "speed", "speed_source"), str),
    **dict.fromkeys(("why", "instead", "engine"), str),
    "at_latest": bool,
}
_SPEEDS = (None, "fast", "slow")
_OUTCOMES = ("cpu", "abort")


def load_support() -> tuple[dict[tuple[str, str], TypeSupport], dict[str, TypeSupport]]:
    """Read the rows by (tensor type, backend), and those of types that llama.cpp does not load.

    Raises IntegrityError on a broken file or row.
    """
    document = read_document(NAME)
    sources = document.get("sources")
    if not isinstance(sources, dict):
        broken(NAME, "sources is not a table")
    support: dict[tuple[str, str], TypeSupport] = {}
    gone: dict[str, TypeSupport] = {}
    for where, record in rows_of(document, NAME, "support"):
        row = _row(record, sources, where)
        cells = [(kind, backend) for kind in row.tensor_types for backend in row.backends]
        names = row.tensor_types if row.instead else ()
        twice = [" on ".join(cell) for cell in cells if cell in support]
        for name in (*twice, *(name for name in names if name in gone)):
            broken(where, f"{name} has a row already")
        support.update(dict.fromkeys(cells, row))
        gone.update(dict.fromkeys(names, row))
    return support, gone


def _row(row: dict[str, Any], sources: dict[str, str], where: str) -> TypeSupport:
    fields: dict[str, Any] = {"backends": (), "since": None}
    for field, value in row.items():
        kind = _FIELDS.get(field) or broken(where, f"{field} is not a field of a row")
        if kind is list:
            fields[field] = texts_of(row, field, where)
        elif value is not None or field != "since":
            # Asked only where it is of another type: there are many rows at every start.
            fields[field] = value if type(value) is kind else typed(row, field, kind, where)
    for field in ("source", "speed_source"):
        if field in row:
            fields[field] = sources.get(row[field]) or broken(where, f"{field} is not in sources")
    for field in ("tensor_types", "source", "date"):
        if field not in row:
            broken(where, f"{field} is missing")
    value = TypeSupport(**fields)
    fault = _fault(value)
    return broken(where, fault) if fault else value


def _fault(row: TypeSupport) -> str | None:
    """Return what a row leaves open or contradicts, None where it is whole."""
    never = row.since is None and not row.engine
    builds = (row.since, row.until, row.checked, row.slow_until)
    rules = {
        "tensor_types is empty": bool(row.tensor_types),
        "it needs backends, or an engine": bool(row.backends) is not bool(row.engine),
        "date is not a day or a month": _is_date(row.date),
        "a build is below zero": all(build is None or build >= 0 for build in builds),
        "until is not after since": row.until is None or row.until > (row.since or 0),
        "speed is neither fast nor slow": row.speed in _SPEEDS,
        "speed and speed_source go together": (row.speed is None) is (row.speed_source is None),
        "slow and why go together": row.speed != "slow" or bool(row.why),
        "only what is slow has a slow_until": row.slow_until is None or row.speed == "slow",
        "checked and otherwise belong to what never ran": never is (row.checked is not None)
        and never is (row.otherwise in _OUTCOMES),
        "instead belongs to what is gone": bool(row.until or row.engine) is bool(row.instead),
    }
    return next((fault for fault, kept in rules.items() if not kept), None)


def _is_date(text: str) -> bool:
    year, _, rest = text.partition("-")
    numbers = (year, *rest.split("-"))
    lengths = [len(number) for number in numbers if number.isdecimal()]
    return lengths in ([4, 2], [4, 2, 2]) and len(lengths) == len(numbers)
