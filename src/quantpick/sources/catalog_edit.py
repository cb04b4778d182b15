"""Catalog files as commands change them: read as documents, written whole in their one form."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.entry import EntryFacts
from quantpick.domain.spec import Spec, is_repo_id, parse_spec
from quantpick.errors import DiskError, UsageError
from quantpick.locks import hold
from quantpick.sources import catalog, index
from quantpick.sources.catalog_format import dump_table
from quantpick.sources.rows import CATALOG_VARIABLE, catalog_dir, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALIASES = "aliases.json"


class CatalogFile(NamedTuple):
    """A file of the catalog: its name in the folder, its text, and what it says as JSON.

    ``document`` is None where it is no JSON object, and ``rows_field`` where it holds no table.
    """

    name: str
    text: str
    document: dict[str, Any] | None
    rows_field: str | None

    @property
    def canonical(self) -> bool:
        """Whether the text is what a command would write."""
        if self.document is None or self.rows_field is None:
            return False
        return dump_table(self.document, self.rows_field) == self.text


def entry_path(repo_id: str) -> Path:
    """Return where the entry of a repo is. Raises UsageError for a name that no repo has."""
    if not is_repo_id(repo_id):
        raise UsageError(f"{repo_id!r} is not the name of a repo", "write OWNER/REPO")
    return catalog_dir() / _entry_name(repo_id)


def read_entry(repo_id: str) -> dict[str, Any] | None:
    """Return the entry of a repo, None without one. Raises IntegrityError."""
    return read_document(_entry_name(repo_id)) if entry_path(repo_id).is_file() else None


def entry_digest(repo_id: str) -> str:
    """Return what tells this text of an entry from any other."""
    try:
        return hashlib.sha256(entry_path(repo_id).read_bytes()).hexdigest()
    except OSError:
        return ""


def entry_facts(repo_id: str, document: dict[str, Any]) -> EntryFacts:
    """Return what an entry says beside its files. Raises IntegrityError where it breaks a rule."""
    model = catalog.load_model(repo_id)
    return EntryFacts(
        title=model.title or repo_id,
        base_model=model.base_model,
        base_gated=model.base_gated,
        license=model.license,
        quantizer=model.quantizer or repo_id.partition("/")[0],
        llama_cpp=model.llama_cpp,
        imatrix=model.imatrix,
        prompt_format=model.prompt_format,
        shape=model.shape,
        sources=document["sources"],
    )


def write_entry(repo_id: str, document: dict[str, Any]) -> Path:
    """Write the entry of a repo, the whole of it or nothing. Raises DiskError."""
    path = entry_path(repo_id)
    _write(path, dump_table(document, "files"))
    return path


def is_alias(text: str) -> bool:
    """Whether a word is read as the short name of a repo, and not as a label or a path."""
    try:
        parsed = parse_spec(text)
    except UsageError:
        return False
    return parsed == Spec(repo=text) and "/" not in text and text == text.lower()


def write_aliases(repo_id: str, aliases: list[str]) -> None:
    """Give a repo these short names beside those it has; the rows stay sorted."""
    with _alone():
        document = read_document(ALIASES)
        named = {row["alias"]: row["repo_id"] for row in document["aliases"]}
        named |= dict.fromkeys(aliases, repo_id)
        rows = [{"alias": alias, "repo_id": named[alias]} for alias in sorted(named)]
        _write(catalog_dir() / ALIASES, dump_table({**document, "aliases": rows}, "aliases"))


def write_index() -> None:
    """Make the index of the catalog anew. Raises IntegrityError on a broken entry, DiskError."""
    with _alone():
        _write(index.index_path(), index.build_index())


def index_is_stale() -> bool:
    """Whether there is an index that says something else than the entries.

    A catalog may do without one. Raises IntegrityError.
    """
    path = index.index_path()
    return path.is_file() and path.read_bytes() != index.build_index().encode()


def catalog_files(below: str) -> Iterator[CatalogFile]:
    """Yield the files in a folder of the catalog, or the one file of that name."""
    root = catalog_dir()
    place = root / below
    paths = [place] if place.is_file() else sorted(place.rglob("*.json"))
    for path in paths:
        text = path.read_text("utf-8", "replace")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        document = found if isinstance(found, dict) else None
        lists = [name for name, value in (document or {}).items() if isinstance(value, list)]
        yield CatalogFile(
            path.relative_to(root).as_posix(), text, document, lists[0] if lists else None
        )


def _entry_name(repo_id: str) -> str:
    return f"models/{repo_id}.json"


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other process make what is made of several files meanwhile. Raises DiskError."""
    lock = catalog_dir() / ".lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(hold([lock]))
        except OSError as error:
            raise _unwritten(lock, error) from error
        yield


def _write(path: Path, text: str) -> None:
    # A name of its own: another process may write the same file now.
    written = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text, "utf-8", newline="\n")
        written.replace(path)
    except OSError as error:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"cannot write the catalog file {path}: {error.strerror or error}",
        f"set {CATALOG_VARIABLE} to a catalog folder that can be written",
    )
