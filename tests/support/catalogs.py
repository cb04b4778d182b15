"""Small catalogs of a test's own, the repos that they are about, and models of a few kilobytes."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

from quantpick.domain.mixing import mixed_types
from quantpick.domain.shape import Shape
from quantpick.sources.catalog_format import dump_table
from quantpick.sources.rows import catalog_dir
from tests.support.catalog_models import slots_of
from tests.support.command import Command, Result
from tests.support.gguf_headers import ARR, STR, U32, Pair, Row, pack_file

if TYPE_CHECKING:
    from pathlib import Path

MAKER = "someone"
REPO = "someone/Tiny-Llama-GGUF"
NAME = "Tiny-Llama"

SHAPE = Shape(
    architecture="llama",
    parameters=0,
    block_count=2,
    head_count=4,
    head_count_kv=2,
    key_length=64,
    value_length=64,
    embedding_length=256,
    feed_forward_length=512,
    vocab_size=512,
    context_length=2048,
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def tiny_llama(label: str, blocks: int = 2) -> bytes:
    """Return a whole file of this label, as llama.cpp would mix it, its tensors all zeros."""
    shape = SHAPE._replace(block_count=blocks)
    slots = slots_of(shape, rope_freqs=False)
    types = mixed_types(
        label, slots, architecture="llama", block_count=blocks, head_count=4, head_count_kv=2
    )
    assert types is not None
    rows = [Row(name, dims, kind) for (name, dims), kind in zip(slots, types, strict=True)]
    figures = {
        "block_count": blocks,
        "context_length": shape.context_length,
        "embedding_length": shape.embedding_length,
        "feed_forward_length": shape.feed_forward_length,
        "attention.head_count": shape.head_count,
        "attention.head_count_kv": shape.head_count_kv,
    }
    tokens = Pair("tokenizer.ggml.tokens", ARR, [f"t{n}" for n in range(512)], STR)
    pairs = [Pair("general.architecture", STR, "llama"), tokens]
    pairs += [Pair(f"llama.{name}", U32, figure) for name, figure in figures.items()]
    return pack_file(pairs, rows)


def named(label: str) -> str:
    return f"{NAME}-{label}.gguf"


def files(*labels: str) -> dict[str, bytes]:
    """Return the files of a repo with these quants."""
    return {named(label): tiny_llama(label) for label in labels}


def row(label: str, size: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- any field
    """Return a row of an entry."""
    return {
        "label": label,
        "bytes": size,
        "paths": [named(label)],
        "source": "card",
        "seen": "2025-01-31",
        **more,
    }


def entry(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- any field
    """Return an entry with these rows, of a model whose shape is not known."""
    document = {
        "schema": 1,
        "title": "Tiny Llama",
        "base_model": "someone/Tiny-Llama",
        "license": "apache-2.0",
        "quantizer": MAKER,
        **more,
        "sources": {"card": "model card of this repo; sizes as it rounds them"},
    }
    return {**document, "files": list(rows)}


def new_catalog(folder: Path, entries: dict[str, dict[str, Any]]) -> Path:
    """Write a catalog of these entries, with the reference tables of the real one."""
    shutil.copytree(catalog_dir() / "reference", folder / "reference")
    for repo_id, document in entries.items():
        put(folder, repo_id, document)
    put_aliases(folder, next(iter(entries), REPO))
    return folder


def put_aliases(folder: Path, repo_id: str) -> None:
    """Make a repo the default one, and give it a short name."""
    rows = [{"alias": "tiny", "repo_id": repo_id}]
    aliases = {"schema": 1, "default": repo_id, "aliases": rows}
    (folder / "aliases.json").write_text(dump_table(aliases, "aliases"), "utf-8")


def put(folder: Path, repo_id: str, document: dict[str, Any]) -> Path:
    """Write one entry in the form that commands write."""
    path = folder / "models" / f"{repo_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_table(document, "files"), "utf-8")
    return path


def get(folder: Path, repo_id: str = REPO) -> dict[str, Any]:
    """Return an entry, which has to be in the form that commands write."""
    text = (folder / "models" / f"{repo_id}.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    assert dump_table(document, "files") == text
    return document


def rows_of(folder: Path, repo_id: str = REPO) -> dict[str, dict[str, Any]]:
    """Return the rows of an entry by label."""
    return {found["label"]: found for found in get(folder, repo_id)["files"]}


def known(label: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- any field
    """Return a row that says all of a file that there is to say."""
    data = tiny_llama(label)
    return {**row(label, len(data)), "sha256": [sha256(data)], **more}


def ordered(found: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its fields in the order of a written one."""
    order = ("label", "bytes", "rounded_to", "paths", "sha256", "recommended", "source", "seen")
    return {field: found[field] for field in order if field in found}


class Shop:
    """A catalog of one test, and the command that compares it with the Hub."""

    def __init__(self, online: Command, *rows: dict[str, Any]) -> None:
        entries = {REPO: entry(*map(ordered, rows))} if rows else {}
        self.catalog = new_catalog(online.cwd / "catalog", entries)
        env = {"QUANTPICK_CATALOG": str(self.catalog), "QUANTPICK_CACHE": str(online.cwd / "kept")}
        self.online = Command(online.cwd, {**online.env, **env})

    def __call__(self, *words: str, status: int = 0) -> Result:
        """Run a refresh."""
        done = self.online("catalog", "refresh", *words)
        assert done.status == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def lines(self, *words: str) -> list[str]:
        """Return what a refresh says of the one repo, without its name and its sources."""
        told = [line for line in self(*words).stdout.splitlines() if f" {REPO}  " in line]
        return [line.replace(f" {REPO}  ", " ") for line in told if "sources." not in line]

    def text(self) -> str:
        """Return the entry's file as it is."""
        return (self.catalog / "models" / f"{REPO}.json").read_text("utf-8")
