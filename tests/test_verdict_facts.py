"""What a verdict tells beside memory: how fast, how good, and on what each figure rests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.command import Command

MACHINE = ("--gpu", "4090", "--ram", "64GiB")


def recommend(quantpick: Command, *words: str) -> dict[str, Any]:
    """Return what `quantpick recommend --json` answers."""
    run = quantpick("recommend", *words, "--json")
    assert run.status == 0, run.stderr
    return run.json


def explain(quantpick: Command, spec: str, *words: str) -> dict[str, Any]:
    """Return what `quantpick explain --json` answers."""
    run = quantpick("explain", spec, *words, "--json")
    assert run.status == 0, run.stderr
    return run.json


# Speed


def test_a_quant_on_a_known_card_has_a_range_of_speeds(quantpick: Command) -> None:
    verdicts = recommend(quantpick, "qwen3-14b", *MACHINE)["verdicts"]
    speeds = {v["label"]: v["speed"] for v in verdicts if v["fits"]}
    assert all(s["low"] <= s["tokens_per_second"] <= s["high"] for s in speeds.values() if s)
    # Fewer bytes a token are read in less time.
    order = [speeds[name]["tokens_per_second"] for name in ("Q8_0", "Q5_K_M", "Q4_K_M")]
    assert order == sorted(order)
    text = quantpick("recommend", "qwen3-14b", *MACHINE).stdout
    assert re.search(r"^> .* \d+-\d+ ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--vram", "24GiB", "--backend", "cuda", "--ram", "64GiB"], "bandwidth"),
        (["--backend", "cpu", "--ram", "64GiB"], "cpu"),
        (["--gpu", "3060-12", "--ram", "64GiB", "--for", "quality"], "partial_offload"),
    ],
)
def test_where_nothing_was_measured_there_is_no_number(
    words: list[str], why: str, quantpick: Command
) -> None:
    verdict = explain(quantpick, "qwen3-32b:Q5_K_M", *words)["verdict"]
    assert (verdict["speed"], verdict["speed_unknown"]) == (None, why)
    text = quantpick("explain", "qwen3-32b:Q5_K_M", *words).stdout
    assert re.search(r"^speed: unknown, ", text, re.MULTILINE)


def test_balanced_is_faster_than_quality_and_better_than_the_fastest(quantpick: Command) -> None:
    answers = {
        goal: recommend(quantpick, "qwen3-14b", *MACHINE, "--for", goal)
        for goal in ("speed", "balanced", "quality")
    }
    assert answers["balanced"]["rule"]["objective"] == "balanced"
    picks = {goal: answer["pick"] for goal, answer in answers.items()}
    assert picks["balanced"]["file_bytes"] < picks["quality"]["file_bytes"]
    fitting = [v for v in answers["balanced"]["verdicts"] if v["fits"] and v["speed"]]
    fastest = max(fitting, key=lambda v: v["speed"]["tokens_per_second"])
    assert picks["balanced"]["file_bytes"] > fastest["file_bytes"]
    assert answers["balanced"]["verdicts"][0] == picks["balanced"]


@pytest.mark.parametrize("backend", ["cpu", "vulkan"])
def test_balanced_keeps_to_four_bits_where_no_speed_is_known(
    backend: str, quantpick: Command
) -> None:
    """Far smaller quants of the same repo do not pull it down."""
    gpu = ("--vram", "24GiB") if backend == "vulkan" else ()
    words = ("--backend", backend, *gpu, "--ram", "32GiB", "--llama-cpp", "b10587")
    for model in ("gemma-3-12b", "qwen3-14b", "phi-4"):
        pick = recommend(quantpick, model, *words, "--for", "balanced")["pick"]
        assert pick["label"] in {"Q5_K_M", "Q5_K"}


def test_balanced_never_picks_what_another_quant_dominates(quantpick: Command) -> None:
    words = ("--gpu", "3060-12", "--ram", "32GiB", "--for", "balanced")
    verdicts = recommend(quantpick, "phi-4", *words)["verdicts"]
    speeds = {v["label"]: v["speed"]["tokens_per_second"] for v in verdicts if v["fits"]}
    assert speeds["Q5_0"] > speeds["Q5_K_S"]
    assert verdicts[0]["label"] == "Q5_K_S"
    assert not any(reason["code"] == "dominated" for reason in verdicts[0]["reasons"])


def test_balanced_falls_back_to_quality_where_no_quant_fits_the_gpu(quantpick: Command) -> None:
    words = ("--gpu", "3060-12", "--ram", "128GiB", "--for", "balanced")
    rule = recommend(quantpick, "llama-3.1-70b", *words)["rule"]
    assert (rule["objective"], rule["why"]) == ("quality", "no_quant_fits_the_gpu")


# Quality


def test_quality_is_told_with_its_model_and_source(quantpick: Command) -> None:
    for label, measured in (("Q4_K_M", True), ("UD-Q4_K_XL", False)):
        quality = explain(quantpick, f"qwen3-14b:{label}", *MACHINE)["quality"]
        assert 0.001 < quality["kld"] < 0.1
        assert (quality["measured"], quality["basis"] == "measured") == (measured, measured)
        assert quality["model"]
        assert quality["source"]
        text = quantpick("explain", f"qwen3-14b:{label}", *MACHINE).stdout
        (line,) = (line for line in text.splitlines() if line.startswith("quality: "))
        assert ("about" in line) != measured


def test_the_list_of_a_repo_has_the_loss_of_each_quant(quantpick: Command) -> None:
    files = {f["label"]: f for f in quantpick("list", "llama-3.1-8b", "--json").json["files"]}
    losses = [files[name]["quality"]["kld"] for name in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q2_K")]
    assert losses == sorted(losses)
    text = quantpick("list", "llama-3.1-8b").stdout
    assert "KLD: mean KL divergence" in text


def test_a_quant_of_too_few_bits_warns_in_plain_words(quantpick: Command) -> None:
    text = quantpick("explain", "qwen3-14b:UD-IQ1_S", *MACHINE).stdout
    assert "damage" in text


# The matrix


def test_the_matrix_of_types_and_backends_is_shown(quantpick: Command) -> None:
    lines = quantpick("list", "--backends").stdout.splitlines()
    assert re.split(r"\s{2,}", lines[0]) == [
        *("type", "CPU", "CUDA", "ROCm", "Vulkan", "Metal", "SYCL")
    ]
    rows = {line.split()[0]: re.split(r"\s{2,}", line) for line in lines[1:]}
    assert rows["IQ2_S"][4].startswith("b4588")
    assert "take Q4_0" in " ".join(rows["Q4_0_4_4:"])
    document = quantpick("list", "--backends", "--json").json
    assert {row["backend"] for row in document["support"]} > {"cpu", "cuda", "opencl"}
    assert all(row["source"] and row["date"] for row in document["support"])


# Compatibility


@pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-oss-20b-bartowski", "gpt-oss-20b-unsloth"])
def test_experts_in_mxfp4_need_a_build_that_runs_it_whatever_the_label(
    model: str, quantpick: Command
) -> None:
    words = ("--vram", "24GiB", "--ram", "32GiB", "--backend", "vulkan", "--llama-cpp")
    run = quantpick("recommend", model, *words, "b6095", "--json")
    assert run.status == 4
    for verdict in run.json["verdicts"]:
        codes = {reason["code"]: reason for reason in verdict["reasons"]}
        assert codes["backend_too_old"]["since"] == 6096
    assert recommend(quantpick, model, *words, "b6096")["pick"] is not None


def test_mungerts_own_labels_are_judged_like_what_they_are_made_of(quantpick: Command) -> None:
    words = ("--vram", "24GiB", "--ram", "32GiB", "--backend", "cuda")
    for model in ("qwen3-4b-thinking-2507", "qwen3-30b-a3b-thinking-2507"):
        verdict = explain(quantpick, f"{model}:Q6_K_M", *words)["verdict"]
        codes = {reason["code"] for reason in verdict["reasons"]}
        assert not codes & {"unknown_label", "dominated"}
    pick = recommend(quantpick, "qwen3-4b-thinking-2507", *words)["pick"]
    assert pick["label"] == "Q6_K_M"


def test_a_label_of_gpt_oss_tells_nothing_of_its_experts(quantpick: Command) -> None:
    machine = ("--gpu", "4090", "--ram", "64GiB", "--llama-cpp", "10587", "--json")
    repo = "unsloth/gpt-oss-20b-GGUF"
    assert quantpick("explain", f"{repo}:Q2_K", *machine).json["quality"] is None
    rows = quantpick("list", repo, "--json").json["files"]
    assert {row["quality"] for row in rows} == {None}
    verdicts = quantpick("recommend", repo, *machine).json["verdicts"]
    small, large = (
        next(v["speed"]["tokens_per_second"] for v in verdicts if v["label"] == label)
        for label in ("Q2_K", "Q8_0")
    )
    assert small > large


def test_what_was_published_of_a_label_is_shown_with_its_model_mixer_and_source(
    quantpick: Command,
) -> None:
    spec = ("explain", "qwen3-4b-thinking-2507:IQ2_XXS", "--gpu", "3060")
    rows = quantpick(*spec, "--json").json["published"]
    gate = {row["mix"]: row for row in rows if row["quantizer"] == "Mungert"}
    assert (gate[None]["ppl"], gate["DynamicGate"]["ppl"]) == (11.3, 9.84)
    assert {row["label"] for row in rows} == {"IQ2_XXS"}
    assert {"Mistral-7B", "Meta-Llama-3-8B"} <= {row["model"] for row in rows}
    lines = quantpick(*spec).stdout.splitlines()
    (shown,) = (line for line in lines if "Mungert, DynamicGate, model card of" in line)
    assert shown.split()[:4] == ["Llama-3-8B-Instruct", "-", "-", "9.84"]
    assert any("Artefact2" in line and "76.9 %" in line for line in lines)
