"""Models on disk: files, folders and split sets, each judged by its own header.

The models are hollow: true headers before a hole of the true length, see tests/engine/hollow.py.
The expected figures come from the models' published shapes.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.hollow import Blueprint, hollow_header, write_hollow
from tests.engine.models import MODELS
from tests.engine.parts import Shape, attention, ends, gated, keys, norms, tensors
from tests.support.gguf_files import split_gguf, tiny_gguf
from tests.support.gguf_headers import STR, U32, Pair, pack_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command import Command, Result

GB, GIB = 10**9, 2**30
ONE = ("--vram", "24GiB", "--ram", "64GiB", "--backend", "cuda")
SMALL = ("--vram", "8GiB", "--ram", "32GiB", "--backend", "cuda")

#: Bytes of 256 numbers in the types that Q4_K_M mixes.
Q4_K, Q6_K = 144, 210

#: A llama whose real files take a few megabytes.
LITTLE = Shape(4, 8, 2, 32, 256, 512, 1024, 4096)


@cache
def little() -> Blueprint:
    layer = attention(LITTLE) | gated(LITTLE) | norms(LITTLE, "attn_norm", "ffn_norm")
    own = {"attention.layer_norm_rms_epsilon": 1e-5}
    layers = [layer] * LITTLE.block_count
    slots = tensors(ends(LITTLE, tied=False), layers)
    return Blueprint("little", keys("llama", LITTLE, own), slots, LITTLE.vocab_size)


def hollow(folder: Path, name: str, *labels: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [write_hollow(MODELS[name](), label, folder) for label in labels]


def explain(quantpick: Command, spec: str, *words: str) -> dict[str, Any]:
    result = quantpick("explain", spec, *words, "--json")
    assert result.status == 0, result.stderr
    found = result.json["verdict"]
    assert isinstance(found, dict)
    return found


def recommend(quantpick: Command, spec: str, *words: str, status: int = 0) -> dict[str, Any]:
    result = quantpick("recommend", spec, *words, "--json")
    assert result.status == status, result.stderr
    return result.json


def refused(result: Result, status: int, said: str, hint: str) -> None:
    assert (result.status, result.stdout) == (status, "")
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ") and said in line], lines
    assert [line for line in lines if line.startswith("hint: ") and hint in line], lines


# Files and folders


def test_a_file_is_weighed_by_its_own_header(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "llama-3.1-8b", "Q4_K_M")
    answer = recommend(quantpick, f"./{path.name}", *ONE)
    pick = answer["pick"]
    assert (pick["label"], pick["file_bytes"]) == ("Q4_K_M", path.stat().st_size)
    header = hollow_header(MODELS["llama-3.1-8b"](), "Q4_K_M")
    assert pick["memory"]["weights"] == header.file_bytes - header.header_bytes
    assert pick["memory"]["exact"]
    assert pick["memory"]["kv_cache"] == 32 * 8192 * 8 * (128 + 128) * 2
    # The token table stays in RAM: 128256 rows of 4096 numbers.
    assert pick["memory"]["host"]["weights"] == 128256 * 4096 * Q4_K // 256
    assert answer["commands"]["download"] is None
    words = shlex.split(answer["commands"]["run"])
    assert words[:3] == ["llama-server", "-m", path.name]
    assert words[words.index("--n-gpu-layers") + 1] == "33"


@pytest.mark.parametrize("spec", ["{path}", "./work/{name}", "work/{name}"])
def test_a_path_may_be_written_in_several_ways(quantpick: Command, spec: str) -> None:
    (path,) = hollow(quantpick.cwd, "llama-3.2-1b", "Q8_0")
    above = replace(quantpick, cwd=quantpick.cwd.parent)
    answer = recommend(above, spec.format(path=path, name=path.name), *ONE)
    file = shlex.split(answer["commands"]["run"])[2]
    assert (above.cwd / file).resolve() == path.resolve()


def test_a_folder_offers_all_its_quants(quantpick: Command) -> None:
    hollow(quantpick.cwd / "eight", "llama-3.1-8b", "Q8_0", "Q4_K_M", "IQ4_XS", "Q2_K")
    answer = recommend(quantpick, "./eight", *SMALL)
    assert {v["label"] for v in answer["verdicts"]} == {"Q8_0", "Q4_K_M", "IQ4_XS", "Q2_K"}
    assert not next(v for v in answer["verdicts"] if v["label"] == "Q8_0")["fits"]
    assert answer["pick"]["label"] == "Q4_K_M"
    assert shlex.split(answer["commands"]["run"])[2] == "eight/llama-3.1-8b-Q4_K_M.gguf"
    text = quantpick("recommend", "./eight", *SMALL).stdout
    assert "run: " in text
    assert "fetch: " not in text


def test_a_label_after_a_folder_names_one_quant(quantpick: Command) -> None:
    hollow(quantpick.cwd / "eight", "llama-3.1-8b", "Q8_0", "Q4_K_M")
    judged = explain(quantpick, "./eight:Q8_0", *ONE)
    assert (judged["label"], judged["fits"], judged["picked"]) == ("Q8_0", True, True)
    assert explain(quantpick, "./eight:q4_k_m", *ONE)["label"] == "Q4_K_M"
    assert explain(quantpick, "./eight:auto", *SMALL)["label"] == "Q4_K_M"
    refused(quantpick("explain", "./eight", *ONE), 2, "holds 2 quants", "./eight:LABEL")
    refused(quantpick("explain", "./eight:Q5_K_M", *ONE), 3, "no quant Q5_K_M", "Q4_K_M")
    refused(quantpick("recommend", "./eight:Q8_0"), 2, "names one quant", "explain ./eight:Q8_0")
    refused(quantpick("download", "./eight:Q8_0"), 2, "is a path", "OWNER/REPO")


def test_a_single_file_needs_no_label(quantpick: Command) -> None:
    hollow(quantpick.cwd, "llama-3.2-1b", "Q8_0")
    assert explain(quantpick, "llama-3.2-1b-Q8_0.gguf", *ONE)["label"] == "Q8_0"


@pytest.mark.parametrize("name", ["", "-00001-of-00003", "-00003-of-00003"])
def test_a_split_set_is_one_quant_wherever_it_is_named(quantpick: Command, name: str) -> None:
    whole = write_hollow(little(), "Q4_K_M", quantpick.cwd.parent)
    shards = split_gguf(whole, quantpick.cwd, 3)
    spec = f"./{shards[0].name.partition('-00001')[0]}{name}.gguf" if name else "."
    answer = recommend(quantpick, spec, *ONE)
    (judged,) = answer["verdicts"]
    assert (judged["label"], judged["split"]) == ("Q4_K_M", True)
    assert judged["file_bytes"] == sum(path.stat().st_size for path in shards)
    expected = explain(quantpick, str(whole), *ONE)["memory"]
    assert judged["memory"] == expected
    assert shlex.split(answer["commands"]["run"])[2] == shards[0].name


def test_an_incomplete_split_set_is_refused(quantpick: Command) -> None:
    whole = write_hollow(little(), "Q4_K_M", quantpick.cwd.parent)
    shards = split_gguf(whole, quantpick.cwd, 3)
    shards[1].unlink()
    result = quantpick("recommend", f"./{shards[0].name}", *ONE)
    assert result.status in {2, 7}
    assert shards[1].name in result.stderr
    assert "hint: " in result.stderr


def test_a_folder_of_two_models_is_refused(quantpick: Command) -> None:
    hollow(quantpick.cwd, "llama-3.2-1b", "Q4_K_M")
    hollow(quantpick.cwd, "qwen3-8b", "Q4_K_M")
    for words in (["recommend", "."], ["explain", f"{quantpick.cwd}:Q8_0"]):
        refused(quantpick(*words, *ONE), 2, "several models", "one of its files")


@pytest.mark.parametrize("spec", ["{cwd}:Q8_0", ".:Q8_0", "./:Q8_0", "../work/:Q8_0"])
def test_a_label_may_follow_any_folder(quantpick: Command, spec: str) -> None:
    hollow(quantpick.cwd, "llama-3.2-1b", "Q4_K_M", "Q8_0")
    assert explain(quantpick, spec.format(cwd=quantpick.cwd), *ONE)["label"] == "Q8_0"


def test_what_is_no_model_in_a_folder_is_left_out(quantpick: Command) -> None:
    hollow(quantpick.cwd, "llama-3.2-1b", "Q4_K_M")
    projector = pack_file((Pair("general.architecture", STR, "clip"),))
    (quantpick.cwd / "mmproj-F16.gguf").write_bytes(projector)
    (quantpick.cwd / "imatrix.gguf").write_bytes(b"GGUF")
    (quantpick.cwd / "notes.txt").write_text("no model")
    assert [v["label"] for v in recommend(quantpick, ".", *ONE)["verdicts"]] == ["Q4_K_M"]
    counted = explain(quantpick, ".", *ONE, "--mmproj", "mmproj-F16.gguf")["memory"]
    plain = explain(quantpick, ".", *ONE)["memory"]
    assert counted["weights"] - plain["weights"] == len(projector)


def test_a_projector_is_no_model_to_run(quantpick: Command) -> None:
    pairs = (Pair("general.architecture", STR, "clip"), Pair("clip.vision.block_count", U32, 2))
    (quantpick.cwd / "mmproj-F16.gguf").write_bytes(pack_file(pairs))
    result = quantpick("recommend", "./mmproj-F16.gguf", *ONE)
    refused(result, 7, "", "not a language model")


def test_a_name_without_a_label_is_no_obstacle(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "llama-3.2-1b", "Q4_K_M")
    path.rename(quantpick.cwd / "model.gguf")
    judged = explain(quantpick, "./model.gguf", *ONE)
    assert judged["memory"]["exact"]
    assert judged["fits"]


# What cannot be read


@pytest.mark.parametrize(
    ("spec", "status", "said", "hint"),
    [
        ("./missing.gguf", 2, "cannot read missing.gguf", "path"),
        ("missing.gguf", 2, "cannot read missing.gguf", "path"),
        ("./missing", 2, "cannot read missing", "path"),
        ("./missing:Q4_K_M", 2, "cannot read missing", "path"),
        ("./empty", 3, "no GGUF model", "folder"),
        ("./text.gguf", 7, "no GGUF file", ""),
        ("./cut.gguf", 7, "cut short", "download"),
        ("./holes/cut-Q8_0.gguf", 7, "its tensors end", "download"),
        ("./holes", 7, "cut-Q8_0.gguf", "download"),
        ("./bare.gguf", 7, "", "not a language model"),
    ],
)
@pytest.mark.parametrize("command", ["recommend", "explain"])
def test_what_is_no_model_is_one_error(  # noqa: PLR0913, PLR0917 -- a row a case
    quantpick: Command, command: str, spec: str, status: int, said: str, hint: str
) -> None:
    cwd = quantpick.cwd
    (cwd / "empty").mkdir()
    (cwd / "text.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (cwd / "cut.gguf").write_bytes(tiny_gguf()[:200])
    (cwd / "bare.gguf").write_bytes(pack_file((Pair("general.architecture", STR, "llama"),)))
    (cwd / "holes").mkdir()
    path = write_hollow(little(), "Q8_0", cwd / "holes")
    size = path.stat().st_size
    with path.rename(cwd / "holes" / "cut-Q8_0.gguf").open("r+b") as stream:
        stream.truncate(size // 2)
    word = spec.partition(":")[0] if command == "recommend" else spec
    refused(quantpick(command, word, *ONE), status, said, hint)
    error = quantpick(command, word, *ONE, "--json").json["error"]
    assert error["exit_status"] == status


# What the header says


def test_experts_go_to_ram_first(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "qwen3-30b-a3b", "Q4_K_M")
    answer = recommend(
        quantpick, path.name, "--vram", "12GiB", "--ram", "32GiB", "--backend", "cuda"
    )
    pick = answer["pick"]
    moved = pick["n_cpu_moe"]
    assert 0 < moved < 48
    assert pick["n_gpu_layers"] == 49
    words = shlex.split(answer["commands"]["run"])
    assert words[words.index("--n-cpu-moe") + 1] == str(moved)
    assert words[words.index("--n-gpu-layers") + 1] == "49"
    # 128 experts of three matrices of 2048 x 768. Down is Q6_K in the first and last eighth of the
    # layers and in every third between, else Q4_K as the others; the token table stays in RAM too.
    better = [i < 6 or i >= 42 or (i - 6) % 3 == 2 for i in range(48)]
    matrix = 128 * 2048 * 768 // 256
    experts = sum(matrix * (2 * Q4_K + (Q6_K if better[i] else Q4_K)) for i in range(moved))
    table = 151936 * 2048 // 256 * Q4_K
    assert pick["memory"]["host"]["weights"] == experts + table
    (device,) = pick["memory"]["devices"]
    assert device["kv_cache"] == 48 * 8192 * 4 * (128 + 128) * 2
    # One layer's experts more would not fit.
    assert device["total"] + matrix * 3 * Q4_K > 12 * GIB - GIB


def test_experts_in_ram_leave_no_device_overfull(quantpick: Command) -> None:
    # Nothing but the display fits the first card; what is copied from RAM then goes to the second.
    (path,) = hollow(quantpick.cwd, "gpt-oss-120b", "Q4_K_M")
    cards = ("--vram", "2GiB", "--vram", "24GiB", "--ram", "128GiB", "--backend", "cuda")
    judged = explain(quantpick, path.name, *cards)
    assert judged["fits"]
    for use, size in zip(judged["memory"]["devices"], (2, 24), strict=True):
        assert use["total"] <= size * GIB


def test_all_experts_in_ram_come_before_layers_in_ram(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "qwen3-30b-a3b", "Q4_K_M")
    judged = explain(
        quantpick, path.name, "--vram", "2500MiB", "--ram", "64GiB", "--backend", "cuda"
    )
    assert (judged["fits"], judged["n_cpu_moe"]) == (True, 48)
    assert 0 < judged["n_gpu_layers"] < 49


def test_a_dense_model_has_no_experts_to_move(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "llama-3.1-8b", "Q4_K_M")
    answer = recommend(
        quantpick, path.name, "--vram", "4GiB", "--ram", "64GiB", "--backend", "cuda"
    )
    assert answer["pick"]["n_cpu_moe"] == 0
    assert "--n-cpu-moe" not in answer["commands"]["run"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Latent attention: 61 layers keep one row of 512 + 64 numbers a token.
        ("deepseek-v3", 61 * 8192 * (512 + 64) * 2),
        # Every sixth of 62 layers without a window of 1024, for four slots and a micro-batch.
        ("gemma-3-27b", (10 * 8192 + 52 * (4 * 1024 + 512)) * 16 * (128 + 128) * 2),
        # 24 layers in turns of a window of 128 and none, 8 heads of 64.
        ("gpt-oss-20b", (12 * 8192 + 12 * (4 * 128 + 512)) * 8 * (64 + 64) * 2),
        # No keys, a state for each of four slots: 64 layers of 5120 x 128 numbers for the scan and
        # 3 x (5120 + 2 x 128) for the convolution, in f32.
        ("mamba2-2.7b", 64 * (5120 * 128 + 3 * (5120 + 2 * 128)) * 4 * 4),
    ],
)
def test_the_cache_follows_from_the_header_alone(
    quantpick: Command, name: str, expected: int
) -> None:
    (path,) = hollow(quantpick.cwd, name, "Q4_K_M")
    machine = ("--vram", "600GiB", "--ram", "64GiB", "--backend", "cuda")
    judged = explain(quantpick, path.name, *machine)
    assert judged["memory"]["kv_cache"] == expected
    assert judged["memory"]["exact"]


def test_a_latent_cache_has_one_type(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "deepseek-v2-lite", "Q4_K_M")
    both = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
    refusal = explain(quantpick, path.name, *ONE, *both[:2])
    assert (refusal["fits"], refusal["reasons"][0]["code"]) == (False, "cache_refused")
    assert explain(quantpick, path.name, *ONE, *both)["fits"]


def test_a_context_that_the_header_does_not_state_is_no_limit(quantpick: Command) -> None:
    metadata = {k: v for k, v in little().metadata.items() if not k.endswith("context_length")}
    write_hollow(little()._replace(metadata=metadata), "Q4_K_M", quantpick.cwd)
    result = quantpick("recommend", ".", *ONE)
    assert result.status == 0
    assert "trained for 0" not in result.stderr


def test_an_unknown_architecture_is_a_bound(quantpick: Command) -> None:
    known = little()
    metadata = {k.replace("llama.", "newish."): v for k, v in known.metadata.items()}
    metadata["general.architecture"] = "newish"
    write_hollow(known._replace(metadata=metadata), "Q4_K_M", quantpick.cwd)
    judged = explain(quantpick, ".", *ONE)
    assert (judged["fits"], judged["memory"]["exact"]) == (True, False)
    assert "memory_is_a_bound" in [reason["code"] for reason in judged["reasons"]]


def test_vulkan_says_what_does_not_fit_its_buffers(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "llama-4-maverick", "Q4_K_M")
    machine = ("--vram", "512GiB", "--ram", "512GiB", "--backend", "vulkan")
    judged = explain(quantpick, path.name, *machine)
    spilled = next(r for r in judged["reasons"] if r["code"] == "tensor_spills")
    # The widest stack of experts: 128 of 5120 x 8192 in Q6_K.
    assert spilled["tensor_bytes"] == 128 * 5120 * 8192 // 256 * Q6_K > spilled["limit"]


def test_on_vulkan_the_largest_context_fits_its_buffers(quantpick: Command) -> None:
    (path,) = hollow(quantpick.cwd, "llama-4-scout", "Q4_K_M")
    machine = ("--vram", "2000GiB", "--ram", "512GiB", "--backend", "vulkan")
    largest = explain(quantpick, path.name, *machine, "--max-ctx")["max_ctx"]
    # A layer's keys take 8 heads x 128 numbers x 2 bytes a token, a buffer 4 GiB.
    assert largest == 4 * GIB // (8 * 128 * 2)
