"""The use case that checks the catalog: every rule of every file, and what the whole holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantpick.domain.catalog_check import Fault, check_entry
from quantpick.domain.catalog_diff import entry_files
from quantpick.domain.entry import entry_document
from quantpick.domain.spec import is_repo_id
from quantpick.errors import QuantpickError
from quantpick.sources import catalog
from quantpick.sources.catalog_edit import (
    ALIASES,
    catalog_files,
    entry_facts,
    index_is_stale,
    is_alias,
    write_index,
)
from quantpick.sources.index import NAME as INDEX
from quantpick.sources.rows import read_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantpick.domain.catalog_stats import Tally
    from quantpick.domain.model import Reference
    from quantpick.sources.catalog_edit import CatalogFile


def check_catalog(tally: Tally) -> Iterator[Fault]:
    """Yield every fault of the catalog in use; entries without one are counted.

    The reference tables have to be readable, or this raises their IntegrityError.
    """
    reference = catalog.load_reference()
    sound = True
    for file in catalog_files("models"):
        faults = list(_file_faults(file)) or list(_entry_faults(file, reference))
        yield from faults
        if faults:
            sound = False
        elif file.document is not None:
            tally.count(file.document)
    yield from (fault for below in ("reference", ALIASES) for fault in _form_faults(below))
    yield from _alias_faults()
    if sound:
        yield from _index_faults()


def make_index() -> None:
    """Write the index of the catalog anew. Raises IntegrityError on a broken entry, DiskError."""
    write_index()


def _file_faults(file: CatalogFile) -> Iterator[Fault]:
    if file.document is None:
        yield Fault(file.name, "not a JSON object")
    elif not is_repo_id(_repo_id(file.name)):
        yield Fault(file.name, "its path is not models/OWNER/REPO.json")


def _repo_id(name: str) -> str:
    return name.removeprefix("models/").removesuffix(".json")


def _entry_faults(file: CatalogFile, reference: Reference) -> Iterator[Fault]:
    document = file.document or {}
    faults = list(check_entry(file.name, document, reference))
    yield from faults
    if not file.canonical:
        yield Fault(file.name, "not in the one form that commands write")
    if not faults:
        yield from _computed_faults(file.name, document)


def _computed_faults(name: str, document: dict[str, Any]) -> Iterator[Fault]:
    """Yield what the loader refuses, and rows whose weights do not follow from shape and label."""
    try:
        facts = entry_facts(_repo_id(name), document)
    except QuantpickError as error:
        yield Fault(name, error.message)
        return
    computed = entry_document(facts, entry_files(document))
    weights = {row["label"]: row.get("weights") for row in computed["files"]}
    for at, row in enumerate(document["files"]):
        if row.get("weights") != weights[row["label"]]:
            yield Fault(
                f"{name}, files row {at + 1}",
                f"its weights are not what the shape and {row['label']} give",
                at,
            )


def _form_faults(below: str) -> Iterator[Fault]:
    for file in catalog_files(below):
        if file.document is None:
            yield Fault(file.name, "not a JSON object")
        elif not file.canonical:
            yield Fault(file.name, "not in the one form that commands write")


def _alias_faults() -> Iterator[Fault]:
    """Yield aliases that name nothing, or that nobody could type."""
    try:
        names, document = catalog.load_aliases(), read_document(ALIASES)
    except QuantpickError as error:
        yield Fault(ALIASES, error.message)
        return
    known: set[str] = set(catalog.repo_ids())
    seen: set[str] = set()
    if names.default not in known:
        yield Fault(ALIASES, f"the default {names.default} is not catalogued")
    for number, row in enumerate(document["aliases"], start=1):
        where, alias = f"{ALIASES}, aliases row {number}", row["alias"]
        if row["repo_id"] not in known:
            yield Fault(where, f"{row['repo_id']} is not catalogued")
        if not is_alias(alias):
            yield Fault(where, f"{alias!r} cannot be typed as an alias")
        if alias in seen:
            yield Fault(where, f"the alias {alias} appears twice")
        seen.add(alias)


def _index_faults() -> Iterator[Fault]:
    """Yield that the index is not of these entries, which all keep the rules."""
    try:
        stale = index_is_stale()
    except QuantpickError as error:
        yield Fault(INDEX, error.message)
        return
    if stale:
        yield Fault(INDEX, "stale: not what the entries give")
