"""The only door to the embedded catalog: read, checked row by row, turned into values.

``catalog/README.md`` describes the files. A file that breaks a rule is an error that names the
file and the row; nothing in it is then used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.model import Model, QuantFile, QuantInfo, Reference, TypeSupport
from quantpick.domain.names import near_hint, unsafe_path
from quantpick.domain.quant import FileKind, canonical_label, parse_filename
from quantpick.domain.shape import Shape
from quantpick.domain.units import parse_build
from quantpick.domain.weights import LayerWeights, Weights
from quantpick.errors import NotFoundError, UsageError
from quantpick.sources.rows import (
    broken,
    catalog_dir,
    count_of,
    optional,
    read_document,
    rows_of,
    text_of,
    texts_of,
    typed,
)

if TYPE_CHECKING:
    from quantpick.domain.licence import Licence


class Aliases(NamedTuple):
    """Short names of catalogued repos, and the repo meant when none is named."""

    default: str
    repo_ids: dict[str, str]

    def of(self, repo_id: str) -> tuple[str, ...]:
        """Return the aliases of a repo."""
        return tuple(alias for alias, named in self.repo_ids.items() if named == repo_id)


def load_aliases() -> Aliases:
    """Read the aliases. Raises IntegrityError on a broken file."""
    document = read_document("aliases.json")
    rows = rows_of(document, "aliases.json", "aliases")
    repo_ids = {text_of(row, "alias", where): text_of(row, "repo_id", where) for where, row in rows}
    return Aliases(text_of(document, "default", "aliases.json"), repo_ids)


def repo_ids() -> tuple[str, ...]:
    """Return the repo_ids of all catalogued models, sorted: the path is the key."""
    root = catalog_dir() / "models"
    return tuple(sorted(f"{path.parent.name}/{path.stem}" for path in root.glob("*/*.json")))


def find_repo_id(repo: str) -> str | None:
    """Return the catalogued repo_id of an alias or repo_id, None where the catalog has neither."""
    if "/" in repo:
        return repo if (catalog_dir() / "models" / f"{repo}.json").is_file() else None
    return load_aliases().repo_ids.get(repo.lower())


def resolve_alias(alias: str) -> str:
    """Return the repo_id of an alias. Raises NotFoundError with near aliases."""
    found = find_repo_id(alias)
    if found is not None:
        return found
    raise NotFoundError(
        f"the catalog has no model {alias!r}",
        near_hint(alias, load_aliases().repo_ids),
        "any repo of the Hub works by its full name: OWNER/REPO",
    )


def load_model(repo_id: str) -> Model:
    """Read one catalogued model. Raises IntegrityError on a broken file or row."""
    name = f"models/{repo_id}.json"
    document = read_document(name)
    rows = rows_of(document, name, "files")
    files = tuple(_quant_file(row, where, document) for where, row in rows)
    labels = [file.label for file in files]
    for (where, _), label in zip(rows, labels, strict=True):
        if labels.count(label) > 1:
            broken(where, f"the label {label} appears twice")
    return Model(
        repo_id=repo_id,
        files=files,
        shape=_shape(document, name),
        title=text_of(document, "title", name),
        base_model=text_of(document, "base_model", name),
        base_gated=typed(document, "base_gated", bool, name),
        license=text_of(document, "license", name),
        quantizer=text_of(document, "quantizer", name),
        llama_cpp=_build(document, name),
        imatrix=optional(document, "imatrix", bool, name),
        prompt_format=text_of(document, "prompt_format", name),
    )


def load_reference() -> Reference:
    """Read the reference tables on quants and backends."""
    name = "reference/quants.json"
    quants = [
        _quant_info(row, where) for where, row in rows_of(read_document(name), name, "quants")
    ]
    name = "reference/backends.json"
    support = [
        TypeSupport(
            tensor_type=text_of(row, "tensor_type", where),
            backend=text_of(row, "backend", where),
            since=typed(row, "since", int, where),
            source=text_of(row, "source", where),
        )
        for where, row in rows_of(read_document(name), name, "support")
    ]
    return Reference({info.label: info for info in quants}, tuple(support))


def load_licence(licence_id: str | None) -> Licence:
    """Return what is known of a licence by its Hub id; an unknown id stands for itself."""
    # Loaded here: a recommendation does without it.
    from quantpick.domain import licence

    name = "reference/licenses.json"
    for where, row in rows_of(read_document(name), name, "licenses"):
        if licence_id is not None and row.get("id") == licence_id:
            return licence.Licence(
                licence_id,
                text_of(row, "name", where),
                optional(row, "notice", str, where),
                text_of(row, "duty", where),
                optional(row, "limits", str, where),
            )
    return licence.Licence(licence_id, licence_id or "not stated")


def _build(document: dict[str, Any], where: str) -> int | None:
    text = optional(document, "llama_cpp", str, where)
    try:
        return None if text is None else parse_build(text)
    except UsageError as error:
        broken(where, error.message)


def _shape(document: dict[str, Any], name: str) -> Shape:
    where = f"{name}, shape"
    row = typed(document, "shape", dict, where)
    windowed = row.get("sliding_window") is not None
    return Shape(
        architecture=text_of(row, "architecture", where),
        parameters=count_of(row, "parameters", where),
        block_count=count_of(row, "block_count", where),
        head_count=count_of(row, "head_count", where),
        head_count_kv=count_of(row, "head_count_kv", where),
        key_length=count_of(row, "key_length", where),
        value_length=count_of(row, "value_length", where),
        embedding_length=count_of(row, "embedding_length", where),
        feed_forward_length=count_of(row, "feed_forward_length", where),
        vocab_size=count_of(row, "vocab_size", where),
        context_length=count_of(row, "context_length", where),
        sliding_window=count_of(row, "sliding_window", where) if windowed else None,
        sliding_window_pattern=count_of(row, "sliding_window_pattern", where) if windowed else None,
        tied=optional(row, "tied", bool, where) or False,
    )


def _quant_file(row: dict[str, Any], where: str, document: dict[str, Any]) -> QuantFile:
    label = text_of(row, "label", where)
    paths = texts_of(row, "paths", where)
    sha256 = texts_of(row, "sha256", where) if "sha256" in row else ()
    if text_of(row, "source", where) not in document.get("sources", {}):
        broken(where, "its source is not among the file's sources")
    _check_paths(label, paths, where)
    if sha256 and (len(sha256) != len(paths) or not all(map(_is_sha256, sha256))):
        broken(where, "sha256 is not one digest of 64 hexadecimal digits a path")
    return QuantFile(
        label=label,
        file_bytes=count_of(row, "bytes", where),
        paths=paths,
        rounded_to=optional(row, "rounded_to", int, where) or 0,
        sha256=sha256,
        recommended=optional(row, "recommended", bool, where),
        token_embd_type=optional(row, "token_embd_type", str, where),
        output_type=optional(row, "output_type", str, where),
        weights=_weights(row["weights"], f"{where}, weights") if "weights" in row else None,
    )


def _weights(row: object, where: str) -> Weights:
    """Return where a file's bytes go; each layer is one of a few kinds, named by a digit."""
    if not isinstance(row, dict):
        broken(where, "not an object")
    sizes, kinds = typed(row, "layer_bytes", list, where), text_of(row, "layer_kinds", where)
    matrices = typed(row, "matrices", dict, where)
    if not all(type(size) is int and size > 0 for size in (*sizes, *matrices.values())):
        broken(where, "a size is not a whole number above zero")
    largest = count_of(row, "largest", where)
    layers = {str(kind): LayerWeights(size, largest=largest) for kind, size in enumerate(sizes)}
    if not set(kinds) <= layers.keys():
        broken(where, "layer_kinds names a kind that layer_bytes does not have")
    return Weights(
        embedding=count_of(row, "embedding", where),
        output=count_of(row, "output", where),
        layers=tuple(layers[kind] for kind in kinds),
        tied=optional(row, "tied", int, where) or 0,
        matrices=tuple(matrices.items()),
    )


def _is_sha256(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _check_paths(label: str, paths: tuple[str, ...], where: str) -> None:
    if canonical_label(label) != label:
        broken(where, f"{label!r} is not a quant label")
    if not paths or any(unsafe_path(path) for path in paths):
        broken(where, "paths has an unsafe name, or none")
    names = [parse_filename(path) for path in paths]
    if any(name.label != label or name.kind is not FileKind.MODEL for name in names):
        broken(where, f"a path is not named as a model of {label}")
    if len(paths) > 1:
        shards = [(name.shard_index, name.shard_count) for name in names]
        if shards != [(index, len(paths)) for index in range(1, len(paths) + 1)]:
            broken(where, "the shards are not complete and in order")


def _quant_info(row: dict[str, Any], where: str) -> QuantInfo:
    return QuantInfo(
        label=text_of(row, "label", where),
        bits=count_of(row, "bits", where),
        rank=count_of(row, "rank", where),
        tier=text_of(row, "tier", where),
        note=text_of(row, "note", where),
        tensor_types=texts_of(row, "tensor_types", where),
        kld=optional(row, "kld", float, where),
        removed_in=optional(row, "removed_in", int, where),
    )
