"""Catalog files written from facts: their form, what is computed, and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quantpick.domain.blueprint import blueprint
from quantpick.domain.entry import EntryFacts, EntryFile, computed_weights, entry_document
from quantpick.domain.metadata import shape_of
from quantpick.domain.shape import Layer, Shape, layers_of
from quantpick.sources import catalog, rows
from quantpick.sources.catalog_format import dump_table
from tests.engine.hollow import hollow_header
from tests.engine.models import MODELS as ENGINE_MODELS
from tests.support.catalog_models import facts_of, files_of, path_of

if TYPE_CHECKING:
    from pathlib import Path

LLAMA_8B = "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"
QWEN_30B = "unsloth/Qwen3-30B-A3B-GGUF"
TIED = "unsloth/Qwen3-4B-GGUF"
GPT_OSS = "ggml-org/gpt-oss-20b-GGUF"

BARE = EntryFacts("T", None, None, None, "q", None, None, None, None, {"s": "said so"})
FILE = EntryFile("Q8_0", ("x-Q8_0.gguf",), 10**9, 0, (), "s", "2026-01-01")

#: A model of one layer, so that a sum is done by hand: 32 + 8 tokens of 256 numbers and the rest.
TINY = Shape("llama", 0, 1, 2, 1, 128, 128, 256, 512, 320, 4096)


@pytest.mark.parametrize("repo_id", catalog.repo_ids())
def test_every_catalog_file_comes_out_of_its_own_facts(repo_id: str) -> None:
    document = entry_document(facts_of(repo_id), files_of(repo_id))
    assert dump_table(document, "files") == path_of(repo_id).read_text("utf-8")


def test_what_is_unknown_is_left_out() -> None:
    document = entry_document(BARE, [FILE])
    assert list(document) == ["schema", "title", "quantizer", "sources", "files"]
    assert list(document["files"][0]) == ["label", "bytes", "paths", "source", "seen"]


def test_what_is_known_to_be_false_is_stated() -> None:
    facts = BARE._replace(base_gated=False, imatrix=False, llama_cpp=3472)
    document = entry_document(facts, [FILE._replace(recommended=False, rounded_to=100)])
    assert (document["base_gated"], document["imatrix"]) == (False, False)
    assert document["llama_cpp"] == "b3472"
    assert document["files"][0]["recommended"] is False
    assert document["files"][0]["rounded_to"] == 100


def test_rows_are_the_largest_first_then_by_label() -> None:
    sizes = {"Q4_0": 5, "Q8_0": 9, "IQ4_XS": 5, "Q6_K": 7}
    files = [FILE._replace(label=label, file_bytes=size) for label, size in sizes.items()]
    order = [row["label"] for row in entry_document(BARE, files)["files"]]
    assert order == ["Q8_0", "Q6_K", "IQ4_XS", "Q4_0"]


# Shapes

counts = st.integers(1, 10**6)
maybe = st.just(0) | counts
layer = st.builds(Layer, maybe, maybe, windowed=st.booleans(), state=maybe)

FURTHER = (
    *("expert_count", "expert_used_count", "expert_feed_forward_length", "idle_blocks"),
    *("latent_query", "per_layer_inputs", "recurrent_rows"),
)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw any shape that a catalog can state."""
    needed: dict[str, Any] = {name: draw(counts) for name in Shape._fields[1:11]}
    further: dict[str, Any] = {name: draw(maybe) for name in FURTHER}
    shape = Shape("an-arch", **(needed | further))
    shape = shape._replace(block_count=draw(st.integers(1, 12)), tied=draw(st.booleans()))
    shape = shape._replace(known=draw(st.booleans()))
    if shape.expert_feed_forward_length:
        shape = shape._replace(feed_forward_length=draw(maybe))
    kind = draw(st.sampled_from(["alike", "windowed", "mixed"]))
    if kind == "windowed":
        shape = shape._replace(sliding_window=draw(counts), sliding_window_pattern=draw(counts))
    if kind == "mixed":
        kinds = draw(st.lists(layer, min_size=1, max_size=9))
        some = st.lists(
            st.sampled_from(kinds), min_size=shape.block_count, max_size=shape.block_count
        )
        shape = shape._replace(layers=tuple(draw(some)), sliding_window=draw(st.none() | counts))
    return shape


@given(shape=shapes())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shape_is_read_as_it_was_written(
    shape: Shape, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("catalog")
    facts = BARE._replace(shape=shape)
    found = read_back(entry_document(facts, [FILE]), folder)
    # Layers that follow from the other figures are not written.
    assert found == shape or found._replace(layers=shape.layers) == shape
    assert layers_of(found) == layers_of(shape)


def test_layers_that_follow_from_the_other_figures_are_not_written() -> None:
    shape = TINY._replace(block_count=4, sliding_window=64, sliding_window_pattern=2)
    whole = shape._replace(layers=layers_of(shape))
    written = entry_document(BARE._replace(shape=whole), [FILE])["shape"]
    assert written == entry_document(BARE._replace(shape=shape), [FILE])["shape"]
    assert "layers" not in written


def read_back(document: dict[str, Any], folder: Path) -> Shape:
    path = folder / "models" / "o" / "r.json"
    path.parent.mkdir(parents=True)
    path.write_text(dump_table(document, "files"), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(rows.CATALOG_VARIABLE, str(folder))
        shape = catalog.load_model("o/r").shape
    assert shape is not None
    return shape


# Where the bytes go


def room_of(file: EntryFile, facts: EntryFacts) -> bool:
    return computed_weights(facts, file) is not None


#: Q8_0 stores 32 numbers in 34 bytes, norms are F32. Embedding and output 320 x 256 each;
#: attention 2 x 256 x 256 and 2 x 256 x 128; a network of 3 x 256 x 512; three norms of 256.
TINY_BYTES = (2 * 320 * 256 + 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512) * 34 // 32 + 3072


@given(st.integers(-300_000, 300_000))
@example(-100_001)
@example(-100_000)
@example(80 * 320)
@example(80 * 320 + 1)
def test_bytes_are_told_only_where_they_come_out(off: int) -> None:
    facts = BARE._replace(shape=TINY)
    file = FILE._replace(file_bytes=TINY_BYTES + off)
    assert room_of(file, facts) == (-100_000 <= off <= 80 * 320)


@given(st.integers(-(10**7), 10**7), st.integers(1, 5 * 10**6))
def test_a_rounded_size_may_be_off_by_its_step(off: int, step: int) -> None:
    facts = BARE._replace(shape=TINY)
    file = FILE._replace(file_bytes=TINY_BYTES + off, rounded_to=step)
    slack = max(80 * 320, file.file_bytes // 1000)
    assert room_of(file, facts) == (-step - 100_000 <= off <= slack + step)


def test_the_bytes_of_a_tiny_model_are_told_by_place() -> None:
    row = entry_document(BARE._replace(shape=TINY), [FILE._replace(file_bytes=TINY_BYTES)])[
        "files"
    ][0]
    table = 320 * 256 * 34 // 32
    assert row["weights"] == {
        "embedding": table,
        "output": table + 1024,
        "layer_bytes": [TINY_BYTES - 2 * table - 1024],
        "layer_kinds": "0",
        "largest": 256 * 512 * 34 // 32,
        "matrices": {"Q8_0": TINY_BYTES - table - 3072},
    }


@pytest.mark.parametrize("label", ["UD-Q8_0", "Q8_K_XL", "Q4_0_4_4", "IQ4_KS"])
def test_an_authors_own_mix_is_not_guessed(label: str) -> None:
    facts = BARE._replace(shape=TINY)
    assert not room_of(FILE._replace(label=label, file_bytes=TINY_BYTES), facts)


@pytest.mark.parametrize("change", [{"architecture": "an-arch"}, {"idle_blocks": 1}])
def test_figures_that_do_not_tell_every_tensor_tell_no_bytes(change: dict[str, Any]) -> None:
    facts = BARE._replace(shape=TINY._replace(**change))
    assert not room_of(FILE._replace(file_bytes=TINY_BYTES), facts)


@pytest.mark.parametrize("repo_id", [LLAMA_8B, QWEN_30B, TIED])
def test_bytes_by_place_are_read_as_they_were_computed(repo_id: str) -> None:
    facts, model = facts_of(repo_id), catalog.load_model(repo_id)
    for file, read in zip(files_of(repo_id), model.files, strict=True):
        weights = computed_weights(facts, file)
        if weights is None:
            assert read.weights is None
            continue
        assert read.weights is not None
        assert dict(read.weights.matrices) == dict(weights.matrices)
        # Of the largest tensors the file tells one for all layers, and one for their experts.
        largest = max(layer.largest for layer in weights.layers)
        expert = max(layer.largest_expert for layer in weights.layers)
        layers = tuple(
            layer._replace(largest=largest, largest_expert=expert) for layer in weights.layers
        )
        assert read.weights._replace(matrices=()) == weights._replace(layers=layers, matrices=())


def test_both_ways_to_mix_are_tried_where_nobody_says_which() -> None:
    # Q4_0 has some tensors in Q4_1 with an importance matrix, and none without.
    shape = catalog.load_model(LLAMA_8B).shape
    facts = BARE._replace(shape=shape)
    sizes = {imatrix: exact_size(facts._replace(imatrix=imatrix)) for imatrix in (True, False)}
    assert sizes[True] > sizes[False] + 10**7
    for imatrix, size in sizes.items():
        file = FILE._replace(label="Q4_0", file_bytes=size)
        assert room_of(file, facts)
        assert room_of(file, facts._replace(imatrix=imatrix))
        assert not room_of(file, facts._replace(imatrix=not imatrix))


def exact_size(facts: EntryFacts) -> int:
    """Return the size of a Q4_0 with no header, found from any size in a wide step around it."""
    wide = FILE._replace(label="Q4_0", file_bytes=5 * 10**9, rounded_to=4 * 10**9)
    weights = computed_weights(facts, wide)
    assert weights is not None
    return weights.loaded


def test_experts_are_told_apart_from_the_rest() -> None:
    facts, files = facts_of(QWEN_30B), files_of(QWEN_30B)
    weights = {file.label: computed_weights(facts, file) for file in files}["Q8_0"]
    assert weights is not None
    assert weights.routed
    (kind,) = set(weights.layers)
    stack = 128 * 768 * 2048 * 34 // 32
    assert (kind.experts, kind.largest_expert) == (3 * stack, stack)
    assert kind.largest == 2048 * 4096 * 34 // 32


def test_experts_born_in_mxfp4_stay_in_it() -> None:
    (file,) = files_of(GPT_OSS)
    weights = computed_weights(facts_of(GPT_OSS), file)
    assert weights is not None
    assert file.label == "MXFP4"
    numbers = 24 * 3 * 32 * 2880 * 2880
    assert dict(weights.matrices)["MXFP4"] == numbers // 32 * 17


# Tensors, against what llama.cpp loads

#: Models of the engine's tests whose figures tell every tensor; some have more for rotation.
TOLD = [
    *("llama-3.2-1b", "llama-3.1-70b", "mistral-7b-v0.3", "qwen2.5-7b", "qwen3-8b", "phi-4"),
    *("phi-3.5-mini", "glm-4-9b-0414", "olmo-2-7b", "gemma-2-9b", "gemma-3-27b", "mixtral-8x7b"),
    *("qwen3-30b-a3b", "gpt-oss-20b", "gpt-oss-120b"),
]


@pytest.mark.parametrize("name", TOLD)
def test_a_blueprint_is_what_the_engine_loads(name: str) -> None:
    model = ENGINE_MODELS[name]()
    shape = shape_of(hollow_header(model, "BF16"))
    names = [name for name, _ in model.tensors]
    slots = blueprint(shape, rope_freqs=any(name.startswith("rope_") for name in names))
    assert slots is not None
    assert dict(slots) == dict(model.tensors)
