"""The types inside a file of each label: against llama-quantize, published sizes, and laws."""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.blueprint import blueprint
from quantpick.domain.mixing import Slot, mixed_types
from quantpick.domain.mixing_rules import RECIPES
from quantpick.domain.shape import Shape
from quantpick.domain.tensors import TYPES_BY_NAME, tensor_bytes
from quantpick.sources.catalog import load_model
from tests.support.catalog_models import slots_of

if TYPE_CHECKING:
    import random

LLAMA_8B = "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"
LLAMA_70B = "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF"
LLAMA_1B = "bartowski/Llama-3.2-1B-Instruct-GGUF"
GEMMA_27B = "unsloth/gemma-3-27b-it-GGUF"
CATALOG = [
    *(LLAMA_8B, LLAMA_70B, LLAMA_1B, "bartowski/Llama-3.2-3B-Instruct-GGUF"),
    *("unsloth/Qwen3-14B-GGUF", "unsloth/Qwen3-32B-GGUF", GEMMA_27B),
]
LARGER = {"Q2_K_L": "Q2_K", "Q3_K_XL": "Q3_K_L", "Q4_K_L": "Q4_K_M"}
LARGER |= {"Q5_K_L": "Q5_K_M", "Q6_K_L": "Q6_K"}
LABELS = [*RECIPES, *LARGER, "MXFP4_MOE", "F16", "BF16", "F32"]

#: llama-quantize --dry-run, see the file's first line.
TABLE = (Path(__file__).parent / "data" / "label_types.csv").read_text("utf-8").splitlines()[1:]


def tensors_of(repo: str, *, rope_freqs: bool = False) -> tuple[Slot, ...]:
    shape = load_model(repo).shape
    assert shape is not None
    return slots_of(shape, rope_freqs=rope_freqs)


def types_of(
    label: str, repo: str, tensors: tuple[Slot, ...], *, imatrix: bool = True
) -> tuple[str, ...] | None:
    shape = load_model(repo).shape
    assert shape is not None
    return mixed_types(
        label,
        tensors,
        architecture=shape.architecture,
        block_count=shape.block_count,
        head_count=shape.head_count,
        head_count_kv=shape.head_count_kv,
        imatrix=imatrix,
    )


def data_bytes(tensors: tuple[Slot, ...], types: tuple[str, ...]) -> int:
    """Bytes of the tensors, each padded to 32 as in a file."""
    pairs = zip(tensors, types, strict=True)
    return sum(-(-tensor_bytes(dims, kind) // 32) * 32 for (_, dims), kind in pairs)


# Against llama-quantize


@pytest.mark.parametrize("row", list(csv.DictReader(TABLE)), ids=lambda row: "-".join(row.values()))
def test_the_types_are_those_that_llama_quantize_tells(row: dict[str, str]) -> None:
    repo = {"llama-3.1-8b": LLAMA_8B, "llama-3.1-70b": LLAMA_70B}[row["model"]]
    tensors = tensors_of(repo, rope_freqs=True)
    types = types_of(row["label"], repo, tensors, imatrix=row["imatrix"] == "yes")
    assert types is not None
    told = (pair.split(":") for pair in row["types"].split())
    assert Counter(types) == {kind: int(count) for kind, count in told}


# Against published sizes


@pytest.mark.parametrize("label", load_model(LLAMA_70B).labels())
def test_the_70b_of_the_catalog_has_the_size_that_its_card_prints(label: str) -> None:
    file = next(file for file in load_model(LLAMA_70B).files if file.label == label)
    tensors = tensors_of(LLAMA_70B, rope_freqs=True)
    types = types_of(label, LLAMA_70B, tensors)
    assert types is not None
    header = 7_862_176  # what the one file of exact size leaves for it
    assert abs(data_bytes(tensors, types) + header - file.file_bytes) <= file.rounded_to * 0.53
    assert data_bytes(tensors, types) + header == pytest.approx(file.file_bytes, rel=0.001)


def test_all_files_of_a_repo_leave_the_same_room_for_a_header() -> None:
    exact = [file for file in load_model(GEMMA_27B).files if file.exact]
    tensors = tensors_of(GEMMA_27B)
    mixes = {file: types_of(file.label, GEMMA_27B, tensors) for file in exact}
    rooms = {
        file.label: file.file_bytes - data_bytes(tensors, types)
        for file, types in mixes.items()
        if types is not None
    }
    assert len(rooms) == 9
    assert set(rooms.values()) == {6_562_912}


@pytest.mark.parametrize("repo", CATALOG)
def test_a_blueprint_has_the_models_parameters(repo: str) -> None:
    shape = load_model(repo).shape
    assert shape is not None
    assert sum(prod(dims) for _, dims in tensors_of(repo)) == shape.parameters


# Laws

SMALL = Shape("llama", 0, 6, 8, 2, 64, 64, 512, 1024, vocab_size=1000, context_length=4096)
labels = st.sampled_from(LABELS)
architectures = st.sampled_from(["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "qwen3moe"])


@st.composite
def models(draw: st.DrawFn) -> tuple[str, int, tuple[Slot, ...]]:
    """Return an architecture, its count of experts and tensors with rows of odd lengths."""
    architecture = draw(architectures)
    experts = draw(st.sampled_from([4, 8, 128])) if architecture == "qwen3moe" else 0
    shape = SMALL._replace(
        architecture=architecture,
        key_length=draw(st.sampled_from([32, 40, 128])),
        value_length=draw(st.sampled_from([32, 40, 128])),
        embedding_length=draw(st.sampled_from([256, 320, 520, 2880])),
        feed_forward_length=draw(st.sampled_from([256, 544, 2880, 11008])),
        tied=draw(st.booleans()),
        expert_count=experts,
    )
    tensors = blueprint(shape, rope_freqs=draw(st.booleans()))
    assert tensors is not None
    return architecture, experts, tensors


def mix(label: str, model: tuple[str, int, tuple[Slot, ...]]) -> tuple[str, ...] | None:
    architecture, experts, tensors = model
    return mixed_types(
        label,
        tensors,
        architecture=architecture,
        block_count=6,
        head_count=8,
        head_count_kv=2,
        expert_count=experts,
    )


@given(labels, models())
def test_the_block_of_every_type_divides_its_row(
    label: str, model: tuple[str, int, tuple[Slot, ...]]
) -> None:
    types = mix(label, model)
    if types is None:
        assert label == "Q1_0"
        return
    for (_, dims), kind in zip(model[2], types, strict=True):
        assert dims[0] % TYPES_BY_NAME[kind].elements == 0


@given(st.sampled_from(sorted(LARGER)), models())
def test_a_larger_variant_is_never_smaller(
    label: str, model: tuple[str, int, tuple[Slot, ...]]
) -> None:
    larger, base = mix(label, model), mix(LARGER[label], model)
    assert larger is not None
    assert base is not None
    assert data_bytes(model[2], larger) >= data_bytes(model[2], base)


@given(labels, models(), st.randoms())
def test_the_order_in_the_file_decides_nothing(
    label: str, model: tuple[str, int, tuple[Slot, ...]], chance: random.Random
) -> None:
    architecture, experts, tensors = model
    shuffled = list(tensors)
    chance.shuffle(shuffled)
    types = mix(label, (architecture, experts, tuple(shuffled)))
    straight = mix(label, model)
    if types is None or straight is None:
        assert types == straight
        return
    by_name = {name: kind for (name, _), kind in zip(shuffled, types, strict=True)}
    assert tuple(by_name[name] for name, _ in tensors) == straight


@given(labels, models())
def test_what_has_one_dimension_is_never_quantized(
    label: str, model: tuple[str, int, tuple[Slot, ...]]
) -> None:
    types = mix(label, model) or ()
    flat = {kind for (_, dims), kind in zip(model[2], types, strict=False) if len(dims) == 1}
    assert flat <= {"F32", label}


# Cases


@pytest.mark.parametrize(
    "label", ["UD-Q4_K_XL", "UD-IQ2_M", "IQ4_KS", "Q4_K_XL", "Q8_0_L", "MXFP4", "NVFP4", "Q4_0_8_8"]
)
def test_a_mix_that_is_not_llama_cpps_is_not_known(label: str) -> None:
    assert types_of(label, LLAMA_8B, tensors_of(LLAMA_8B)) is None


def test_a_tied_embedding_is_encoded_as_the_output() -> None:
    tensors = tensors_of(LLAMA_1B)
    types = types_of("Q4_K_M", LLAMA_1B, tensors)
    assert types is not None
    assert dict(zip(tensors, types, strict=True))[tensors[0]] == "Q6_K"


def test_the_prefix_i1_means_an_importance_matrix() -> None:
    tensors = tensors_of(LLAMA_8B)
    marked = types_of("i1-IQ4_XS", LLAMA_8B, tensors, imatrix=False)
    assert marked == types_of("IQ4_XS", LLAMA_8B, tensors)
    assert marked != types_of("IQ4_XS", LLAMA_8B, tensors, imatrix=False)


def test_eight_experts_get_better_attention() -> None:
    shape = Shape("llama", 0, 32, 32, 8, 128, 128, 4096, 14336, 32000, 32768, expert_count=8)
    mixtral = blueprint(shape)
    assert mixtral is not None
    types = mixed_types(
        "Q4_K_M",
        mixtral,
        architecture="llama",
        block_count=32,
        head_count=32,
        head_count_kv=8,
        expert_count=8,
    )
    assert types is not None
    by_name = {name: kind for (name, _), kind in zip(mixtral, types, strict=True)}
    layer = {name: by_name[f"blk.9.{name}.weight"] for name in ("attn_v", "attn_k", "attn_output")}
    assert layer == {"attn_v": "Q8_0", "attn_k": "Q8_0", "attn_output": "Q5_K"}
    assert by_name["blk.9.ffn_gate_inp.weight"] == "F32"


def test_another_file_tells_the_types_of_what_is_not_quantized() -> None:
    tensors = (
        ("token_embd.weight", (2880, 1000)),
        ("blk.0.ffn_gate_inp.weight", (2880, 32)),
        ("blk.0.ffn_up_exps.weight", (2880, 2880, 32)),
        ("blk.0.ffn_up_exps.bias", (2880, 32)),
    )
    gpt_oss = partial(
        mixed_types,
        architecture="gpt-oss",
        block_count=24,
        head_count=64,
        head_count_kv=8,
        expert_count=32,
    )
    assert gpt_oss("Q6_K", tensors) == ("Q8_0", "F32", "Q8_0", "F32")
    source = ("Q8_0", "BF16", "MXFP4", "F32")
    assert gpt_oss("Q6_K", tensors, source=source) == ("Q8_0", "BF16", "MXFP4", "F32")


def test_figures_that_do_not_tell_the_tensors_make_no_blueprint() -> None:
    assert blueprint(SMALL) is not None
    assert blueprint(SMALL._replace(architecture="mamba2")) is None
    assert blueprint(SMALL._replace(architecture="qwen3moe")) is None
    assert blueprint(SMALL._replace(architecture="gemma3", expert_count=8)) is None
