"""Laws of the pure core, over machines and quants that nobody chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantpick.domain.cache import estimate_kv_cache
from quantpick.domain.compute import estimate_compute, estimate_offloaded
from quantpick.domain.host import Backend, Cpu, Device, Engine, Host, MemoryKind, Ram
from quantpick.domain.model import Model, QuantFile
from quantpick.domain.need import CacheType, FamilyChoice, FlashAttention, Need, Objective
from quantpick.domain.recommend import recommend
from quantpick.domain.shape import Shape
from quantpick.domain.weights import LayerWeights, Weights
from quantpick.sources.catalog import load_model, load_reference

if TYPE_CHECKING:
    import random

REFERENCE = load_reference()
LLAMA_8B = "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"
LLAMA_70B = "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF"
MIB, GIB = 2**20, 2**30

sizes = st.integers(64, 200 * 1024).map(lambda mib: mib * MIB)
backends = st.sampled_from([backend for backend in Backend if backend is not Backend.CPU])
shapes = st.builds(
    Shape,
    architecture=st.sampled_from(["llama", "qwen3", "gemma3"]),
    parameters=st.integers(10**8, 10**12),
    block_count=st.integers(1, 130),
    head_count=st.integers(1, 128),
    head_count_kv=st.integers(1, 64),
    key_length=st.sampled_from([64, 128, 256]),
    value_length=st.sampled_from([64, 128, 256]),
    embedding_length=st.integers(256, 16384),
    feed_forward_length=st.integers(256, 53248),
    vocab_size=st.integers(1000, 262144),
    context_length=st.integers(2048, 131072),
    sliding_window=st.none() | st.integers(512, 4096),
    sliding_window_pattern=st.integers(2, 8),
    tied=st.booleans(),
    expert_count=st.just(0),
    expert_used_count=st.just(0),
    expert_feed_forward_length=st.just(0),
    layers=st.just(()),
    latent_query=st.just(0),
    per_layer_inputs=st.just(0),
    recurrent_rows=st.just(0),
    known=st.booleans(),
)
needs = st.builds(
    Need,
    objective=st.sampled_from(Objective),
    ctx_size=st.integers(1, 131072),
    type_k=st.sampled_from(CacheType),
    type_v=st.sampled_from(CacheType),
    family=st.sampled_from(FamilyChoice),
    parallel=st.integers(1, 16),
    ubatch_size=st.sampled_from([32, 512, 2048]),
    flash_attn=st.sampled_from(FlashAttention),
    projector=st.sampled_from([0, 10**9]),
    max_ctx=st.just(False),
)


@st.composite
def devices(draw: st.DrawFn) -> Device:
    total = draw(sizes)
    return Device("GPU", draw(backends), MemoryKind.DEDICATED, total, total, None, "test")


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    cards = draw(st.lists(devices(), max_size=3))
    if cards:
        cards = [card._replace(backend=cards[0].backend) for card in cards]
    engine = draw(st.none() | st.builds(Engine, st.integers(3000, 12000), st.just("test")))
    return Host(Ram(draw(sizes), None, "test"), Cpu(None, None), tuple(cards), engine)


@st.composite
def weights_for(draw: st.DrawFn, shape: Shape) -> Weights:
    layer = st.builds(
        LayerWeights,
        dense=st.integers(1, 2 * GIB),
        experts=st.sampled_from([0, MIB, GIB]),
        largest=st.integers(1, 256 * MIB),
        largest_expert=st.integers(0, 256 * MIB),
    )
    embedding, output = draw(st.integers(0, GIB)), draw(st.integers(1, GIB))
    tied = min(embedding, output) if shape.tied else 0
    kinds = draw(st.lists(layer, min_size=1, max_size=3))
    layers = tuple(kinds[index % len(kinds)] for index in range(shape.block_count))
    matrices = (("Q4_K", sum(item.total for item in layers)),)
    routed = any(item.experts for item in layers)
    return Weights(embedding, output, layers, tied, matrices=matrices, routed=routed)


@st.composite
def models(draw: st.DrawFn) -> Model:
    labels = draw(st.lists(st.sampled_from(sorted(REFERENCE.quants)), min_size=1, unique=True))
    shape = draw(st.none() | shapes)
    files = [
        QuantFile(
            label,
            draw(sizes),
            (f"{label}.gguf",),
            weights=draw(st.none() | weights_for(shape)) if shape else None,
        )
        for label in labels
    ]
    return Model("owner/repo", tuple(files), shape)


def more_memory(host: Host, ram: int, vram: int) -> Host:
    cards = [
        card._replace(total=card.total + vram, usable=card.usable + vram) for card in host.devices
    ]
    return host._replace(ram=host.ram._replace(total=host.ram.total + ram), devices=tuple(cards))


@given(models(), hosts(), needs, sizes, sizes)
def test_more_memory_never_makes_a_quant_unfit(
    model: Model, host: Host, need: Need, ram: int, vram: int
) -> None:
    # One rule for both: with AUTO a larger GPU can change the rule from quality to speed.
    need = need._replace(objective=Objective.QUALITY)
    before = recommend(model, host, need, REFERENCE)
    after = recommend(model, more_memory(host, ram, vram), need, REFERENCE)
    fitting = {verdict.file.label for verdict in after.verdicts if verdict.fits}
    assert {verdict.file.label for verdict in before.verdicts if verdict.fits} <= fitting


@given(models(), hosts(), needs, sizes, sizes)
def test_more_memory_never_takes_a_pick_away(
    model: Model, host: Host, need: Need, ram: int, vram: int
) -> None:
    if recommend(model, host, need, REFERENCE).pick is not None:
        assert recommend(model, more_memory(host, ram, vram), need, REFERENCE).pick is not None


@given(models(), hosts(), needs, st.integers(1, 65536))
def test_more_context_never_needs_less(model: Model, host: Host, need: Need, more: int) -> None:
    longer = need._replace(ctx_size=need.ctx_size + more)
    before = recommend(model, host, need._replace(objective=Objective.QUALITY), REFERENCE)
    after = recommend(model, host, longer._replace(objective=Objective.QUALITY), REFERENCE)
    needed = {verdict.file.label: verdict.memory.kv_cache for verdict in before.verdicts}
    for verdict in after.verdicts:
        assert (verdict.memory.kv_cache or 0) >= (needed[verdict.file.label] or 0)
        if verdict.fits:
            assert next(v for v in before.verdicts if v.file == verdict.file).fits


@given(models(), hosts(), needs)
def test_total_is_the_sum_of_its_terms_and_of_its_places(
    model: Model, host: Host, need: Need
) -> None:
    for verdict in recommend(model, host, need, REFERENCE).verdicts:
        memory = verdict.memory
        terms = (memory.weights, memory.kv_cache or 0, memory.compute or 0, memory.overhead)
        assert memory.total == sum(terms)
        assert memory.total == sum(use.total for use in memory.devices) + memory.host.total
        assert all(size >= 0 for use in memory.uses for size in use[1:] if size is not None)


@given(models(), hosts(), needs)
def test_no_weight_is_lost_between_the_places(model: Model, host: Host, need: Need) -> None:
    for verdict in recommend(model, host, need, REFERENCE).verdicts:
        weights, split = verdict.file.weights, verdict.split
        if weights is not None and model.shape is not None:
            # A tied output on a device is a copy of the embedding in RAM.
            copied = weights.tied if split.n_gpu_layers else 0
            placed = verdict.memory.weights - split.repack - need.projector
            assert placed == weights.loaded + copied


@given(models(), hosts(), needs, st.randoms(use_true_random=False))
def test_order_of_candidates_never_changes_the_answer(
    model: Model, host: Host, need: Need, chance: random.Random
) -> None:
    shuffled = list(model.files)
    chance.shuffle(shuffled)
    before = recommend(model, host, need, REFERENCE)
    after = recommend(model._replace(files=tuple(shuffled)), host, need, REFERENCE)
    assert before.verdicts == after.verdicts
    assert before.pick == after.pick


@given(models(), hosts(), needs)
def test_what_fits_fits_in_every_place(model: Model, host: Host, need: Need) -> None:
    answer = recommend(model, host, need, REFERENCE)
    for verdict in answer.verdicts:
        if verdict.fits:
            memory = verdict.memory
            assert verdict.placement in {"full_offload", "partial_offload", "cpu"}
            if model.shape is None:
                assert answer.rule.capacity - verdict.file.file_bytes >= 10**9
            elif verdict.placement == "full_offload":
                for use, device in zip(memory.devices, host.devices, strict=True):
                    assert use.total <= device.usable
            elif verdict.placement == "partial_offload":
                for use, device in zip(memory.devices, host.devices, strict=True):
                    assert use.engine <= device.usable - GIB or not use.weights
            if model.shape is not None:
                # Beside a model that is on the GPU whole, no margin is asked of RAM.
                margin = 0 if verdict.placement == "full_offload" else 10**9
                assert memory.host.total + margin <= host.ram.total


@given(models(), hosts(), needs)
def test_the_pick_is_a_verdict_that_fits_or_there_is_none(
    model: Model, host: Host, need: Need
) -> None:
    answer = recommend(model, host, need, REFERENCE)
    if answer.pick is None:
        assert not any(verdict.fits for verdict in answer.verdicts)
    else:
        assert answer.pick.fits
        assert answer.pick is answer.verdicts[0]


@given(shapes, needs)
@settings(max_examples=50)
def test_a_sliding_window_never_needs_more(shape: Shape, need: Need) -> None:
    everywhere = shape._replace(sliding_window=None)
    assert estimate_kv_cache(shape, need) <= estimate_kv_cache(everywhere, need)


def test_kv_cache_of_the_70b_is_what_llama_cpp_prints() -> None:
    shape = load_model(LLAMA_70B).shape
    assert shape is not None
    # MiB printed by llama.cpp b10587 for 4096, 8192, 32768 and 131072 tokens.
    printed = {
        (CacheType.F16, CacheType.F16): (1280, 2560, 10240, 40960),
        (CacheType.Q8_0, CacheType.Q8_0): (680, 1360, 5440, 21760),
        (CacheType.Q8_0, CacheType.F16): (980, 1960, 7840, 31360),
    }
    for (type_k, type_v), row in printed.items():
        for ctx_size, mib in zip((4096, 8192, 32768, 131072), row, strict=True):
            need = Need(ctx_size=ctx_size, type_k=type_k, type_v=type_v)
            assert estimate_kv_cache(shape, need) == mib * MIB


@given(shapes, needs, st.integers(1, 65536))
@settings(max_examples=50)
def test_more_context_never_needs_less_scratch(shape: Shape, need: Need, more: int) -> None:
    longer = need._replace(ctx_size=need.ctx_size + more)
    assert estimate_compute(shape, longer) >= estimate_compute(shape, need)
    for pipelined in (False, True):
        before = estimate_offloaded(shape, need, pipelined=pipelined)
        after = estimate_offloaded(shape, longer, pipelined=pipelined)
        assert all(late >= early for late, early in zip(after, before, strict=True))


@pytest.mark.parametrize(("below", "fits"), [(10**9, True), (10**9 - 1, False)])
def test_without_a_shape_the_margin_rule_decides(below: int, *, fits: bool) -> None:
    card = Device("GPU", Backend.VULKAN, MemoryKind.DEDICATED, 10**10, 10**10, None, "test")
    host = Host(Ram(64 * GIB, None, "test"), Cpu(None, None), (card,))
    file = QuantFile("Q4_K_M", 10**10 - below, ("x-Q4_K_M.gguf",))
    need = Need(objective=Objective.SPEED)
    (verdict,) = recommend(Model("owner/repo", (file,)), host, need, REFERENCE).verdicts
    assert verdict.fits is fits
