"""The memory estimate against what a real llama.cpp prints for a real model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from quantpick.domain.memory import estimate_compute, estimate_kv_cache
from quantpick.domain.need import Need
from quantpick.domain.shape import Shape
from tests.support.engine import load_log

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20

#: Gemma 3 270M, from the metadata of its GGUF.
GEMMA = Shape(
    architecture="gemma3",
    parameters=268_098_176,
    block_count=18,
    head_count=4,
    head_count_kv=1,
    key_length=256,
    value_length=256,
    embedding_length=640,
    feed_forward_length=2048,
    vocab_size=262_144,
    context_length=32_768,
    sliding_window=512,
    sliding_window_pattern=6,
)


@pytest.mark.parametrize("ctx_size", [1000, 8192, 32768])
def test_estimate_is_what_the_engine_allocates(gemma: Path, ctx_size: int) -> None:
    log = load_log(gemma, ctx_size)
    caches = re.findall(r"llama_kv_cache: size =\s+([\d.]+) MiB", log)
    (compute,) = re.findall(r"CPU compute buffer size =\s+([\d.]+) MiB", log)
    need = Need(ctx_size=ctx_size)
    assert len(caches) == 2
    assert estimate_kv_cache(GEMMA, need) == sum(map(float, caches)) * MIB
    assert estimate_compute(GEMMA, need, gpus=0) / MIB == pytest.approx(float(compute), abs=1.0)
