"""Slots and micro-batches other than the defaults, and other cache types, against the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quantpick.domain.memory import Split, estimate_memory
from quantpick.domain.metadata import shape_of
from quantpick.domain.need import CacheType, Need
from quantpick.domain.weights import weights_of
from quantpick.gguf_header import read_file
from tests.engine.harness import Case, measure_all
from tests.engine.hollow import write_hollow
from tests.engine.models import MODELS

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20

#: Context, cache type, slots, tokens computed at once.
SETTINGS = [
    (8192, "f16", 1, 512),
    (8192, "f16", 8, 128),
    (32_768, "f16", 1, 2048),
    (8192, "q4_0", 4, 512),
    (8192, "q5_1", 2, 512),
    (8192, "bf16", 4, 512),
    (100, "f16", 4, 512),
]


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-27b", "qwen3-30b-a3b", "qwen3.5-9b"])
def test_what_is_asked_for_is_what_the_engine_sets_aside(model: str, tmp_path: Path) -> None:
    path = write_hollow(MODELS[model](), "Q4_K_M", tmp_path)
    header = read_file(path)
    shape = shape_of(header)
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    cases = [
        Case(path, ctx_size, kind, kind, parallel=slots, ubatch=ubatch)
        for ctx_size, kind, slots, ubatch in SETTINGS
    ]
    for setting, buffers in zip(SETTINGS, measure_all(cases), strict=True):
        ctx_size, kind, slots, ubatch = setting
        need = Need(
            ctx_size=ctx_size,
            type_k=CacheType(kind),
            type_v=CacheType(kind),
            parallel=slots,
            ubatch_size=ubatch,
        )
        memory = estimate_memory(weights, shape, need, (), Split())
        assert memory.kv_cache == pytest.approx(buffers.cache, abs=0.02 * MIB), setting
        engine = sum(buffers.model.values()) + buffers.cache + buffers.compute + buffers.output
        assert memory.total == pytest.approx(engine, rel=0.01, abs=64 * MIB), setting
