"""The tensors of catalogued models, from their shape alone, and catalog entries read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from quantpick.domain.blueprint import blueprint
from quantpick.domain.catalog_diff import entry_files
from quantpick.sources import rows
from quantpick.sources.catalog_edit import entry_facts

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.blueprint import Slot
    from quantpick.domain.entry import EntryFacts, EntryFile
    from quantpick.domain.shape import Shape


def slots_of(shape: Shape, *, rope_freqs: bool) -> tuple[Slot, ...]:
    """Return names and dimensions; ``rope_freqs`` adds the tensor that Llama 3.1 and 3.2 have."""
    slots = blueprint(shape, rope_freqs=rope_freqs)
    assert slots is not None
    return slots


def path_of(repo_id: str) -> Path:
    """Return the catalog file of a repo."""
    return rows.catalog_dir() / "models" / f"{repo_id}.json"


def facts_of(repo_id: str) -> EntryFacts:
    """Return what a catalog file tells beside its rows."""
    return entry_facts(repo_id, _document(repo_id))


def files_of(repo_id: str) -> tuple[EntryFile, ...]:
    """Return the rows of a catalog file without what is computed of them."""
    return entry_files(_document(repo_id))


def _document(repo_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path_of(repo_id).read_text("utf-8"))
    return document
