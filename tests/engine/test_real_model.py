"""The memory estimate against what a real llama.cpp allocates for a real model, Gemma 3 270M."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING

import pytest

from quantpick.domain.host import Cpu
from quantpick.domain.memory import Split, estimate_memory
from quantpick.domain.metadata import shape_of
from quantpick.domain.need import Need
from quantpick.domain.weights import weights_of
from quantpick.gguf_header import read_file
from tests.support.engine import load_log

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20

#: What decides about the repacked copy: the engine's wheel is built for AVX2 and not beyond.
FEATURES = ("avx2",) if platform.machine() in {"x86_64", "AMD64"} else ("asimddp",)


def told(log: str, what: str) -> list[float]:
    return [float(mib) for mib in re.findall(rf"{what} += +([\d.]+) MiB", log)]


@pytest.mark.parametrize("ctx_size", [1000, 8192, 32768])
def test_estimate_is_what_the_engine_allocates(gemma: Path, ctx_size: int) -> None:
    log = load_log(gemma, ctx_size)
    header = read_file(gemma)
    shape = shape_of(header)
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    host = estimate_memory(weights, shape, Need(ctx_size=ctx_size), (), Split()).host
    caches = told(log, "llama_kv_cache: size")
    compute = told(log, "CPU compute buffer size") + told(log, "CPU  output buffer size")
    assert len(caches) == len(compute) == 2
    assert host.kv_cache == sum(caches) * MIB
    assert host.compute is not None
    assert host.compute / MIB == pytest.approx(sum(compute), abs=1)
    assert [host.weights / MIB] == pytest.approx(told(log, "CPU_Mapped model buffer size"), abs=0.1)


def test_the_repacked_copy_is_what_the_engine_allocates_beside_the_mapped_file(gemma: Path) -> None:
    log = load_log(gemma, 1000)
    header = read_file(gemma)
    shape = shape_of(header)
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    twice = Cpu(None, None, FEATURES).repacked_types
    copy = sum(size for name, size in weights.matrices if name in twice)
    assert [copy / MIB] == pytest.approx(told(log, "CPU_REPACK model buffer size"), abs=0.01)
