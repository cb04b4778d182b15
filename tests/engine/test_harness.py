"""The harness tells what the engine takes when it does allocate, and costs no memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.engine.harness import Case, engine_build, measure, measure_all
from tests.engine.hollow import write_hollow
from tests.engine.models import MODELS
from tests.support.engine import load_log

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20


def test_what_is_told_is_what_is_allocated(gemma: Path) -> None:
    log = load_log(gemma, 4096)
    told = measure(Case(gemma, 4096, repack=True))
    caches = map(float, re.findall(r"KV buffer size = +([\d.]+) MiB", log))
    (compute,) = map(float, re.findall(r"compute buffer size = +([\d.]+) MiB", log))
    (output,) = map(float, re.findall(r" output buffer size = +([\d.]+) MiB", log))
    assert told.cache / MIB == pytest.approx(sum(caches), abs=0.02)
    assert told.compute / MIB == pytest.approx(compute, abs=0.01)
    assert told.output / MIB == pytest.approx(output, abs=0.01)


def test_a_70b_with_all_its_context_costs_nothing(tmp_path: Path) -> None:
    path = write_hollow(MODELS["llama-3.1-70b"](), "Q4_K_M", tmp_path)
    full = Case(path, 131_072)
    plain, small = measure_all([full, full._replace(type_k="q8_0", type_v="q8_0")])
    assert plain.cache == 40 << 30
    assert small.cache == plain.cache // 2 * 34 // 32
    assert sum(plain.model.values()) // MIB == 42_512_531_712 // MIB


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(RuntimeError, match="did not load"):
        measure(Case(path, 4096))


def test_the_build_is_told() -> None:
    assert engine_build() > 11_000
