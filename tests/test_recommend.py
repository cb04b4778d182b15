"""Which quant of the 70B each machine gets, through the command line, rule by rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.command import Command

MODEL = "llama-3.1-70b"
GB = 10**9
GIB = 2**30

#: 80 layers x 8192 cells x 8 heads x (128 + 128) values of 2 bytes.
KV_CACHE_8192 = 80 * 8192 * 8 * 256 * 2


def ask(quantpick: Command, *words: str, status: int = 0) -> dict[str, Any]:
    result = quantpick("recommend", MODEL, *words, "--json")
    assert result.status == status, result.stderr
    return result.json


def verdict(answer: dict[str, Any], label: str) -> dict[str, Any]:
    return next(v for v in answer["verdicts"] if v["label"] == label)


def codes(judged: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in judged["reasons"]]


def reason(judged: dict[str, Any], code: str) -> dict[str, Any]:
    return next(r for r in judged["reasons"] if r["code"] == code)


def fitting(answer: dict[str, Any]) -> set[str]:
    return {v["label"] for v in answer["verdicts"] if v["fits"]}


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("--vram 48GiB --ram 64GiB --backend cuda", "speed Q5_K_S full_offload 81"),
        ("--vram 24GiB --vram 24GiB --ram 64GiB --backend cuda", "speed Q4_K_L full_offload 81"),
        ("--vram 80GiB --ram 64GiB --backend cuda", "speed Q8_0 full_offload 81"),
        ("--vram 24GiB --ram 64GiB --backend cuda", "quality Q8_0 partial_offload 25"),
        ("--vram 24GiB --ram 32GiB --backend cuda", "quality Q5_K_L partial_offload 37"),
        ("--vram 16GiB --ram 64GiB --backend rocm", "quality Q8_0 partial_offload 16"),
        ("--ram 64GiB --backend metal", "speed Q5_K_S full_offload 81"),
        ("--ram 64GiB --backend cpu", "quality Q6_K_L cpu 0"),
    ],
)
def test_machine_gets_its_quant(quantpick: Command, machine: str, expected: str) -> None:
    answer = ask(quantpick, *machine.split())
    pick = answer["pick"]
    got = (answer["rule"]["objective"], pick["label"], pick["placement"], pick["n_gpu_layers"])
    assert " ".join(map(str, got)) == expected
    assert f"--n-gpu-layers {pick['n_gpu_layers']}" in answer["commands"]["run"]


def test_context_turns_a_yes_of_the_margin_rule_into_a_no(quantpick: Command) -> None:
    machine = ("--vram", "24GiB", "--backend", "cuda", "--for", "speed")
    small = verdict(ask(quantpick, *machine, "--ctx-size", "2048"), "IQ2_M")
    large = verdict(ask(quantpick, *machine, status=4), "IQ2_M")
    margin = 24 * GIB - 24_120_000_000
    assert GB < margin < 2 * GB
    assert small["fits"]
    assert codes(small)[0] == "tight"
    assert not large["fits"]
    assert codes(large) == ["context_too_large"]
    assert reason(large, "context_too_large")["margin"] == margin
    assert large["memory"]["kv_cache"] == KV_CACHE_8192


def test_auto_says_which_rule_it_used_and_why(quantpick: Command) -> None:
    fits = ask(quantpick, "--vram", "48GiB", "--backend", "cuda")
    spills = ask(quantpick, "--vram", "24GiB", "--ram", "64GiB", "--backend", "cuda")
    alone = ask(quantpick, "--ram", "64GiB", "--backend", "cpu")
    assert (fits["rule"]["pool"], fits["rule"]["why"]) == ("vram", "a_quant_fits_the_gpu")
    assert spills["rule"]["pool"] == "vram_and_ram"
    assert spills["rule"]["why"] == "no_quant_fits_the_gpu"
    assert spills["rule"]["capacity"] == 88 * GIB
    assert (alone["rule"]["pool"], alone["rule"]["why"]) == ("ram", "no_gpu")


def test_quality_takes_gpu_and_ram_together(quantpick: Command) -> None:
    machine = ("--vram", "48GiB", "--ram", "64GiB", "--backend", "cuda")
    speed = ask(quantpick, *machine, "--for", "speed")["pick"]
    quality = ask(quantpick, *machine, "--for", "quality")["pick"]
    assert (speed["label"], quality["label"]) == ("Q5_K_S", "Q8_0")
    layers = reason(quality, "layers_on_gpu")
    assert layers["of"] == 81
    assert 0 < layers["layers"] == quality["n_gpu_layers"] < 81


def test_unified_memory_counts_once(quantpick: Command) -> None:
    answer = ask(quantpick, "--ram", "64GiB", "--backend", "metal", "--for", "quality")
    (device,) = answer["host"]["devices"]
    assert device["memory_kind"] == "unified"
    assert device["usable"] == 48 * GIB
    assert answer["rule"]["capacity"] == 64 * GIB
    assert "Q8_0" not in fitting(answer)


@pytest.mark.parametrize("backend", ["cuda", "rocm"])
def test_i_quants_come_first_below_four_bits_where_they_are_fast(
    quantpick: Command, backend: str
) -> None:
    answer = ask(quantpick, "--vram", "37GiB", "--backend", backend)
    assert {"Q3_K_M", "IQ3_M"} <= fitting(answer)
    assert answer["pick"]["label"] == "IQ3_M"
    assert "i_quant_preferred" in codes(answer["pick"])


def test_i_quants_do_not_come_first_at_four_bits(quantpick: Command) -> None:
    answer = ask(quantpick, "--vram", "41GiB", "--backend", "cuda")
    assert {"Q4_K_S", "IQ4_XS"} <= fitting(answer)
    assert answer["pick"]["label"] == "Q4_K_S"


def test_metal_takes_k_for_speed_and_i_for_quality_and_says_so(quantpick: Command) -> None:
    metal = ("--backend", "metal", "--for")
    speed = ask(quantpick, "--ram", "43GiB", *metal, "speed")["pick"]
    quality = ask(quantpick, "--ram", "40GiB", *metal, "quality")["pick"]
    assert (speed["label"], speed["family"]) == ("Q3_K_S", "K")
    assert reason(speed, "i_for_quality")["label"] == "IQ3_XS"
    assert (quality["label"], quality["family"]) == ("IQ4_XS", "I")
    assert "i_quant_slow" in codes(quality)


def test_cpu_quality_pick_names_the_faster_k_quant_of_its_size(quantpick: Command) -> None:
    pick = ask(quantpick, "--ram", "39GiB", "--backend", "cpu")["pick"]
    assert pick["label"] == "IQ4_XS"
    assert reason(pick, "i_quant_slow")["backend"] == "cpu"
    assert reason(pick, "k_for_speed")["label"] == "Q3_K_L"
    fast = ask(quantpick, "--ram", "39GiB", "--backend", "cpu", "--for", "speed")["pick"]
    assert fast["family"] == "K"


VULKAN = ("--vram", "24GiB", "--ram", "12GiB", "--backend", "vulkan")


def test_vulkan_of_2024_excludes_i_quants_with_the_build_they_need(quantpick: Command) -> None:
    answer = ask(quantpick, *VULKAN, "--llama-cpp", "b3472")
    assert answer["pick"]["family"] == "K"
    needs = {"IQ4_XS": 4648, "IQ3_M": 4588, "IQ3_XS": 4588, "IQ2_M": 4588}
    for label, since in needs.items():
        judged = verdict(answer, label)
        assert judged["placement"] == "incompatible"
        assert reason(judged, "backend_too_old") | {"since": since} == judged["reasons"][0]


def test_vulkan_of_today_runs_i_quants(quantpick: Command) -> None:
    answer = ask(quantpick, *VULKAN, "--llama-cpp", "b10587")
    assert answer["pick"]["label"] == "IQ3_M"
    assert not any(v["placement"] == "incompatible" for v in answer["verdicts"])


def test_vulkan_of_unknown_build_warns_and_prefers_k(quantpick: Command) -> None:
    answer = ask(quantpick, *VULKAN)
    assert answer["pick"]["label"] == "Q3_K_S"
    assert reason(verdict(answer, "IQ3_XS"), "build_unknown")["since"] == 4588
    assert "build_unknown" in [warning["code"] for warning in answer["warnings"]]


def test_unstated_backend_prefers_k(quantpick: Command) -> None:
    answer = ask(quantpick, "--vram", "37GiB")
    assert answer["host"]["devices"][0]["backend"] is None
    assert answer["pick"]["family"] == "K"


@pytest.mark.parametrize(("family", "allowed"), [("k", {"K"}), ("i", {"I"})])
def test_family_flag_overrides_the_rule(quantpick: Command, family: str, allowed: set[str]) -> None:
    answer = ask(quantpick, "--vram", "37GiB", "--backend", "cuda", "--family", family)
    assert {v["family"] for v in answer["verdicts"] if v["fits"]} == allowed
    other = next(v for v in answer["verdicts"] if v["family"] not in allowed)
    assert "family_excluded" in codes(other)


def test_family_any_ranks_by_quality_alone(quantpick: Command) -> None:
    answer = ask(quantpick, "--vram", "37GiB", "--backend", "cuda", "--family", "any")
    assert answer["pick"]["label"] == "Q3_K_M"


def test_quantized_cache_makes_room_and_is_part_of_the_command(quantpick: Command) -> None:
    machine = ("--vram", "48GiB", "--backend", "cuda")
    cache = ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")
    answer = ask(quantpick, *machine, *cache)
    assert answer["pick"]["label"] == "Q5_K_M"
    assert answer["pick"]["memory"]["kv_cache"] == KV_CACHE_8192 * 34 // 64
    run = answer["commands"]["run"]
    assert "--cache-type-k q8_0 --cache-type-v q8_0 --flash-attn on" in run


@pytest.mark.parametrize(
    ("words", "became"),
    [
        (("llama-3.1-8b:IQ2_M", "--family", "k"), "not asked for"),
        (("llama-3.1-8b:Q4_0_4_4",), "does not run here"),
        (("llama-3.1-8b:F32",), "does not fit"),
        (("llama-3.1-8b:F32", "--family", "k"), "does not fit"),
        (("llama-3.1-8b:Q4_K_S",), "fits"),
        (("llama-3.1-8b:Q8_0",), "the pick"),
    ],
)
def test_an_explanation_begins_with_what_became_of_the_quant(
    words: tuple[str, ...], became: str, quantpick: Command
) -> None:
    run = quantpick("explain", *words, "--vram", "12GiB", "--backend", "cuda")
    assert run.stdout.splitlines()[0].endswith(f": {became}")


def test_nothing_fits_names_the_nearest_choice(quantpick: Command) -> None:
    answer = ask(quantpick, "--ram", "8GiB", "--backend", "cpu", status=4)
    assert answer["pick"] is None
    assert answer["nearest"]["label"] == "IQ2_M"
    assert answer["error"]["code"] == "nothing_fits"
    text = quantpick("recommend", MODEL, "--ram", "8GiB", "--backend", "cpu")
    assert text.status == 4
    assert "nearest: IQ2_M" in text.stderr
    # Without what stays free the figures would not add up.
    assert "there are 8.59 GB, of which 1 GB stays free" in text.stderr
    assert "(8.59 GB = 8.0 GiB), of which 1 GB stays free" in text.stdout
    assert "hint: " in text.stderr


def test_without_a_repo_the_largest_model_that_fits_is_picked(quantpick: Command) -> None:
    result = quantpick("recommend", "--vram", "24GiB", "--backend", "cuda", "--json")
    answer = result.json
    repo_id = answer["model"]["repo_id"]
    assert answer["pick"] == answer["verdicts"][0]
    assert (answer["pick"]["repo_id"], answer["pick"]["placement"]) == (repo_id, "full_offload")
    assert answer["commands"]["download"].startswith(f"quantpick download {repo_id}:")
    # Around 32 billion weights are the most that 24 GiB hold in four bits or more.
    assert 30e9 < answer["model"]["shape"]["parameters"] < 40e9
    shown = [verdict["repo_id"] for verdict in answer["verdicts"]]
    assert len(set(shown)) == len(shown) <= 10
    assert all(verdict["fits"] for verdict in answer["verdicts"])


def test_every_machine_gets_a_model(quantpick: Command) -> None:
    result = quantpick("recommend", "--ram", "2GiB", "--backend", "cpu", "--json")
    assert result.status == 0
    assert result.json["pick"]["memory"]["total"] < 2 * 2**30
    assert result.json["pick"]["placement"] == "cpu"


def test_table_marks_the_pick_and_gives_losers_a_reason(quantpick: Command) -> None:
    lines = quantpick("recommend", MODEL, "--vram", "48GiB", "--backend", "cuda").stdout.split("\n")
    picked = [line for line in lines if line.startswith(">")]
    (loser,) = (line for line in lines if " Q8_0 " in line)
    assert len(picked) == 1
    assert "Q5_K_S" in picked[0]
    assert "too large" in loser
    assert any(line.startswith("run: ") for line in lines)


def test_explain_adds_up(quantpick: Command) -> None:
    machine = ("--vram", "24GiB", "--backend", "cuda", "--for", "speed")
    judged = quantpick("explain", "IQ2_M", *machine, "--json").json["verdict"]
    memory = judged["memory"]
    terms = ("weights", "kv_cache", "compute", "overhead")
    places = [*memory["devices"], memory["host"]]
    assert all(place["total"] == sum(place[term] for term in terms) for place in places)
    assert all(memory[term] == sum(place[term] for place in places) for term in (*terms, "total"))
    assert memory["kv_cache"] == KV_CACHE_8192
    text = quantpick("explain", "IQ2_M", *machine).stdout
    assert "does not fit" in text
    assert "the margin rule says yes, but with its context it is" in text
    row = next(line for line in text.splitlines() if line.startswith("total"))
    *shown, total = map(float, row.split()[1:])
    assert total == pytest.approx(sum(shown), abs=0.002)


def test_explain_finds_a_label_as_download_does(quantpick: Command) -> None:
    document = quantpick("explain", "qwen3-14b:q4_k_xl", "--vram", "24", "--json").json
    assert document["verdict"]["label"] == "UD-Q4_K_XL"


def test_explain_of_an_unknown_label_names_near_ones(quantpick: Command) -> None:
    result = quantpick("explain", "Q4_K_X")
    assert result.status == 3
    assert "Q4_K_M" in result.stderr


#: Q4_K_M of the 70B at 256 tokens: on the device all tensors but the token embedding (types by
#: llama.cpp's mixing rules), the cache, the rows of a batch as long as the context, and the
#: overhead of CUDA.
ON_DEVICE = 42_512_531_712 - 128_256 * 8192 * 144 // 256 + KV_CACHE_8192 // 32
SCRATCH = 256 * 256 * 2 + (3 * 28_672 + 4 * 8192) * 256 * 4
OVERHEAD = 550_000_000


@pytest.mark.parametrize(
    ("spare", "expected"),
    [
        (GB, ["comfortable"]),
        (GB - 1, ["tight"]),
        (0, ["tight", "margin_says_no"]),
        (-1, ["file_too_large"]),
    ],
)
def test_what_is_needed_decides_and_the_margin_rule_is_told(
    quantpick: Command, spare: int, expected: list[str]
) -> None:
    needed = ON_DEVICE + SCRATCH + OVERHEAD
    machine = ("--vram", f"{(needed + spare) / GB:.9f}GB", "--backend", "cuda", "--for", "speed")
    answer = ask(quantpick, *machine, "--ctx-size", "256", status=0)
    judged = verdict(answer, "Q4_K_M")
    assert judged["memory"]["devices"][0]["total"] == needed
    assert codes(judged) == expected
    assert judged["fits"] is (spare >= 0)


def test_originals_come_after_the_quants(quantpick: Command) -> None:
    machine = ("--vram", "80GiB", "--backend", "cuda", "--json")
    answer = quantpick("recommend", "qwen3-14b", *machine).json
    assert answer["pick"]["label"] == "Q8_0"
    assert verdict(answer, "BF16")["fits"]
    assert [v["label"] for v in answer["verdicts"] if v["fits"]][-1] == "BF16"


def test_a_quant_that_its_card_advises_against_says_so(quantpick: Command) -> None:
    answer = ask(quantpick, "--vram", "80GiB", "--backend", "cuda")
    advised = [v["label"] for v in answer["verdicts"] if "not_recommended" in codes(v)]
    assert advised == ["Q3_K_S"]


@pytest.mark.parametrize("spec", ["Q4_K_M", f"{MODEL}:Q4_K_M"])
def test_a_label_is_not_ignored_where_a_repo_is_asked_for(quantpick: Command, spec: str) -> None:
    result = quantpick("recommend", spec)
    assert result.status == 2
    assert f"quantpick explain {spec}" in result.stderr


def test_explain_auto_explains_the_pick(quantpick: Command) -> None:
    machine = ("--vram", "48GiB", "--backend", "cuda")
    document = quantpick("explain", f"{MODEL}:auto", *machine, "--json").json
    assert document["verdict"]["picked"]
    assert quantpick("explain", f"{MODEL}:auto", "--ram", "8", "--backend", "cpu").status == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ram", "64GiB"], ["IQ2_S is on the GPU whole", "--for quality takes Q5_K_S"]),
        (["--ram", "64GiB", "--for", "speed"], []),
        (["--ram", "4GiB"], []),
    ],
)
def test_a_pick_of_two_bits_names_what_ram_would_spare(
    quantpick: Command, words: list[str], told: list[str]
) -> None:
    machine = ["--vram", "24GiB", "--backend", "cuda", *words]
    run = quantpick("recommend", "llama-3.3-70b", *machine)
    assert run.stdout.splitlines()[2].split()[1] == "IQ2_S"
    assert all(words in run.stderr for words in told)
    assert bool(told) == ("--for quality" in run.stderr)


@pytest.mark.parametrize("number", ["24576", "8188 "])
def test_a_bare_number_that_can_only_be_mib_is_refused(quantpick: Command, number: str) -> None:
    run = quantpick("recommend", MODEL, "--vram", number)
    assert (run.status, run.stdout) == (2, "")
    assert f"write {number.strip()}MiB" in run.stderr
