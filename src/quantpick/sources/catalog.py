"""The only door to the embedded catalog: read, checked row by row, turned into values.

``catalog/README.md`` describes the files. A file that breaks a rule is an error that names the
file and the row; nothing in it is then used.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from quantpick.domain.model import Model, QuantFile, QuantInfo, Reference, TypeSupport
from quantpick.domain.names import near_hint, unsafe_path
from quantpick.domain.quant import FileKind, canonical_label, parse_filename
from quantpick.domain.shape import Shape
from quantpick.domain.units import parse_build
from quantpick.domain.weights import LayerWeights, Weights
from quantpick.errors import IntegrityError, NotFoundError, UsageError

if TYPE_CHECKING:
    from quantpick.domain.licence import Licence

#: The form of catalog files this version reads.
SCHEMA = 1

#: Environment variable that names another catalog folder to use in place of the embedded one.
CATALOG_VARIABLE = "QUANTPICK_CATALOG"

_T = TypeVar("_T")


def catalog_dir() -> Path:
    """Return the folder of the catalog in use."""
    override = os.environ.get(CATALOG_VARIABLE)
    return Path(override) if override else Path(__file__).parents[1] / "catalog"


class Aliases(NamedTuple):
    """Short names of catalogued repos, and the repo meant when none is named."""

    default: str
    repo_ids: dict[str, str]

    def of(self, repo_id: str) -> tuple[str, ...]:
        """Return the aliases of a repo."""
        return tuple(alias for alias, named in self.repo_ids.items() if named == repo_id)


def load_aliases() -> Aliases:
    """Read the aliases. Raises IntegrityError on a broken file."""
    document = _read("aliases.json")
    rows = _rows(document, "aliases.json", "aliases")
    repo_ids = {_text(row, "alias", where): _text(row, "repo_id", where) for where, row in rows}
    return Aliases(_text(document, "default", "aliases.json"), repo_ids)


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
    document = _read(name)
    rows = _rows(document, name, "files")
    files = tuple(_quant_file(row, where, document) for where, row in rows)
    labels = [file.label for file in files]
    for (where, _), label in zip(rows, labels, strict=True):
        if labels.count(label) > 1:
            _broken(where, f"the label {label} appears twice")
    return Model(
        repo_id=repo_id,
        files=files,
        shape=_shape(document, name),
        title=_text(document, "title", name),
        base_model=_text(document, "base_model", name),
        base_gated=_typed(document, "base_gated", bool, name),
        license=_text(document, "license", name),
        quantizer=_text(document, "quantizer", name),
        llama_cpp=_build(document, name),
        imatrix=_optional(document, "imatrix", bool, name),
        prompt_format=_text(document, "prompt_format", name),
    )


def load_reference() -> Reference:
    """Read the reference tables on quants and backends."""
    name = "reference/quants.json"
    quants = [_quant_info(row, where) for where, row in _rows(_read(name), name, "quants")]
    name = "reference/backends.json"
    support = [
        TypeSupport(
            tensor_type=_text(row, "tensor_type", where),
            backend=_text(row, "backend", where),
            since=_typed(row, "since", int, where),
            source=_text(row, "source", where),
        )
        for where, row in _rows(_read(name), name, "support")
    ]
    return Reference({info.label: info for info in quants}, tuple(support))


def load_licence(licence_id: str | None) -> Licence:
    """Return what is known of a licence by its Hub id; an unknown id stands for itself."""
    # Loaded here: a recommendation does without it.
    from quantpick.domain import licence

    name = "reference/licenses.json"
    for where, row in _rows(_read(name), name, "licenses"):
        if licence_id is not None and row.get("id") == licence_id:
            return licence.Licence(
                licence_id,
                _text(row, "name", where),
                _optional(row, "notice", str, where),
                _text(row, "duty", where),
                _optional(row, "limits", str, where),
            )
    return licence.Licence(licence_id, licence_id or "not stated")


def _read(name: str) -> dict[str, Any]:
    path = catalog_dir() / name
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NotFoundError(
            f"cannot read the catalog file {path}: {error.strerror}",
            f"reinstall quantpick, or correct {CATALOG_VARIABLE} if you set it",
        ) from error
    except ValueError as error:
        _broken(name, f"not valid JSON: {error}")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        _broken(name, f"not a catalog file of schema {SCHEMA}")
    return document


def _broken(where: str, what: str) -> NoReturn:
    raise IntegrityError(
        f"broken catalog: {where}: {what}",
        f"reinstall quantpick, or correct the file under {catalog_dir()}",
    )


def _rows(document: dict[str, Any], name: str, field: str) -> list[tuple[str, dict[str, Any]]]:
    rows = document.get(field)
    if not isinstance(rows, list) or not rows:
        _broken(name, f"{field} is not a list of rows")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            _broken(f"{name}, {field} row {number}", "not an object")
    return [(f"{name}, {field} row {number}", row) for number, row in enumerate(rows, start=1)]


def _typed(row: dict[str, Any], field: str, kind: type[_T], where: str) -> _T:
    value = _optional(row, field, kind, where)
    if value is None:
        _broken(where, f"{field} is missing")
    return value


def _optional(row: dict[str, Any], field: str, kind: type[_T], where: str) -> _T | None:
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        _broken(where, f"{field} is not of type {kind.__name__}")
    return value


def _text(row: dict[str, Any], field: str, where: str) -> str:
    value = _typed(row, field, str, where)
    if not value:
        _broken(where, f"{field} is empty")
    return value


def _count(row: dict[str, Any], field: str, where: str) -> int:
    value = _typed(row, field, int, where)
    if value <= 0:
        _broken(where, f"{field} is not above zero")
    return value


def _texts(row: dict[str, Any], field: str, where: str) -> tuple[str, ...]:
    values = _typed(row, field, list, where)
    if not all(isinstance(value, str) and value for value in values):
        _broken(where, f"{field} holds something other than text")
    return tuple(values)


def _build(document: dict[str, Any], where: str) -> int | None:
    text = _optional(document, "llama_cpp", str, where)
    try:
        return None if text is None else parse_build(text)
    except UsageError as error:
        _broken(where, error.message)


def _shape(document: dict[str, Any], name: str) -> Shape:
    where = f"{name}, shape"
    row = _typed(document, "shape", dict, where)
    windowed = row.get("sliding_window") is not None
    return Shape(
        architecture=_text(row, "architecture", where),
        parameters=_count(row, "parameters", where),
        block_count=_count(row, "block_count", where),
        head_count=_count(row, "head_count", where),
        head_count_kv=_count(row, "head_count_kv", where),
        key_length=_count(row, "key_length", where),
        value_length=_count(row, "value_length", where),
        embedding_length=_count(row, "embedding_length", where),
        feed_forward_length=_count(row, "feed_forward_length", where),
        vocab_size=_count(row, "vocab_size", where),
        context_length=_count(row, "context_length", where),
        sliding_window=_count(row, "sliding_window", where) if windowed else None,
        sliding_window_pattern=_count(row, "sliding_window_pattern", where) if windowed else None,
        tied=_optional(row, "tied", bool, where) or False,
    )


def _quant_file(row: dict[str, Any], where: str, document: dict[str, Any]) -> QuantFile:
    label = _text(row, "label", where)
    paths = _texts(row, "paths", where)
    sha256 = _texts(row, "sha256", where) if "sha256" in row else ()
    if _text(row, "source", where) not in document.get("sources", {}):
        _broken(where, "its source is not among the file's sources")
    _check_paths(label, paths, where)
    if sha256 and (len(sha256) != len(paths) or not all(map(_is_sha256, sha256))):
        _broken(where, "sha256 is not one digest of 64 hexadecimal digits a path")
    return QuantFile(
        label=label,
        file_bytes=_count(row, "bytes", where),
        paths=paths,
        rounded_to=_optional(row, "rounded_to", int, where) or 0,
        sha256=sha256,
        recommended=_optional(row, "recommended", bool, where),
        token_embd_type=_optional(row, "token_embd_type", str, where),
        output_type=_optional(row, "output_type", str, where),
        weights=_weights(row["weights"], f"{where}, weights") if "weights" in row else None,
    )


def _weights(row: object, where: str) -> Weights:
    """Return where a file's bytes go; each layer is one of a few kinds, named by a digit."""
    if not isinstance(row, dict):
        _broken(where, "not an object")
    sizes, kinds = _typed(row, "layer_bytes", list, where), _text(row, "layer_kinds", where)
    matrices = _typed(row, "matrices", dict, where)
    if not all(type(size) is int and size > 0 for size in (*sizes, *matrices.values())):
        _broken(where, "a size is not a whole number above zero")
    largest = _count(row, "largest", where)
    layers = {str(kind): LayerWeights(size, largest=largest) for kind, size in enumerate(sizes)}
    if not set(kinds) <= layers.keys():
        _broken(where, "layer_kinds names a kind that layer_bytes does not have")
    return Weights(
        embedding=_count(row, "embedding", where),
        output=_count(row, "output", where),
        layers=tuple(layers[kind] for kind in kinds),
        tied=_optional(row, "tied", int, where) or 0,
        matrices=tuple(matrices.items()),
    )


def _is_sha256(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _check_paths(label: str, paths: tuple[str, ...], where: str) -> None:
    if canonical_label(label) != label:
        _broken(where, f"{label!r} is not a quant label")
    if not paths or any(unsafe_path(path) for path in paths):
        _broken(where, "paths has an unsafe name, or none")
    names = [parse_filename(path) for path in paths]
    if any(name.label != label or name.kind is not FileKind.MODEL for name in names):
        _broken(where, f"a path is not named as a model of {label}")
    if len(paths) > 1:
        shards = [(name.shard_index, name.shard_count) for name in names]
        if shards != [(index, len(paths)) for index in range(1, len(paths) + 1)]:
            _broken(where, "the shards are not complete and in order")


def _quant_info(row: dict[str, Any], where: str) -> QuantInfo:
    return QuantInfo(
        label=_text(row, "label", where),
        bits=_count(row, "bits", where),
        rank=_count(row, "rank", where),
        tier=_text(row, "tier", where),
        note=_text(row, "note", where),
        tensor_types=_texts(row, "tensor_types", where),
        kld=_optional(row, "kld", float, where),
        removed_in=_optional(row, "removed_in", int, where),
    )
