"""Planned layouts on GPUs, place by place, against what llama.cpp sets aside for them.

The engine's figures (tests/data/engine_plans.csv) come from llama.cpp b11549 built from source
with its RPC backend, whose devices were made to report the memory in ``gpus`` and to take over
batches as CUDA's do: planning only, nothing is allocated, so no GPU is needed. What a real GPU
backend keeps for itself is not in them.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from quantpick.domain.host import Backend, Device, MemoryKind
from quantpick.domain.memory import Memory, Split, Use, estimate_memory
from quantpick.domain.metadata import shape_of
from quantpick.domain.need import CacheType, FlashAttention, Need
from quantpick.domain.weights import weights_of
from tests.engine.hollow import hollow_header
from tests.engine.models import MODELS

TABLE = Path(__file__).parents[1] / "data" / "engine_plans.csv"
MIB = 2**20
CASE = ("model", "label", "gpus", "ctx_size", "cache", "flash_attn", "tensor_split", "n_cpu_moe")

Rows = dict[tuple[str, ...], dict[str, tuple[float, float, float]]]


def read_table() -> Rows:
    """Return what the engine sets aside, in MiB by term: one case, then one place."""
    lines = [line for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")]
    cases: Rows = defaultdict(dict)
    for row in csv.DictReader(lines):
        terms = (float(row["weights"]), float(row["kv_cache"]), float(row["compute"]))
        cases[tuple(row[name] for name in CASE)][row["place"]] = terms
    return dict(cases)


@cache
def estimate(case: tuple[str, ...]) -> Memory:
    model, label, gpus, ctx_size, kind, fused, shares, n_cpu_moe = case
    header = hollow_header(MODELS[model](), label)
    shape = shape_of(header)
    weights = weights_of(header.tensors, shape.block_count, shape.idle_blocks)
    need = Need(
        ctx_size=int(ctx_size),
        type_k=CacheType(kind),
        type_v=CacheType(kind),
        flash_attn=FlashAttention(fused),
    )
    devices = [
        Device(f"GPU {index}", Backend.VULKAN, MemoryKind.DEDICATED, size, size, None, "test")
        for index, size in enumerate(int(free) * MIB for free in gpus.split("+"))
    ]
    split = Split(tuple(map(int, shares.split("+"))), int(n_cpu_moe))
    return estimate_memory(weights, shape, need, devices, split)


CASES = read_table()

#: Cases whose scratch memory is off by more than the others', in MiB at most: recurrent layers on
#: several devices (too low), and stacks of experts that were expected to be copied in pairs.
WIDER = {"nemotron-nano-9b-v2": 180, "deepseek-v3": 190, "llama-3.1-70b": 110}
USUAL = 100


def test_the_table_covers_every_kind_of_layout() -> None:
    splits = [(case[6].count("+"), int(case[7])) for case in CASES]
    assert len(CASES) > 200
    assert sum(devices > 0 for devices, _ in splits) > 50
    assert sum(experts > 0 for _, experts in splits) > 60
    assert len({case[0] for case in CASES}) >= 12


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_each_place_gets_what_was_estimated(case: tuple[str, ...]) -> None:
    memory = estimate(case)
    places = {use.name: use for use in memory.uses}
    allowed = WIDER.get(case[0], USUAL)
    for place, (weights, kv_cache, compute) in CASES[case].items():
        use: Use = places[place]
        assert use.weights / MIB == pytest.approx(weights, abs=1)
        assert (use.kv_cache or 0) / MIB == pytest.approx(kv_cache, abs=0.01)
        assert (use.compute or 0) / MIB == pytest.approx(compute, abs=allowed)
    total = sum(use.engine for use in memory.uses) / MIB
    engine = sum(sum(terms) for terms in CASES[case].values())
    assert total == pytest.approx(engine, abs=max(0.01 * engine, 64, 2 * allowed))
