"""The only door to the embedded catalog: read, checked row by row, turned into values.

``catalog/README.md`` describes the files. A file that breaks a rule is an error that names the
file and the row; nothing in it is then used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.model import Model, QuantFile, QuantInfo, Reference
from quantpick.domain.names import is_sha256, near_hint, part_hint, unsafe_path
from quantpick.domain.quant import FileKind, canonical_label, parse_filename
from quantpick.domain.shape import FURTHER_FIGURES, MOST_BLOCKS, Layer, Shape
from quantpick.domain.units import parse_build
from quantpick.domain.weights import LayerWeights, Weights
from quantpick.errors import NotFoundError, UsageError
from quantpick.sources.backends import load_support
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
from quantpick.sources.speed import load_speeds

if TYPE_CHECKING:
    from quantpick.domain.licence import Licence

_LIST = "quantpick list"

#: What every shape states, and what it states where its model has it: all whole numbers.
_FIGURES = (
    "parameters",
    "block_count",
    "head_count",
    "head_count_kv",
    "key_length",
    "value_length",
    "embedding_length",
    "vocab_size",
    "context_length",
)
_MORE_FIGURES = (
    "feed_forward_length",
    "sliding_window",
    "sliding_window_pattern",
    *FURTHER_FIGURES,
)


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
    raise no_such_model(alias)


def no_such_model(words: str) -> NotFoundError:
    """Return the error for words that name no catalogued model, with near aliases."""
    aliases = load_aliases()
    names = {repo_id: aliases.of(repo_id) or (repo_id,) for repo_id in repo_ids()}
    texts = {short[0]: " ".join((repo_id, *short)) for repo_id, short in names.items()}
    return NotFoundError(
        f"the catalog has no model {words!r}",
        part_hint(words, texts, _LIST)
        or near_hint(words, aliases.repo_ids, f"to see its models: {_LIST}"),
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
        base_model=optional(document, "base_model", str, name),
        base_gated=optional(document, "base_gated", bool, name),
        license=optional(document, "license", str, name),
        quantizer=text_of(document, "quantizer", name),
        llama_cpp=_build(document, name),
        imatrix=optional(document, "imatrix", bool, name),
        prompt_format=optional(document, "prompt_format", str, name),
    )


def load_reference() -> Reference:
    """Read the reference tables on quants, backends and speeds."""
    name = "reference/quants.json"
    quants = [
        _quant_info(row, where) for where, row in rows_of(read_document(name), name, "quants")
    ]
    support, gone = load_support()
    return Reference({info.label: info for info in quants}, support, gone, load_speeds())


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


def _shape(document: dict[str, Any], name: str) -> Shape | None:
    """Return the figures that decide memory, None where the catalog does not know them."""
    where = f"{name}, shape"
    row = optional(document, "shape", dict, where)
    if row is None:
        return None
    needed = [*_FIGURES]
    if "expert_feed_forward_length" not in row:
        needed.append("feed_forward_length")
    if "sliding_window" in row and "layers" not in row:
        needed.append("sliding_window_pattern")
    counts: dict[str, Any] = {field: count_of(row, field, where) for field in needed}
    counts |= {field: count_of(row, field, where) for field in _MORE_FIGURES if field in row}
    if counts["block_count"] > MOST_BLOCKS:
        broken(where, f"block_count is above {MOST_BLOCKS}")
    return Shape(
        architecture=text_of(row, "architecture", where),
        **({"feed_forward_length": 0} | counts),
        tied=optional(row, "tied", bool, where) or False,
        known=optional(row, "known", bool, where) is not False,
        layers=_layers(row, counts["block_count"], where) if "layers" in row else (),
    )


def _layers(row: dict[str, Any], count: int, where: str) -> tuple[Layer, ...]:
    """Return what each layer remembers; each is one of a few kinds, named by a digit."""
    rows, order = typed(row, "layers", list, where), text_of(row, "layer_kinds", where)
    kinds = {str(kind): _layer(item, f"{where}, layers") for kind, item in enumerate(rows)}
    if len(order) != count or not set(order) <= kinds.keys():
        broken(where, "layer_kinds is not one of its layers for each block")
    return tuple(kinds[kind] for kind in order)


def _layer(row: object, where: str) -> Layer:
    if not isinstance(row, dict) or not set(row) <= set(Layer._fields):
        broken(where, "not the figures of a layer")
    counts = {field: count_of(row, field, where) for field in row if field != "windowed"}
    return Layer(**counts, windowed=optional(row, "windowed", bool, where) or False)


def _quant_file(row: dict[str, Any], where: str, document: dict[str, Any]) -> QuantFile:
    label = text_of(row, "label", where)
    paths = texts_of(row, "paths", where)
    sha256 = texts_of(row, "sha256", where) if "sha256" in row else ()
    if text_of(row, "source", where) not in document.get("sources", {}):
        broken(where, "its source is not among the file's sources")
    _check_paths(label, paths, where)
    if sha256 and (len(sha256) != len(paths) or not all(map(is_sha256, sha256))):
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
    experts = optional(row, "expert_bytes", list, where) or [0] * len(sizes)
    matrices = typed(row, "matrices", dict, where)
    if not all(type(size) is int and size > 0 for size in (*sizes, *matrices.values())):
        broken(where, "a size is not a whole number above zero")
    if len(experts) != len(sizes) or not all(type(size) is int and size >= 0 for size in experts):
        broken(where, "expert_bytes is not one whole number for each of layer_bytes")
    largest = count_of(row, "largest", where)
    largest_expert = count_of(row, "largest_expert", where) if any(experts) else 0
    layers = {
        str(kind): LayerWeights(dense, routed, largest, largest_expert if routed else 0)
        for kind, (dense, routed) in enumerate(zip(sizes, experts, strict=True))
    }
    if not set(kinds) <= layers.keys():
        broken(where, "layer_kinds names a kind that layer_bytes does not have")
    return Weights(
        embedding=count_of(row, "embedding", where),
        output=count_of(row, "output", where),
        layers=tuple(layers[kind] for kind in kinds),
        tied=optional(row, "tied", int, where) or 0,
        matrices=tuple(matrices.items()),
        routed=any(experts),
    )


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
    )
