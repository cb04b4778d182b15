"""Every catalogued model: its labels, its sizes against its shape, and where its bytes go."""

from __future__ import annotations

import csv
import re
from math import prod
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from quantpick.domain.metadata import KNOWN
from quantpick.domain.quant import base_label
from quantpick.domain.shape import layers_of
from quantpick.sources import catalog
from tests.support.catalog_models import slots_of

if TYPE_CHECKING:
    from quantpick.domain.model import Model, QuantFile
    from quantpick.domain.shape import Shape

ALIASES = catalog.load_aliases()
MODELS = [catalog.load_model(repo_id) for repo_id in catalog.repo_ids()]
WITH_SHAPE = [model for model in MODELS if model.shape is not None]

#: Bits per weight by label: see the file's first line.
TABLE = (Path(__file__).parent / "data" / "quant_bpw.csv").read_text("utf-8").splitlines()[1:]
BITS = {row["quant"]: row for row in csv.DictReader(TABLE)}

every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.repo_id)
every_shape = pytest.mark.parametrize("model", WITH_SHAPE, ids=lambda model: model.repo_id)


def shape_of(model: Model) -> Shape:
    assert model.shape is not None
    return model.shape


# Breadth


def test_the_catalog_is_as_broad_as_its_readme_says() -> None:
    assert len(MODELS) >= 120
    assert sum(len(model.files) for model in MODELS) >= 2290
    assert len(WITH_SHAPE) >= len(MODELS) - 2
    quantizers = {model.quantizer for model in MODELS}
    assert {
        "bartowski",
        "unsloth",
        "Mungert",
        "ggml-org",
        "Qwen",
        "lmstudio-community",
    } < quantizers
    assert {"TheBloke", "mradermacher"} < quantizers


def test_every_alias_names_a_catalogued_model_and_every_model_has_one() -> None:
    assert set(ALIASES.repo_ids.values()) == {model.repo_id for model in MODELS}
    assert ALIASES.default in ALIASES.repo_ids.values()
    for alias in ALIASES.repo_ids:
        assert re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", alias), alias


@pytest.mark.parametrize(
    ("alias", "repo_id"),
    [
        ("llama-3.1-8b", "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"),
        ("qwen3-30b-a3b", "unsloth/Qwen3-30B-A3B-GGUF"),
        ("gpt-oss-20b", "ggml-org/gpt-oss-20b-GGUF"),
        ("phi-4", "microsoft/phi-4-gguf"),
        ("mistral-7b-v0.3", "MaziyarPanahi/Mistral-7B-Instruct-v0.3-GGUF"),
        ("QwQ-32B", "bartowski/Qwen_QwQ-32B-GGUF"),
    ],
)
def test_what_people_type_finds_the_repo(alias: str, repo_id: str) -> None:
    assert catalog.resolve_alias(alias) == repo_id


@every_model
def test_every_label_is_in_the_reference(model: Model) -> None:
    known = catalog.load_reference().quants
    assert {base_label(file.label) for file in model.files} <= known.keys()


@every_model
def test_every_licence_is_in_the_reference(model: Model) -> None:
    if model.license is not None:
        assert catalog.load_licence(model.license).duty is not None


@every_model
def test_the_rows_are_the_largest_first(model: Model) -> None:
    order = [(-file.file_bytes, file.label) for file in model.files]
    assert order == sorted(order)


# Shapes


@every_shape
def test_the_figures_of_a_shape_go_together(model: Model) -> None:
    shape = shape_of(model)
    assert shape.architecture in KNOWN
    assert shape.head_count % shape.head_count_kv == 0
    assert len(layers_of(shape)) == shape.block_count
    assert (shape.expert_count > 0) == (shape.expert_used_count > 0)
    assert shape.expert_used_count <= shape.expert_count
    # A window without a layer that has one, or the other way, is a slip.
    assert bool(shape.sliding_window) == any(layer.windowed for layer in layers_of(shape))


@every_shape
def test_a_dense_blueprint_has_the_models_parameters(model: Model) -> None:
    shape = shape_of(model)
    if not any(file.weights for file in model.files):
        return
    numbers = sum(prod(dims) for _, dims in slots_of(shape, rope_freqs=False))
    assert numbers == shape.parameters


def test_the_cache_of_known_models_is_what_is_published() -> None:
    # Bytes a token at f16 in all layers that see everything: figures of model_arch tables.
    found = {model.repo_id: full_bytes(shape_of(model)) for model in WITH_SHAPE}
    assert found["bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"] == 131_072
    assert found["unsloth/Qwen3-30B-A3B-GGUF"] == 98_304
    assert found["ggml-org/gpt-oss-20b-GGUF"] == 49_152 // 2
    assert found["unsloth/DeepSeek-V3.1-GGUF"] == 70_272
    assert found["unsloth/GLM-4.7-Flash-GGUF"] == 54_144
    assert found["unsloth/Qwen3.5-27B-GGUF"] == 65_536
    assert found["unsloth/gemma-3-12b-it-GGUF"] == 393_216 // 6
    assert found["TheBloke/Mixtral-8x7B-Instruct-v0.1-GGUF"] == 131_072


def full_bytes(shape: Shape) -> int:
    full = [layer for layer in layers_of(shape) if not layer.windowed]
    return 2 * sum(layer.key_width + layer.value_width for layer in full)


# Sizes


@every_shape
def test_sizes_match_the_bits_that_a_label_promises(model: Model) -> None:
    shape = shape_of(model)
    for file in model.files:
        low, high = band(file, shape)
        assert low <= 8 * file.file_bytes / shape.parameters <= high, file.label


def band(file: QuantFile, shape: Shape) -> tuple[float, float]:
    """Return bits per weight that files of a label have, with room for what sets a model apart."""
    if shape.architecture == "gpt-oss":
        # Its experts stay in MXFP4 under every label.
        return 4.2, 5.5
    row = BITS.get(file.label) or BITS.get(base_label(file.label)) or {}
    columns = ["bpw_p05", "bpw_p95", "bpw_median_moe"]
    columns += ["bpw_median_dense_under_4B"] if shape.parameters < 5e9 else []
    bits = [float(row[name]) for name in columns if row.get(name)]
    if file.label in {"F32", "F16", "BF16"} or not bits:
        told = catalog.load_reference().quants[base_label(file.label)].bits
        bits = [told, told if told > 8 else told + 1]
    rounding = 4 * file.rounded_to / shape.parameters
    # What is tied or small has relatively more in its embedding, which is stored with more bits.
    table = 8.5 * shape.vocab_size * shape.embedding_length / shape.parameters
    rows = (shape.embedding_length, shape.feed_forward_length, shape.expert_feed_forward_length)
    # Rows that no block of 256 divides are stored in types of more bits.
    odd = 2.2 if any(length % 256 for length in rows) else 1.16
    return min(bits) * 0.9 - rounding, max(bits) * odd + table + rounding


@every_model
def test_bytes_of_the_tensors_are_in_the_file_with_a_header(model: Model) -> None:
    for file in model.files:
        if file.weights is not None:
            slack = max(80 * shape_of(model).vocab_size, file.file_bytes // 1000)
            assert -file.rounded_to - 100_000 <= header_room(file) <= slack + file.rounded_to


def header_room(file: QuantFile) -> int:
    assert file.weights is not None
    return file.file_bytes - file.weights.loaded


ROOMS = {
    model.repo_id: [header_room(file) for file in model.files if file.weights and file.exact]
    for model in MODELS
}


@pytest.mark.parametrize("repo_id", [repo for repo, rooms in ROOMS.items() if len(rooms) > 2])
def test_files_of_exact_size_leave_the_same_room_for_a_header(repo_id: str) -> None:
    # A figure of the shape that is wrong, such as the vocabulary, shows in different types' bytes.
    # Some rows were mixed by older rules that come out at nearly the same size.
    rooms = ROOMS[repo_id]
    near = [room for room in rooms if abs(room - median(rooms)) < 32_768]
    assert len(near) >= 0.75 * len(rooms)


@every_model
def test_experts_of_all_layers_are_told(model: Model) -> None:
    for file in model.files:
        if file.weights is not None:
            assert file.weights.routed == (shape_of(model).expert_count > 0), file.label
            assert all((layer.experts > 0) == file.weights.routed for layer in file.weights.layers)
