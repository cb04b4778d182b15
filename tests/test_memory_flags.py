"""What each flag does to the estimate and to the command, through the command line.

The model is Llama 3.1 8B of the catalog unless a test says otherwise: 32 layers, 32 heads, 8 of
them with keys and values, 128 numbers a head, 128256 tokens. The expected figures come from these.
"""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from quantpick import api
from quantpick.domain.need import CacheType, FlashAttention, Need
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.command import Command

MODEL = "llama-3.1-8b"
LARGE = "llama-3.1-70b"
GB, MIB, GIB = 10**9, 2**20, 2**30
LAYERS, KV_WIDTH, VOCAB, HEADS = 32, 8 * 128, 128256, 32

ONE = ("--vram", "24GiB", "--ram", "64GiB", "--backend", "cuda")
MACHINES = {
    "one": ONE,
    "partial": ("--vram", "3GiB", "--ram", "64GiB", "--backend", "cuda"),
    "two": ("--vram", "4GiB", "--vram", "6GiB", "--ram", "64GiB", "--backend", "cuda"),
    "two-partial": ("--vram", "2GiB", "--vram", "3GiB", "--ram", "64GiB", "--backend", "rocm"),
    "metal": ("--ram", "32GiB", "--backend", "metal"),
    "cpu": ("--ram", "32GiB", "--backend", "cpu"),
}


def ask(quantpick: Command, *words: str, model: str = MODEL, status: int = 0) -> dict[str, Any]:
    result = quantpick("recommend", model, *words, "--json")
    assert result.status == status, result.stderr
    return result.json


def explained(
    quantpick: Command, *words: str, spec: str = f"{MODEL}:Q4_K_M", machine: tuple[str, ...] = ONE
) -> dict[str, Any]:
    result = quantpick("explain", spec, *machine, *words, "--json")
    assert result.status == 0, result.stderr
    return result.json


def memory(quantpick: Command, *words: str, **named: Any) -> dict[str, Any]:  # noqa: ANN401 -- passed on
    found = explained(quantpick, *words, **named)["verdict"]["memory"]
    assert isinstance(found, dict)
    return found


def flags(answer: dict[str, Any]) -> dict[str, str | None]:
    """Return the flags of the command that runs the pick; None where one has no value."""
    words = [*shlex.split(answer["commands"]["run"]), "--"]
    return {
        word: None if following.startswith("--") else following
        for word, following in pairwise(words)
        if word.startswith("-") and word != "--"
    }


def codes(verdict: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in verdict["reasons"]]


def reason(verdict: dict[str, Any], code: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in verdict["reasons"] if r["code"] == code)
    return found


# Sums


@pytest.mark.parametrize("machine", MACHINES)
def test_terms_and_places_add_up_to_one_total(quantpick: Command, machine: str) -> None:
    for judged in ask(quantpick, *MACHINES[machine], "--mmproj", "300MiB")["verdicts"]:
        found = judged["memory"]
        places = [*found["devices"], found["host"]]
        for term in ("weights", "kv_cache", "compute", "overhead", "total"):
            assert found[term] == sum(place[term] for place in places)
        terms = ("weights", "kv_cache", "compute", "overhead")
        assert found["total"] == sum(found[term] for term in terms)
        for place in places:
            assert place["total"] == sum(place[term] for term in terms)
            assert min(place[term] for term in terms) >= 0


@pytest.mark.parametrize("machine", MACHINES)
def test_what_fits_stays_within_each_device_and_ram(quantpick: Command, machine: str) -> None:
    answer = ask(quantpick, *MACHINES[machine])
    assert any(judged["fits"] for judged in answer["verdicts"])
    devices = answer["host"]["devices"]
    for judged in answer["verdicts"]:
        if judged["fits"] and judged["placement"] != "cpu":
            uses = judged["memory"]["devices"]
            assert [use["name"] for use in uses] == [device["name"] for device in devices]
            for use, device in zip(uses, devices, strict=True):
                assert use["total"] <= device["usable"]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_command_puts_the_layers_where_the_estimate_has_them(
    quantpick: Command, machine: str
) -> None:
    answer = ask(quantpick, *MACHINES[machine], "--ctx-size", "5000")
    pick, run = answer["pick"], flags(answer)
    assert (run["--ctx-size"], run["--n-gpu-layers"]) == ("5000", str(pick["n_gpu_layers"]))
    assert pick["n_gpu_layers"] == sum(pick["tensor_split"])
    several = len(pick["tensor_split"]) > 1
    split = ",".join(str(share) for share in pick["tensor_split"]) if several else None
    assert run.get("--tensor-split") == split
    assert "--n-cpu-moe" not in run


def test_defaults_are_not_written_out(quantpick: Command) -> None:
    assert set(flags(ask(quantpick, *ONE))) == {"-m", "--ctx-size", "--n-gpu-layers"}


# The cache


@pytest.mark.parametrize(
    ("kind", "bytes_of_32"),
    [
        ("f32", 128),
        ("f16", 64),
        ("bf16", 64),
        ("q8_0", 34),
        ("q5_1", 24),
        ("q5_0", 22),
        ("q4_1", 20),
        ("q4_0", 18),
        ("iq4_nl", 18),
    ],
)
def test_a_cache_type_counts_by_its_blocks(quantpick: Command, kind: str, bytes_of_32: int) -> None:
    words = ("--cache-type-k", kind, "--cache-type-v", kind, "--ctx-size", "4000")
    answer = ask(quantpick, *ONE, *words)
    # 4000 tokens take 16 blocks of 256 cells.
    expected = LAYERS * 4096 * 2 * KV_WIDTH * bytes_of_32 // 32
    assert answer["pick"]["memory"]["kv_cache"] == expected
    run = flags(answer)
    wanted = None if kind == "f16" else kind
    assert (run.get("--cache-type-k"), run.get("--cache-type-v")) == (wanted, wanted)
    quantized = bytes_of_32 < 64
    assert run.get("--flash-attn") == ("on" if quantized else None)


def test_one_cell_more_takes_a_block_more(quantpick: Command) -> None:
    sizes = [memory(quantpick, "-c", str(ctx))["kv_cache"] for ctx in (1, 256, 257)]
    assert sizes == [LAYERS * cells * 2 * KV_WIDTH * 2 for cells in (256, 256, 512)]


# Slots and micro-batches


@pytest.mark.parametrize("machine", ["one", "cpu"])
def test_a_slot_costs_its_logits(quantpick: Command, machine: str) -> None:
    few, many = (
        memory(quantpick, "--parallel", slots, machine=MACHINES[machine]) for slots in ("1", "9")
    )
    assert many["host"]["compute"] - few["host"]["compute"] == 8 * VOCAB * 4
    assert many["kv_cache"] == few["kv_cache"]


def test_slots_are_in_the_command_and_share_the_context(quantpick: Command) -> None:
    run = flags(ask(quantpick, *ONE, "--parallel", "2"))
    assert run["--parallel"] == "2"
    assert "--kv-unified" in run


@pytest.mark.parametrize(("slots", "cells"), [("1", 1536), ("4", 4608), ("40", 32768)])
def test_a_sliding_window_is_kept_for_every_slot(
    quantpick: Command, slots: str, cells: int
) -> None:
    # Gemma 3 27B: 62 layers, every sixth without a window of 1024; 16 heads of 128 numbers.
    words = ("--parallel", slots, "--ctx-size", "32768")
    found = memory(quantpick, *words, spec="gemma-3-27b:Q4_K_M")
    assert found["kv_cache"] == (10 * 32768 + 52 * cells) * 16 * (128 + 128) * 2


@pytest.mark.parametrize("size", [256, 1024, 4096])
def test_the_mask_grows_with_context_and_micro_batch(quantpick: Command, size: int) -> None:
    words = ("--ubatch-size", str(size))
    short, long = (memory(quantpick, *words, "-c", ctx) for ctx in ("16384", "32768"))
    (before,), (after,) = short["devices"], long["devices"]
    assert after["compute"] - before["compute"] == 16384 * size * 2
    run = flags(ask(quantpick, *ONE, *words))
    assert run["--ubatch-size"] == str(size)
    assert run["--batch-size"] == str(max(size, 2048))


# Attention


def test_without_flash_attention_the_scores_of_all_heads_are_held(quantpick: Command) -> None:
    words = ("--flash-attn", "off")
    short, long = (memory(quantpick, *words, "-c", ctx) for ctx in ("16384", "32768"))
    (before,), (after,) = short["devices"], long["devices"]
    # A score a head and a mask, both f32.
    assert after["compute"] - before["compute"] == 16384 * 512 * 4 * (HEADS + 1)
    assert flags(ask(quantpick, *ONE, *words))["--flash-attn"] == "off"


def test_flash_attention_on_is_what_auto_counts_with(quantpick: Command) -> None:
    automatic, on = ask(quantpick, *ONE), ask(quantpick, *ONE, "--flash-attn", "on")
    assert on["pick"] == automatic["pick"]
    assert "--flash-attn" not in flags(automatic)
    assert flags(on)["--flash-attn"] == "on"


@pytest.mark.parametrize(
    ("backend", "overhead"),
    [("cuda", 550 * 10**6), ("rocm", 457 * MIB), ("metal", 512 * MIB), ("vulkan", 0), ("sycl", 0)],
)
def test_what_a_backend_takes_for_itself_is_stated(
    quantpick: Command, backend: str, overhead: int
) -> None:
    words = ("explain", f"{MODEL}:Q4_K_M", "--vram", "24GiB", "--ram", "64GiB", "--json")
    (device,) = quantpick(*words, "--backend", backend).json["verdict"]["memory"]["devices"]
    assert device["overhead"] == overhead


# A projector


def test_a_projector_counts_on_the_first_device_with_its_scratch(quantpick: Command) -> None:
    machine = MACHINES["two"]
    before = memory(quantpick, machine=machine)
    after = memory(quantpick, "--mmproj", "100MiB", machine=machine)
    assert after["devices"][0]["weights"] - before["devices"][0]["weights"] == 100 * MIB
    assert after["devices"][0]["overhead"] > before["devices"][0]["overhead"]
    assert after["devices"][1] == before["devices"][1]
    assert after["host"] == before["host"]


def test_without_a_gpu_a_projector_counts_in_ram_with_its_scratch(quantpick: Command) -> None:
    words = ("explain", f"{MODEL}:Q4_K_M", "--backend", "cpu", "--ram", "64GiB", "--json")
    plain = quantpick(*words).json["verdict"]["memory"]["host"]
    seeing = quantpick(*words, "--mmproj", "1GB").json["verdict"]["memory"]["host"]
    assert seeing["weights"] - plain["weights"] == 10**9
    assert seeing["overhead"] - plain["overhead"] == 31 * 10**7


def test_a_projector_too_large_for_the_first_device_is_not_put_there(quantpick: Command) -> None:
    machine = ("--vram", "2GiB", "--vram", "8GiB", "--ram", "64GiB", "--backend", "cuda")
    for judged in ask(quantpick, *machine, "--mmproj", "1536MiB")["verdicts"]:
        if judged["fits"] and judged["placement"] != "cpu":
            for use, size in zip(judged["memory"]["devices"], (2, 8), strict=True):
                assert use["total"] <= size * GIB


def test_a_projector_file_counts_by_its_size_and_is_in_the_command(quantpick: Command) -> None:
    with (quantpick.cwd / "mmproj-F16.gguf").open("wb") as stream:
        stream.truncate(100 * MIB)
    by_file = ask(quantpick, *ONE, "--mmproj", "mmproj-F16.gguf")
    by_size = ask(quantpick, *ONE, "--mmproj", "100MiB")
    assert by_file["pick"]["memory"] == by_size["pick"]["memory"]
    assert flags(by_file)["--mmproj"] == "mmproj-F16.gguf"


def test_a_projector_file_that_is_missing_is_called_missing(quantpick: Command) -> None:
    run = quantpick("recommend", MODEL, *ONE, "--mmproj", "mmproj-F16.gguf")
    assert run.status == 2
    assert "mmproj-F16.gguf" in run.stderr
    assert "file" in run.stderr


# What is refused


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("--cache-type-v q8_0 --flash-attn off", "needs flash attention", "--cache-type-v f16"),
        ("--cache-type-v iq4_nl -fa off", "needs flash attention", "--flash-attn off"),
        ("--flash-attn maybe", "'on', 'off'", "--help"),
        ("--cache-type-k q3_0", "--cache-type-k", "--help"),
        ("--parallel 0", "--parallel", "--help"),
        ("--parallel 257", "--parallel", "--help"),
        ("--ubatch-size 0", "--ubatch-size", "--help"),
        ("--ctx-size 0", "--ctx-size", "--help"),
        ("--mmproj 1G", "'1G'", "GiB"),
        ("--mmproj 0", "zero", "above zero"),
        ("--vram 24 --backend cpu", "no GPU", "leave one out"),
    ],
)
@pytest.mark.parametrize("command", ["recommend", "explain"])
def test_nonsense_is_refused_with_a_way_out(
    quantpick: Command, command: str, words: str, said: str, hint: str
) -> None:
    spec = MODEL if command == "recommend" else f"{MODEL}:Q4_K_M"
    run = quantpick(command, spec, *words.split())
    assert (run.status, run.stdout) == (2, "")
    lines = run.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ") and said in line], lines
    assert [line for line in lines if line.startswith("hint: ") and hint in line], lines
    error = quantpick(command, spec, *words.split(), "--json").json["error"]
    assert (error["code"], error["exit_status"]) == ("usage", 2)


@pytest.mark.parametrize("use_case", [api.recommend, api.explain, api.download])
def test_python_code_is_refused_the_same(use_case: Callable[..., object]) -> None:
    need = Need(type_v=CacheType.Q8_0, flash_attn=FlashAttention.OFF)
    with pytest.raises(UsageError, match="needs flash attention"):
        use_case(MODEL, need=need)


def test_a_quantized_key_cache_alone_needs_no_flash_attention(quantpick: Command) -> None:
    run = flags(ask(quantpick, *ONE, "--cache-type-k", "q8_0", "--flash-attn", "off"))
    assert (run["--cache-type-k"], run["--flash-attn"]) == ("q8_0", "off")
    assert "--cache-type-v" not in run


# Several GPUs, unified memory, the CPU's second copy


@pytest.mark.parametrize("vram", [("24", "24"), ("48", "24"), ("16", "16", "16")])
def test_each_device_holds_the_cache_of_its_layers(
    quantpick: Command, vram: tuple[str, ...]
) -> None:
    words = [word for size in vram for word in ("--vram", f"{size}GiB")]
    answer = ask(quantpick, *words, "--ram", "64GiB", "--backend", "cuda", model=LARGE)
    pick = answer["pick"]
    shares = pick["tensor_split"]
    assert (pick["placement"], len(shares), sum(shares)) == ("full_offload", len(vram), 81)
    # The last of the 81 is the output layer, which keeps no cache.
    layers = [*shares[:-1], shares[-1] - 1]
    cache = [use["kv_cache"] for use in pick["memory"]["devices"]]
    assert cache == [count * 8192 * 8 * (128 + 128) * 2 for count in layers]
    assert pick["memory"]["host"]["kv_cache"] == 0
    for share, size in zip(shares, vram, strict=True):
        assert share == pytest.approx(81 * int(size) / sum(map(int, vram)), abs=3)


def test_unified_memory_holds_everything_once(quantpick: Command) -> None:
    # Llama 3.2 3B has one table of 128256 x 3072 for both ends: Q6_K in a Q4_K_M file, 210 bytes
    # for 256 numbers. A GPU of its own memory holds a second copy, a unified one does not.
    spec = "llama-3.2-3b:Q4_K_M"
    unified = memory(quantpick, spec=spec, machine=("--ram", "32GiB", "--backend", "metal"))
    apart = memory(quantpick, spec=spec, machine=ONE)
    assert apart["weights"] - unified["weights"] == 128256 * 3072 * 210 // 256
    assert len(unified["devices"]) == 1


def test_unified_memory_is_spent_once(quantpick: Command) -> None:
    answer = ask(quantpick, "--ram", "12GiB", "--backend", "metal", "--for", "quality")
    fitting = [judged["memory"]["total"] for judged in answer["verdicts"] if judged["fits"]]
    assert fitting
    assert max(fitting) + GB <= 12 * GIB == answer["rule"]["capacity"]


def test_the_second_copy_of_the_cpu_counts_where_there_is_room(quantpick: Command) -> None:
    figures: dict[str, dict[str, Any]] = {}
    for ram in (8, 64):
        host = {"ram": {"total": ram * GIB}, "cpu": {"features": ["avx2"]}, "devices": []}
        (quantpick.cwd / "host.json").write_text(json.dumps(host))
        answer = ask(quantpick, "--host", "host.json", "--ctx-size", "256")
        judged = next(v for v in answer["verdicts"] if v["label"] == "Q4_K_M")
        assert judged["fits"]
        assert ("no_repack" in codes(judged)) == (ram == 8)
        assert ("--no-repack" in flags(answer)) == ("no_repack" in codes(answer["pick"]))
        figures[str(ram)] = judged["memory"]
    # AVX2 wants Q4_K in another order: of each layer four matrices of attention and two of three of
    # the feed-forward part, where half of the layers hold value and down in Q6_K instead.
    wide, narrow, rows = 14336 * 4096, 4096 * 4096, 1024 * 4096
    q4_k = 32 * (2 * narrow + rows + 2 * wide) + 16 * (rows + wide)
    assert figures["64"]["weights"] - figures["8"]["weights"] == q4_k * 144 // 256


@pytest.mark.parametrize(("ram", "kept"), [(8, False), (64, True)])
def test_no_repack_is_in_the_command_where_there_is_no_room(
    quantpick: Command, ram: int, *, kept: bool
) -> None:
    # An Arm CPU wants all types in another order that the fitting quants of this model hold.
    host = {"ram": {"total": ram * GIB}, "cpu": {"features": ["asimddp"]}, "devices": []}
    (quantpick.cwd / "host.json").write_text(json.dumps(host))
    words = ("--host", "host.json", "--family", "k")
    answer = ask(quantpick, *words)
    assert ("--no-repack" in flags(answer)) is not kept
    assert ("no_repack" in codes(answer["pick"])) is not kept
    text = quantpick("recommend", MODEL, *words).stdout
    assert ("--no-repack" in text) is not kept
