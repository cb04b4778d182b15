"""The tensors of catalogued models, from their shape alone, and catalog entries read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from quantpick.domain.blueprint import blueprint
from quantpick.domain.entry import EntryFacts, EntryFile
from quantpick.sources import rows
from quantpick.sources.catalog import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.blueprint import Slot
    from quantpick.domain.shape import Shape


def slots_of(shape: Shape, *, rope_freqs: bool) -> tuple[Slot, ...]:
    """Return names and dimensions; ``rope_freqs`` adds the tensor that Llama 3.1 and 3.2 have."""
    slots = blueprint(
        architecture=shape.architecture,
        block_count=shape.block_count,
        head_count=shape.head_count,
        head_count_kv=shape.head_count_kv,
        key_length=shape.key_length,
        value_length=shape.value_length,
        embedding_length=shape.embedding_length,
        feed_forward_length=shape.feed_forward_length,
        vocab_size=shape.vocab_size,
        tied=shape.tied,
        expert_count=shape.expert_count,
        expert_feed_forward_length=shape.expert_feed_forward_length,
        rope_freqs=rope_freqs,
    )
    assert slots is not None
    return slots


def path_of(repo_id: str) -> Path:
    """Return the catalog file of a repo."""
    return rows.catalog_dir() / "models" / f"{repo_id}.json"


def facts_of(repo_id: str) -> EntryFacts:
    """Return what a catalog file tells beside its rows."""
    model, document = load_model(repo_id), json.loads(path_of(repo_id).read_text("utf-8"))
    assert model.title is not None
    assert model.quantizer is not None
    return EntryFacts(
        title=model.title,
        base_model=model.base_model,
        base_gated=model.base_gated,
        license=model.license,
        quantizer=model.quantizer,
        llama_cpp=model.llama_cpp,
        imatrix=model.imatrix,
        prompt_format=model.prompt_format,
        shape=model.shape,
        sources=document["sources"],
    )


def files_of(repo_id: str) -> list[EntryFile]:
    """Return the rows of a catalog file without what is computed of them."""
    document = json.loads(path_of(repo_id).read_text("utf-8"))
    return [_file(row) for row in document["files"]]


def _file(row: dict[str, Any]) -> EntryFile:
    return EntryFile(
        label=row["label"],
        paths=tuple(row["paths"]),
        file_bytes=row["bytes"],
        rounded_to=row.get("rounded_to", 0),
        sha256=tuple(row.get("sha256", ())),
        source=row["source"],
        seen=row["seen"],
        recommended=row.get("recommended"),
        token_embd_type=row.get("token_embd_type"),
        output_type=row.get("output_type"),
    )
