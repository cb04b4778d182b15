"""The embedded catalog: what it says of the 70B, its form, and how it refuses a broken file."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.domain.mixing import mixed_types
from quantpick.domain.model import Model, QuantFile
from quantpick.domain.quant import base_label
from quantpick.domain.shape import Shape
from quantpick.domain.tensors import Tensor
from quantpick.domain.weights import weights_of
from quantpick.errors import IntegrityError
from quantpick.sources import catalog, rows
from quantpick.sources.catalog_format import dump_table
from tests.support.catalog_models import slots_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Command

CATALOG = rows.catalog_dir()
DEFAULT = "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF"
REPOS = catalog.repo_ids()

#: The published card: label, GB, number of files, recommended (None = the card is silent).
CARD = [
    ("Q8_0", 74.98, 2, None),
    ("Q6_K_L", 58.40, 2, True),
    ("Q6_K", 57.89, 2, True),
    ("Q5_K_L", 50.60, 2, True),
    ("Q5_K_M", 49.95, 2, True),
    ("Q5_K_S", 48.66, 1, True),
    ("Q4_K_L", 43.30, 1, True),
    ("Q4_K_M", 42.52, 1, True),
    ("Q4_K_S", 40.35, 1, True),
    ("Q3_K_XL", 38.06, 1, None),
    ("IQ4_XS", 37.90, 1, True),
    ("Q3_K_L", 37.14, 1, None),
    ("Q3_K_M", 34.27, 1, None),
    ("IQ3_M", 31.94, 1, None),
    ("Q3_K_S", 30.91, 1, False),
    ("IQ3_XS", 29.31, 1, None),
    ("Q2_K_L", 27.40, 1, None),
    ("Q2_K", 26.38, 1, None),
    ("IQ2_M", 24.12, 1, None),
]


def models() -> list[Model]:
    return [catalog.load_model(repo_id) for repo_id in REPOS]


def test_default_model_is_the_published_card() -> None:
    model = catalog.load_model(catalog.load_aliases().default)
    rows = [(f.label, f.file_bytes, len(f.paths), f.recommended) for f in model.files]
    assert [(label, round(size / 1e9, 2), n, word) for label, size, n, word in rows] == CARD
    assert model.repo_id == DEFAULT
    assert (model.llama_cpp, model.imatrix) == (3472, True)
    assert (model.license, model.base_gated) == ("llama3.1", True)
    assert "<|start_header_id|>" in (model.prompt_format or "")


def test_default_model_has_its_shape() -> None:
    assert catalog.load_model(DEFAULT).shape == Shape(
        architecture="llama",
        parameters=70553706496,
        block_count=80,
        head_count=64,
        head_count_kv=8,
        key_length=128,
        value_length=128,
        embedding_length=8192,
        feed_forward_length=28672,
        vocab_size=128256,
        context_length=131072,
    )


def test_larger_embedding_and_output_are_marked() -> None:
    files = catalog.load_model(DEFAULT).files
    marked = {file.label for file in files if file.output_type == file.token_embd_type == "Q8_0"}
    assert marked == {"Q6_K_L", "Q5_K_L", "Q4_K_L", "Q3_K_XL", "Q2_K_L"}


def test_split_quants_live_in_a_folder_named_like_the_file() -> None:
    (file,) = (file for file in catalog.load_model(DEFAULT).files if file.label == "Q8_0")
    stem = "Meta-Llama-3.1-70B-Instruct-Q8_0"
    assert file.paths == tuple(f"{stem}/{stem}-0000{n}-of-00002.gguf" for n in (1, 2))


def test_rounded_sizes_are_marked_and_exact_ones_have_their_digest() -> None:
    files = {file.label: file for file in catalog.load_model(DEFAULT).files}
    assert files["IQ4_XS"].exact
    assert files["IQ4_XS"].file_bytes == 37902661792
    assert len(files["IQ4_XS"].sha256) == 1
    assert files["Q4_K_M"].rounded_to == 10**7


def test_every_alias_names_a_catalogued_model_and_every_model_has_one() -> None:
    assert set(catalog.load_aliases().repo_ids.values()) == set(REPOS)


def test_every_label_is_in_the_reference() -> None:
    known = catalog.load_reference().quants
    labels = {base_label(file.label) for model in models() for file in model.files}
    assert labels <= known.keys()


def test_quality_ranks_follow_what_was_measured() -> None:
    quants = sorted(catalog.load_reference().quants.values(), key=lambda info: info.rank)
    # F16 is measured against itself, and the legacy types were measured without a matrix.
    measured = [
        q for q in quants if q.kld is not None and not re.match(r"F|BF|Q[45]_[01]", q.label)
    ]
    assert len(measured) > 20
    assert [q.kld for q in measured] == sorted(q.kld for q in measured if q.kld is not None)
    assert [q.bits for q in quants] == sorted((q.bits for q in quants), reverse=True)


@pytest.mark.parametrize("model", models(), ids=lambda model: model.repo_id)
def test_sizes_match_the_bits_that_a_label_promises(model: Model) -> None:
    reference = catalog.load_reference().quants
    assert model.shape is not None
    for file in model.files:
        bpw = 8 * file.file_bytes / model.shape.parameters
        bits = reference[base_label(file.label)].bits
        # Small models keep relatively more in their embedding, which is stored with more bits.
        assert bits * 0.95 < bpw < bits + 3.2, (file.label, bpw)


#: Bytes of a header at most: vocabulary, merges and template.
HEADER = 12_000_000


@pytest.mark.parametrize("model", models(), ids=lambda model: model.repo_id)
def test_weights_are_what_the_shape_and_the_mixing_rules_give(model: Model) -> None:
    for file in model.files:
        tensors = tensors_of(model, file.label)
        slack = max(HEADER, file.file_bytes // 1000) + file.rounded_to
        expected = None
        if tensors is not None:
            data = sum(-(-tensor.nbytes // 32) * 32 for tensor in tensors)
            if -file.rounded_to - 100_000 <= file.file_bytes - data <= slack:
                assert model.shape is not None
                expected = weights_of(tensors, model.shape.block_count)
        if expected is None:
            assert file.weights is None, file.label
        else:
            assert file.weights is not None, file.label
            largest = max(layer.largest for layer in expected.layers)
            layers = tuple(layer._replace(largest=largest) for layer in expected.layers)
            assert dict(file.weights.matrices) == dict(expected.matrices)
            assert file.weights._replace(matrices=()) == expected._replace(
                layers=layers, matrices=()
            )


def tensors_of(model: Model, label: str) -> list[Tensor] | None:
    shape = model.shape
    assert shape is not None
    slots = slots_of(shape, rope_freqs=shape.architecture == "llama")
    types = mixed_types(
        label,
        slots,
        architecture=shape.architecture,
        block_count=shape.block_count,
        head_count=shape.head_count,
        head_count_kv=shape.head_count_kv,
    )
    if types is None:
        return None
    return [Tensor(name, dims, kind) for (name, dims), kind in zip(slots, types, strict=True)]


def test_every_file_is_in_canonical_form() -> None:
    paths = sorted(CATALOG.rglob("*.json"))
    assert len(paths) == len(REPOS) + 5
    for path in paths:
        text = path.read_text("utf-8")
        document = json.loads(text)
        rows = next(field for field, value in document.items() if isinstance(value, list))
        assert dump_table(document, rows) == text, path


def edit_row(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        document = json.loads(path.read_text("utf-8"))
        change(document["files"][7])
        path.write_text(json.dumps(document), "utf-8")

    return edit


BROKEN = {
    "a missing label": (edit_row(lambda row: row.pop("label")), "label is missing"),
    "an unknown label": (edit_row(lambda row: row.update(label="Q9_K")), "not a quant label"),
    "text for a size": (edit_row(lambda row: row.update(bytes="42")), "not of type int"),
    "a size of zero": (edit_row(lambda row: row.update(bytes=0)), "not above zero"),
    "a path that leaves": (
        edit_row(lambda row: row.update(paths=["../../x-Q4_K_M.gguf"])),
        "unsafe name",
    ),
    "another label's path": (
        edit_row(lambda row: row.update(paths=["x-Q6_K.gguf"])),
        "not named as a model of Q4_K_M",
    ),
    "half a shard set": (
        edit_row(lambda row: row.update(paths=["x-Q4_K_M-00002-of-00002.gguf"] * 2)),
        "shards are not complete",
    ),
    "a bad digest": (edit_row(lambda row: row.update(sha256=["00"])), "sha256"),
    "an unknown source": (edit_row(lambda row: row.update(source="hearsay")), "source"),
    "a layer of no kind": (
        edit_row(lambda row: row["weights"].update(layer_kinds="9" * 80)),
        "layer_kinds names a kind",
    ),
    "a layer below zero": (
        edit_row(lambda row: row["weights"].update(layer_bytes=[-1, -1, -1])),
        "not a whole number above zero",
    ),
    "a label twice": (
        edit_row(lambda row: row.update(label="Q8_0", paths=["x-Q8_0.gguf"])),
        "appears twice",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_row_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, words = BROKEN[name]
    shutil.copytree(CATALOG, tmp_path / "catalog")
    edit(tmp_path / "catalog" / "models" / f"{DEFAULT}.json")
    monkeypatch.setenv(rows.CATALOG_VARIABLE, str(tmp_path / "catalog"))
    with pytest.raises(IntegrityError) as caught:
        catalog.load_model(DEFAULT)
    assert f"models/{DEFAULT}.json, files row" in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "files": []}'])
def test_corrupt_catalog_file_is_an_error_with_a_hint(
    quantpick: Command, tmp_path: Path, text: str
) -> None:
    shutil.copytree(CATALOG, tmp_path / "catalog")
    (tmp_path / "catalog" / "models" / f"{DEFAULT}.json").write_text(text, "utf-8")
    corrupt = str(tmp_path / "catalog")
    result = quantpick("recommend", DEFAULT, "--json", QUANTPICK_CATALOG=corrupt)
    assert result.status == 7
    assert result.json["error"]["code"] == "integrity"
    assert DEFAULT in result.json["error"]["message"]
    assert "reinstall quantpick" in result.json["error"]["hints"][0]


def test_missing_catalog_is_not_found(quantpick: Command, tmp_path: Path) -> None:
    result = quantpick("recommend", "llama-3.1-70b", QUANTPICK_CATALOG=str(tmp_path / "none"))
    assert result.status == 3
    assert "hint: " in result.stderr


def test_list_shows_a_repos_quants(quantpick: Command) -> None:
    document = quantpick("list", "llama-3.1-70b", "--json").json
    rows = {row["label"]: row for row in document["files"]}
    assert len(rows) == 19
    assert rows["Q8_0"] | {"split": True, "exact": False, "family": "legacy"} == rows["Q8_0"]
    assert rows["Q4_K_L"]["token_embd_type"] == "Q8_0"
    text = quantpick("list", "llama-3.1-70b").stdout
    assert all(label in text for label in rows)


def test_list_knows_the_quality_of_a_mixed_label(quantpick: Command) -> None:
    rows = quantpick("list", "qwen3-14b", "--json").json["files"]
    assert {row["label"]: row["tier"] for row in rows}["UD-Q4_K_XL"] == "good"
    assert None not in [row["tier"] for row in rows]


def test_list_shows_the_catalog(quantpick: Command) -> None:
    document = quantpick("list", "--json").json
    assert {model["repo_id"] for model in document["models"]} == set(REPOS)
    sizes = [model["shape"]["parameters"] for model in document["models"]]
    assert sizes == sorted(sizes, reverse=True)


def test_unknown_alias_names_near_ones(quantpick: Command) -> None:
    result = quantpick("list", "llama-3.1-70")
    assert result.status == 3
    assert "llama-3.1-70b" in result.stderr


def test_quant_file_of_one_path_is_no_split() -> None:
    assert not QuantFile("Q8_0", 1, ("a-Q8_0.gguf",)).split
