"""The catalog in one file: what a choice between models needs, and no more of each.

``catalog/index.json`` is made from ``catalog/models``, which stays the truth: paths, digests and
the places of the weights are there alone. A catalog folder without an index is read model by model.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from quantpick.domain.model import Model, QuantFile
from quantpick.domain.shape import Layer, Shape
from quantpick.errors import NotFoundError
from quantpick.sources import catalog
from quantpick.sources.rows import broken, catalog_dir, read_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "index.json"

#: Fields of a model that the index has, beside its shape and the sizes of its files.
_FIELDS = ("title", "base_model", "base_gated", "license", "quantizer")


def index_path() -> Path:
    """Return where the index of the catalog in use is."""
    return catalog_dir() / NAME


def load_index() -> tuple[Model, ...]:
    """Return all catalogued models by size, without what only their own files tell.

    Raises IntegrityError on a broken index.
    """
    try:
        document = read_document(NAME)
    except NotFoundError:
        return _all_models()
    try:
        return tuple(_model(row) for row in document["models"])
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        broken(NAME, f"not what this version writes: {type(error).__name__}: {error}")


def build_index() -> str:
    """Return the text of the index for the models that are there now."""
    # Row by row: all models with their weights at once would take far more memory than their rows.
    found = sorted(
        (*_place(model), json.dumps(_row(model), ensure_ascii=False)) for model in _models()
    )
    rows = ",\n".join(f"    {row}" for _, _, row in found)
    return f'{{\n  "schema": 1,\n  "models": [\n{rows}\n  ]\n}}\n'


def _all_models() -> tuple[Model, ...]:
    return tuple(sorted(_models(), key=_place))


def _place(model: Model) -> tuple[int, str]:
    return -model.parameters, model.repo_id


def _models() -> Iterator[Model]:
    names = catalog.load_aliases()
    for repo_id in catalog.repo_ids():
        yield catalog.load_model(repo_id)._replace(aliases=names.of(repo_id))


def _row(model: Model) -> dict[str, Any]:
    """Return a model as a row; what is unknown or usual is left out."""
    row: dict[str, Any] = {"repo_id": model.repo_id, "aliases": list(model.aliases)}
    row |= {name: getattr(model, name) for name in _FIELDS if getattr(model, name) is not None}
    if model.shape is not None:
        usual = Shape._field_defaults
        row["shape"] = {
            name: value
            for name, value in model.shape._asdict().items()
            if name not in usual or value != usual[name]
        }
    row["files"] = [[f.label, f.file_bytes, f.rounded_to, len(f.paths)] for f in model.files]
    return row


def _model(row: dict[str, Any]) -> Model:
    shape = row.get("shape")
    return Model(
        repo_id=row["repo_id"],
        # Only how many paths there are is known; their names are in the model's own file.
        files=tuple(
            QuantFile(label, size, ("",) * count, rounded)
            for label, size, rounded, count in row["files"]
        ),
        shape=None if shape is None else _shape(shape),
        aliases=tuple(row["aliases"]),
        **{name: row[name] for name in _FIELDS if name in row},
    )


def _shape(row: dict[str, Any]) -> Shape:
    layers = tuple(Layer(*layer) for layer in row.get("layers", ()))
    return Shape(**{**row, "layers": layers})
