"""The largest context, what to change when one does not fit, and the limits of backends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.test_memory_flags import GIB, LARGE, MODEL, ONE, ask, codes, explained, flags, reason

if TYPE_CHECKING:
    from tests.support.command import Command

CTX_CASES = {
    "gpu": (MODEL, "Q6_K", "--vram 8GiB --ram 32GiB --backend cuda"),
    "gpu-q8": (MODEL, "Q6_K", "--vram 8GiB --backend cuda --cache-type-k q8_0 --cache-type-v q8_0"),
    "gpu-unfused": (MODEL, "Q4_K_M", "--vram 8GiB --backend rocm --flash-attn off"),
    "gpu-projector": (MODEL, "Q4_K_M", "--vram 8GiB --backend cuda --mmproj 800MiB"),
    "two": (LARGE, "Q4_K_M", "--vram 24GiB --vram 24GiB --ram 64GiB --backend cuda"),
    "metal": (MODEL, "Q8_0", "--ram 16GiB --backend metal"),
    "cpu": (MODEL, "Q4_K_M", "--ram 8GiB --backend cpu"),
    "window": ("gemma-3-27b", "Q4_K_M", "--vram 24GiB --ram 32GiB --backend cuda"),
}


@pytest.mark.parametrize("case", CTX_CASES)
def test_the_largest_context_fits_and_256_tokens_more_do_not(quantpick: Command, case: str) -> None:
    model, label, words = CTX_CASES[case]
    machine, spec = (*words.split(), "--for", "speed"), f"{model}:{label}"
    largest = explained(quantpick, "--max-ctx", spec=spec, machine=machine)["verdict"]["max_ctx"]
    assert largest is not None
    assert largest % 256 == 0
    at, above = (
        explained(quantpick, "--ctx-size", str(ctx), spec=spec, machine=machine)["verdict"]
        for ctx in (largest, largest + 256)
    )
    assert at["fits"]
    assert at["placement"] in {"full_offload", "cpu"}
    assert not above["fits"] or above["placement"] == "partial_offload"


def test_the_largest_context_is_at_most_what_the_model_was_trained_for(quantpick: Command) -> None:
    machine = ("--vram", "400GiB", "--backend", "cuda")
    answer = ask(quantpick, *machine, "--max-ctx")
    assert {v["max_ctx"] for v in answer["verdicts"] if v["fits"]} == {131072}


def test_the_largest_context_is_said_only_when_asked_for(quantpick: Command) -> None:
    assert {v["max_ctx"] for v in ask(quantpick, *ONE)["verdicts"]} == {None}
    text = quantpick("explain", f"{MODEL}:Q4_K_M", "--vram", "8", "--backend", "cuda", "--max-ctx")
    assert "largest context that fits whole: " in text.stdout
    table = quantpick("recommend", MODEL, *ONE, "--max-ctx").stdout
    assert "max ctx" in table
    assert "max ctx" not in quantpick("recommend", MODEL, *ONE).stdout


def test_a_quant_that_cannot_run_has_no_largest_context(quantpick: Command) -> None:
    answer = ask(quantpick, *ONE, "--max-ctx")
    dropped = [v for v in answer["verdicts"] if v["placement"] == "incompatible"]
    assert "Q4_0_4_4" in {v["label"] for v in dropped}
    assert {v["max_ctx"] for v in dropped} == {None}


def test_with_a_gpu_the_largest_context_is_one_on_the_gpu(quantpick: Command) -> None:
    machine = ("--vram", "1GiB", "--ram", "64GiB", "--backend", "cuda", "--for", "speed")
    verdict = explained(quantpick, "--max-ctx", machine=machine)["verdict"]
    assert not verdict["fits"]
    assert verdict["max_ctx"] is None


# What to change


def test_a_smaller_cache_is_the_first_change_and_does_what_it_says(quantpick: Command) -> None:
    machine = ("--vram", "44GiB", "--backend", "cuda", "--for", "speed", "--ctx-size", "16384")
    spec = f"{LARGE}:Q4_K_M"
    document = explained(quantpick, spec=spec, machine=machine)
    assert codes(document["verdict"])[0] == "context_too_large"
    cache = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
    changed = explained(quantpick, *cache, spec=spec, machine=machine)
    assert changed["verdict"]["fits"]
    needs = changed["verdict"]["memory"]["total"]
    assert document["change"] == {"code": "smaller_cache", "needs": needs}
    text = quantpick("explain", spec, *machine).stdout
    (line,) = (line for line in text.splitlines() if line.startswith("cheapest change: "))
    assert " ".join(cache) in line
    assert f"{needs / 10**9:.2f} GB" in line


def test_the_next_change_is_a_smaller_quant(quantpick: Command) -> None:
    cache = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0", "--ctx-size", "32768")
    machine = ("--vram", "44GiB", "--backend", "cuda", "--for", "speed", *cache)
    document = explained(quantpick, spec=f"{LARGE}:Q4_K_M", machine=machine)
    change = document["change"]
    assert change["code"] == "smaller_quant"
    smaller = explained(quantpick, spec=f"{LARGE}:{change['label']}", machine=machine)["verdict"]
    assert smaller["fits"]
    assert smaller["memory"]["total"] == change["needs"]
    assert smaller["file_bytes"] < document["verdict"]["file_bytes"]


def test_the_last_change_is_fewer_tokens(quantpick: Command) -> None:
    machine = ("--vram", "26GiB", "--backend", "cuda", "--for", "speed")
    spec = f"{LARGE}:IQ2_M"
    change = explained(quantpick, "-c", "131072", spec=spec, machine=machine)["change"]
    assert change["code"] == "fewer_tokens"
    for more, fits in ((0, True), (256, False)):
        ctx = str(change["ctx_size"] + more)
        verdict = explained(quantpick, "-c", ctx, spec=spec, machine=machine)["verdict"]
        assert verdict["fits"] is fits


def test_fewer_tokens_are_advised_only_where_they_help(quantpick: Command) -> None:
    # With RAM alone more would do, but speed was asked for, so the GPU has to hold it all.
    machine = ("--vram", "4GiB", "--ram", "512GiB", "--backend", "cuda", "--for", "speed")
    words = ("--flash-attn", "off", "--ubatch-size", "4096")
    spec = "llama-3.2-1b:IQ3_M"
    change = explained(quantpick, *words, "-c", "1000000", spec=spec, machine=machine)["change"]
    assert change["code"] == "fewer_tokens"
    ctx = str(change["ctx_size"])
    assert explained(quantpick, *words, "-c", ctx, spec=spec, machine=machine)["verdict"]["fits"]


@pytest.mark.parametrize("words", [ONE, ("--vram", "1GiB", "--ram", "1GiB", "--backend", "cuda")])
def test_there_is_no_change_for_what_fits_or_never_will(
    quantpick: Command, words: tuple[str, ...]
) -> None:
    assert explained(quantpick, machine=words)["change"] is None


def test_a_context_too_large_for_ram_and_gpu_together_gets_a_change_too(quantpick: Command) -> None:
    machine = ("--vram", "16GiB", "--ram", "20GiB", "--backend", "cuda", "--for", "quality")
    cache = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0", "-c", "131072")
    document = explained(quantpick, *cache, spec=f"{LARGE}:IQ2_M", machine=machine)
    assert codes(document["verdict"])[0] == "context_too_large"
    assert document["change"] is not None


def test_when_nothing_fits_the_change_is_a_hint(quantpick: Command) -> None:
    machine = ("--vram", "24GiB", "--backend", "cuda", "--for", "speed")
    run = quantpick("recommend", LARGE, *machine)
    assert run.status == 4
    nearest = explained(quantpick, spec=f"{LARGE}:IQ2_M", machine=machine)
    assert nearest["change"] is not None
    hints = [line for line in run.stderr.splitlines() if line.startswith("hint: ")]
    assert any("and fits" in hint or "it fits with" in hint for hint in hints), hints


def test_what_is_missing_in_ram_is_said_in_bytes(quantpick: Command) -> None:
    # The GPU of this machine could hold it; its RAM, which is the same memory, cannot.
    machine = ("--vram", "40GiB", "--ram", "8GiB", "--backend", "metal", "--for", "speed")
    verdict = explained(quantpick, spec=f"{MODEL}:Q8_0", machine=machine)["verdict"]
    assert not verdict["fits"]
    needs = verdict["memory"]["total"]
    assert verdict["reasons"][0]["short_by"] == pytest.approx(needs + 10**9 - 8 * GIB, rel=0.1)


def test_more_unified_memory_never_takes_a_quant_away(quantpick: Command) -> None:
    words = ("--backend", "metal", "--for", "quality", "-c", "2048", "-np", "1", "-ub", "2048")
    fitting = [
        {v["label"] for v in answer["verdicts"] if v["fits"]}
        for ram in ("2250MiB", "2350MiB", "2500MiB", "2750MiB", "3GiB", "4GiB")
        for answer in [ask(quantpick, "--ram", ram, *words, model="llama-3.2-1b")]
    ]
    assert fitting[0]
    assert all(before <= after for before, after in pairwise(fitting))


def test_what_does_not_fit_the_gpu_is_shown_as_it_would_be_there(quantpick: Command) -> None:
    machine = ("--vram", "44GiB", "--backend", "cuda", "--for", "speed", "--ctx-size", "16384")
    verdict = explained(quantpick, spec=f"{LARGE}:Q4_K_M", machine=machine)["verdict"]
    (device,) = verdict["memory"]["devices"]
    short_by = reason(verdict, "context_too_large")["short_by"]
    assert device["total"] - 44 * GIB == short_by


# Backends


@pytest.mark.parametrize(
    ("words", "slow"),
    [
        ("--backend cuda --cache-type-k q8_0", True),
        ("--backend cuda --cache-type-k q8_0 --cache-type-v q4_0", True),
        ("--backend rocm --cache-type-k q5_1 --cache-type-v q5_1", True),
        ("--backend cuda --cache-type-k q8_0 --cache-type-v q8_0", False),
        ("--backend cuda --cache-type-k q4_0 --cache-type-v q4_0", False),
        ("--backend metal --cache-type-k q5_1 --cache-type-v q5_1", False),
        ("--backend metal --cache-type-k iq4_nl --cache-type-v iq4_nl", True),
        ("--backend cuda --cache-type-k bf16 --cache-type-v bf16", False),
        ("--backend cuda --cache-type-k q8_0 --flash-attn off", False),
    ],
)
def test_cache_types_without_a_kernel_are_called_slow(
    quantpick: Command, words: str, *, slow: bool
) -> None:
    verdict = explained(quantpick, machine=("--vram", "24GiB", "--ram", "64GiB", *words.split()))[
        "verdict"
    ]
    assert verdict["fits"]
    assert ("cache_slow" in codes(verdict)) is slow


@pytest.mark.parametrize(("kind", "cell"), [("f16", 2048), ("f32", 4096)])
def test_on_vulkan_the_cache_of_a_layer_has_to_fit_one_buffer(
    quantpick: Command, kind: str, cell: int
) -> None:
    limit = 4 * GIB // cell
    words = ("--cache-type-k", kind, "--cache-type-v", kind)

    def judged(ctx: int, backend: str) -> dict[str, Any]:
        machine = ("--vram", "2000GiB", "--ram", "64GiB", "--backend", backend)
        found = explained(quantpick, *words, "-c", str(ctx), machine=machine)["verdict"]
        assert isinstance(found, dict)
        return found

    assert judged(limit, "vulkan")["fits"]
    over = judged(limit + 1, "vulkan")
    assert (over["fits"], over["placement"]) == (False, "incompatible")
    figures = reason(over, "cache_too_large")
    assert (figures["needs"], figures["limit"]) == ((limit + 256) * cell, 4 * GIB)
    assert judged(limit + 1, "cuda")["fits"]


def test_the_pick_of_a_slow_cache_carries_it_to_the_command(quantpick: Command) -> None:
    answer = ask(quantpick, *ONE, "--cache-type-v", "q4_0")
    assert "cache_slow" in codes(answer["pick"])
    run = flags(answer)
    assert (run.get("--cache-type-k"), run["--cache-type-v"]) == (None, "q4_0")
    assert run["--flash-attn"] == "on"


def test_what_no_change_makes_fit_is_said_to(quantpick: Command) -> None:
    small = ("--ram", "16GiB", "--backend", "cpu")
    run = quantpick("explain", f"{LARGE}:Q4_K_M", *small)
    assert "no change makes room: " in run.stdout
    assert "cheapest change" not in run.stdout
    fitting = quantpick("explain", "llama-3.2-1b:F16", "--ram", "2GiB", "--backend", "cpu")
    assert "cheapest change: " in fitting.stdout
    assert "no change makes room" not in fitting.stdout


# On a terminal


def on_terminal(quantpick: Command, *words: str) -> list[str]:
    """Return the lines that a terminal of 80 columns gets, without colours."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 80, 0, 0))
    command = [sys.executable, "-m", "quantpick", *words]
    env = quantpick.environment(TERM="dumb", NO_COLOR="1")
    blocks = []
    with subprocess.Popen(command, cwd=quantpick.cwd, env=env, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while block := os.read(ours, 4096):
                blocks.append(block)
    os.close(ours)
    assert run.returncode == 0
    return b"".join(blocks).decode().splitlines()


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    ],
)
def test_no_figure_is_cut_on_a_terminal(quantpick: Command, name: str) -> None:
    card = {"name": name, "backend": "cuda", "total": 96 * GIB}
    host = {"ram": {"total": 128 * GIB}, "devices": [card, card]}
    (quantpick.cwd / "host.json").write_text(json.dumps(host))
    machine = ("--host", "host.json", "--ctx-size", "131072")
    spec = f"{LARGE}:Q8_0"
    shown = on_terminal(quantpick, "explain", spec, *machine)
    assert max(map(len, shown)) <= 80
    found = explained(quantpick, spec=spec, machine=machine)["verdict"]["memory"]
    for place in (*found["devices"], found["host"], found):
        for term in ("weights", "kv_cache", "compute", "overhead", "total"):
            assert f"{place[term] / 10**9:.3f}" in " ".join(shown), (place, term)


@pytest.mark.parametrize("words", [(), (MODEL,), ("gemma-3-27b", "--max-ctx"), ("--max-ctx",)])
def test_tables_keep_to_80_columns(quantpick: Command, words: tuple[str, ...]) -> None:
    machine = ("--vram", "8GiB", "--vram", "12GiB", "--ram", "64GiB", "--backend", "vulkan")
    shown = on_terminal(quantpick, "recommend", *words, *machine)
    # Commands and warnings are left to the terminal to fold, so that they can be copied.
    prose = [line for line in shown if not line.startswith(("run:", "fetch:", "warning:"))]
    assert max(map(len, prose)) <= 80
    assert any(line.startswith("run:") for line in shown)


@pytest.mark.parametrize("words", [("llama-3.2-1b",), (LARGE,), ("--backends",)])
def test_no_word_of_a_list_is_cut_on_a_terminal(quantpick: Command, words: tuple[str, ...]) -> None:
    shown = on_terminal(quantpick, "list", *words)
    assert set(quantpick("list", *words).stdout.split()) == set(" ".join(shown).split())
