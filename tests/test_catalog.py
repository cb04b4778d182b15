"""The embedded catalog: what it says of the 70B, its form, and how it refuses a broken file."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.domain.model import QuantFile
from quantpick.domain.shape import Layer, Shape
from quantpick.errors import IntegrityError
from quantpick.sources import catalog, rows
from quantpick.sources.catalog_format import dump_table

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


def test_quality_ranks_follow_what_was_measured() -> None:
    quants = sorted(catalog.load_reference().quants.values(), key=lambda info: info.rank)
    # F16 is measured against itself, and the legacy types were measured without a matrix.
    measured = [
        q for q in quants if q.kld is not None and not re.match(r"F|BF|Q[45]_[01]", q.label)
    ]
    assert len(measured) > 20
    assert [q.kld for q in measured] == sorted(q.kld for q in measured if q.kld is not None)


def test_every_file_is_in_canonical_form() -> None:
    paths = sorted(CATALOG.rglob("*.json"))
    assert {CATALOG / "models" / f"{repo_id}.json" for repo_id in REPOS} < set(paths)
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
    "an expert of no layer": (
        edit_row(lambda row: row["weights"].update(expert_bytes=[5])),
        "expert_bytes is not one whole number for each",
    ),
    "an expert below zero": (
        edit_row(lambda row: row["weights"].update(expert_bytes=[5, 5, -5])),
        "expert_bytes is not one whole number for each",
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


BROKEN_SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "a missing figure": ({"block_count": None}, "block_count is missing"),
    "no width at all": ({"feed_forward_length": None}, "feed_forward_length is missing"),
    "half the layers": (
        {"layers": [{"key_width": 1}], "layer_kinds": "0" * 40},
        "layer_kinds is not one of its layers for each block",
    ),
    "a layer of no kind": (
        {"layers": [{"key_width": 1}], "layer_kinds": "1" * 80},
        "layer_kinds is not one of its layers for each block",
    ),
    "a layer with a word": (
        {"layers": [{"key_width": 1, "color": 5}], "layer_kinds": "0" * 80},
        "not the figures of a layer",
    ),
    "a layer below zero": (
        {"layers": [{"key_width": -1}], "layer_kinds": "0" * 80},
        "key_width is not above zero",
    ),
    "a window without a pattern": (
        {"sliding_window": 128},
        "sliding_window_pattern is missing",
    ),
}


@pytest.mark.parametrize("name", BROKEN_SHAPES)
def test_broken_shape_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, words = BROKEN_SHAPES[name]
    with pytest.raises(IntegrityError) as caught:
        reshaped(change, tmp_path, monkeypatch)
    assert f"models/{DEFAULT}.json, shape" in caught.value.message
    assert words in caught.value.message


def reshaped(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shape | None:
    """Return the shape of the 70B where its file states these figures instead; None is left out."""
    document = json.loads((CATALOG / "models" / f"{DEFAULT}.json").read_text("utf-8"))
    shape = document["shape"] | change
    document["shape"] = {key: value for key, value in shape.items() if value is not None}
    path = tmp_path / "models" / f"{DEFAULT}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document), "utf-8")
    monkeypatch.setenv(rows.CATALOG_VARIABLE, str(tmp_path))
    return catalog.load_model(DEFAULT).shape


def test_layers_are_read_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [{"key_width": 1024, "value_width": 512, "windowed": True}, {"state": 7}, {}]
    change = {"layers": kinds, "layer_kinds": "01" * 39 + "22", "sliding_window": 128}
    shape = reshaped(change, tmp_path, monkeypatch)
    assert shape is not None
    assert shape.layers[:2] == (Layer(1024, 512, windowed=True), Layer(state=7))
    assert shape.layers[2:78] == shape.layers[:2] * 38
    assert shape.layers[78:] == (Layer(), Layer())
    assert (shape.sliding_window, shape.sliding_window_pattern) == (128, None)


def test_experts_need_no_other_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 768}
    shape = reshaped(experts | {"feed_forward_length": None}, tmp_path, monkeypatch)
    assert shape is not None
    assert shape.feed_forward_length == 0
    assert shape.expert_feed_forward_length == 768


def test_a_model_may_be_without_shape_and_words(quantpick: Command, tmp_path: Path) -> None:
    shutil.copytree(CATALOG, tmp_path / "catalog")
    path = tmp_path / "catalog" / "models" / f"{DEFAULT}.json"
    document = json.loads(path.read_text("utf-8"))
    for field in ("shape", "base_model", "base_gated", "license", "prompt_format"):
        del document[field]
    path.write_text(json.dumps(document), "utf-8")
    bare = str(tmp_path / "catalog")
    shown = quantpick("recommend", DEFAULT, "--vram", "48GiB", "--json", QUANTPICK_CATALOG=bare)
    assert shown.status == 0
    assert "context_unknown" in shown.stdout


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
    shapes = [model["shape"] or {"parameters": 0} for model in document["models"]]
    sizes = [shape["parameters"] for shape in shapes]
    assert sizes == sorted(sizes, reverse=True)


def test_unknown_alias_names_near_ones(quantpick: Command) -> None:
    result = quantpick("recommend", "llama-3.1-70", "--vram", "24GiB")
    assert result.status == 3
    assert "llama-3.1-70b" in result.stderr


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("chat", "did you mean llama-2-7b, tinyllama?"),
        ("Meta-Llama-3-8B-Instruct-GGUF", "did you mean llama-3-8b?"),
        ("lama-2", "did you mean llama-2-7b?"),
        ("qwen2.5-coder-31b", "did you mean qwen2.5-coder-32b, "),
        ("instruct", " models have it in their names: quantpick list instruct"),
        ("zzz", "to see its models: quantpick list"),
    ],
)
def test_a_word_that_is_no_model_leads_to_those_it_may_mean(
    word: str, hint: str, quantpick: Command
) -> None:
    run = quantpick("recommend", word)
    assert run.status == 3
    told = run.stderr.splitlines()[1]
    assert hint in told
    assert len(told) < 200


def test_a_model_has_its_aliases_wherever_it_is_told(quantpick: Command) -> None:
    (listed,) = quantpick("list", "llama-2-7b-chat", "--json").json["models"]
    for words in (["list", "llama-2-7b"], ["recommend", "llama-2-7b"], ["recommend"]):
        model = quantpick(*words, "--json").json["model"]
        assert model["aliases"]
        assert model["repo_id"] != listed["repo_id"] or model["aliases"] == listed["aliases"]


def test_quant_file_of_one_path_is_no_split() -> None:
    assert not QuantFile("Q8_0", 1, ("a-Q8_0.gguf",)).split
