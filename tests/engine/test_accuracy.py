"""The memory estimate is what a real llama.cpp sets aside: the committed table, and a live part.

The table is made by ``python -m tests.engine.accuracy``; see there.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import TYPE_CHECKING

import pytest

from quantpick.domain.host import Cpu, Host, Ram
from quantpick.domain.metadata import shape_of
from quantpick.domain.need import Need
from quantpick.domain.placement import lay_out
from quantpick.domain.verdict import Placement
from quantpick.domain.weights import weights_of
from quantpick.gguf_header import read_file
from tests.engine.accuracy import (
    CONTEXTS,
    README,
    Row,
    cases_of,
    compare,
    estimated_anew,
    labels_of,
    read_table,
    readme_table,
    with_table,
)
from tests.engine.harness import Case, engine_build, measure
from tests.engine.hollow import hollow_header, write_hollow
from tests.engine.models import MODELS

if TYPE_CHECKING:
    from pathlib import Path

MIB, GIB = 2**20, 2**30

#: What has to be in the table, as architectures or as models of one.
ARCHITECTURES = {
    *("command-r", "cohere2", "deepseek2", "falcon-h1", "gemma2", "gemma3", "gemma3n", "gemma4"),
    *("glm4", "glm4moe", "gpt-oss", "granite", "granitehybrid", "lfm2", "llama", "llama4"),
    *("mamba2", "mistral3", "nemotron_h", "olmo2", "phi3", "qwen2", "qwen3", "qwen35"),
    *("qwen3moe", "qwen3next"),
}
LATENT_AND_LARGE = {"deepseek-v2-lite", "deepseek-v3", "kimi-k2", "mixtral-8x7b", "llama-3.1-70b"}

#: One case a model, tried on the engine every time: each context, cache type and kind of attention
#: comes up for some, and so does each kind of cache.
LIVE = [
    ("llama-3.2-1b", 131_072, "f16", True),
    ("phi-3.5-mini", 8192, "q8_0", True),
    ("gemma-3-4b", 32_768, "f16", False),
    ("gemma-4-e4b", 8192, "q8_0", True),
    ("command-r7b", 32_768, "q8_0", False),
    ("gpt-oss-20b", 131_072, "q8_0", True),
    ("qwen3-30b-a3b", 2048, "f16", True),
    ("deepseek-v2-lite", 8192, "f16", False),
    ("qwen3.5-9b", 32_768, "f16", True),
    ("mamba2-2.7b", 2048, "f16", False),
    ("falcon-h1-7b", 8192, "q8_0", False),
    ("lfm2-1.2b", 131_072, "f16", True),
]


@cache
def table() -> tuple[Row, ...]:
    return tuple(read_table())


def described(row: Row) -> str:
    attention = "on" if row.flash_attn else "off"
    return f"{row.model} {row.label} {row.ctx_size} fa {attention} {row.type_k}: {row.difference}"


def test_every_total_is_within_a_hundredth_or_64_mib() -> None:
    assert [described(row) for row in table() if not row.within_tolerance] == []


def test_every_cache_is_exact() -> None:
    assert [described(row) for row in table() if not row.cache_is_exact] == []


def test_the_table_holds_every_case_of_every_model() -> None:
    assert {row.architecture for row in table()} >= ARCHITECTURES
    assert {row.model for row in table()} >= LATENT_AND_LARGE
    measured = [
        (row.model, row.label, row.ctx_size, row.flash_attn, row.type_k, row.type_v)
        for row in table()
    ]
    assert sorted(measured) == sorted(
        (model, label, case.ctx_size, case.flash_attn, case.type_k, case.type_v)
        for model in MODELS
        for label in labels_of(model)
        for case in cases_of(README, latent=shape_of(hollow_header(MODELS[model](), label)).latent)
    )
    assert {row.ctx_size for row in table()} == set(CONTEXTS) == {2048, 8192, 32_768, 131_072}
    assert len({row.build for row in table()}) == 1


def test_the_table_has_the_estimates_of_today() -> None:
    # If the formulas changed: python -m tests.engine.accuracy --estimate, then --readme.
    anew = estimated_anew(table())
    stale = [described(row) for row, new in zip(table(), anew, strict=True) if row != new]
    assert stale == []


def test_the_readme_has_the_table() -> None:
    text = README.read_text("utf-8")
    assert text == with_table(text, readme_table(table()))


@pytest.mark.parametrize("wanted", LIVE, ids=lambda wanted: wanted[0])
def test_the_engine_agrees_today(wanted: tuple[str, int, str, bool], tmp_path: Path) -> None:
    model, ctx_size, type_k, flash_attn = wanted
    label = labels_of(model)[0]
    path = write_hollow(MODELS[model](), label, tmp_path)
    case = Case(path, ctx_size, type_k, type_k if flash_attn else "f16", flash_attn)
    (row,) = compare(model, label, read_file(path), [case])
    assert row.within_tolerance, described(row)
    assert row.cache_is_exact, described(row)
    if row.build == table()[0].build:
        # The same engine says the same, so the table is of it.
        assert row in table()


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="types of AVX2")
@pytest.mark.parametrize(
    ("model", "label"), [("llama-3.1-8b", "Q4_K_M"), ("qwen3-30b-a3b", "Q4_K_M")]
)
def test_the_copy_that_the_cpu_makes_is_known_by_type(
    model: str, label: str, tmp_path: Path
) -> None:
    path = write_hollow(MODELS[model](), label, tmp_path)
    header = read_file(path)
    shape = shape_of(header)
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    # The wheel is built for AVX2 and not beyond, whatever this processor can do.
    types = Cpu(None, None, ("avx2",)).repacked_types
    copy = sum(size for name, size in weights.matrices if name in types)
    assert copy // MIB == measure(Case(path, 2048, repack=True)).model["CPU_REPACK"] // MIB


@pytest.mark.parametrize("features", [(), ("avx2",), None])
def test_a_70b_does_not_fit_24_gib_of_ram(features: tuple[str, ...] | None) -> None:
    header = hollow_header(MODELS["llama-3.1-70b"](), "Q4_K_M")
    shape = shape_of(header)
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    host = Host(Ram(24 * GIB, None, "test"), Cpu(None, None, features))
    layout = lay_out(weights, shape, host, Need(ctx_size=2048))
    assert layout.placement is Placement.TOO_LARGE
    assert layout.short_by > 17 * GIB


def test_the_build_of_the_table_is_told_in_the_readme() -> None:
    assert f"llama.cpp b{table()[0].build}" in README.read_text("utf-8")
    assert table()[0].build <= engine_build()
