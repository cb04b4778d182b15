"""Quants that another one beats in size and quality alike, and the warning of too few bits."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.dominance import warning_of
from quantpick.domain.host import Backend, Cpu, Device, Engine, Host, MemoryKind, Ram
from quantpick.domain.need import FamilyChoice, Need, Objective
from quantpick.domain.quant import Family
from quantpick.domain.recommend import recommend
from quantpick.domain.verdict import ReasonCode
from quantpick.sources.catalog import load_model, load_reference, repo_ids
from quantpick.sources.quality import load_quality
from tests.test_laws import hosts, models, needs

if TYPE_CHECKING:
    from quantpick.domain.model import Model
    from quantpick.domain.verdict import Recommendation, Verdict
    from tests.support.command import Command

REFERENCE = load_reference()
GIB = 2**30
LLAMA_70B = "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF"
QWEN_14B = "unsloth/Qwen3-14B-GGUF"
COMPARABLE = {Family.K, Family.I, Family.LEGACY}


def rank_of(verdict: Verdict) -> int:
    info = REFERENCE.quants.get(verdict.file.label) or REFERENCE.info(verdict.file.label)
    assert info is not None
    return info.rank


def bits_of(verdict: Verdict) -> int:
    info = REFERENCE.info(verdict.file.label)
    assert info is not None
    return info.bits


def held_back(verdict: Verdict, answer: Recommendation) -> bool:
    """Whether the K-or-I rule may put a quant behind another that loses more."""
    is_i, backend = verdict.file.family is Family.I, answer.host.backend
    if answer.need.family is not FamilyChoice.AUTO:
        return False
    if backend in {Backend.CUDA, Backend.ROCM}:
        return not is_i and bits_of(verdict) < 4
    if backend in {Backend.CPU, Backend.METAL}:
        return is_i and answer.rule.objective is Objective.SPEED
    doubt = any(reason.code is ReasonCode.BUILD_UNKNOWN for reason in verdict.reasons)
    return is_i and (backend is None or doubt)


def check_order(answer: Recommendation) -> None:
    """Better comes first, but for the K-or-I rule; a better one that is no larger is named."""
    known = [v for v in answer.verdicts if v.fits and REFERENCE.info(v.file.label)]
    compared = [v for v in known if v.file.family in COMPARABLE]
    for verdict in answer.verdicts:
        dominated = any(reason.code is ReasonCode.DOMINATED for reason in verdict.reasons)
        assert not dominated or verdict in compared
    for place, verdict in enumerate(compared):
        better = {
            rival.file.label: rank_of(rival)
            for rival in compared[:place]
            if rival.file.file_bytes <= verdict.file.file_bytes
            and rank_of(rival) < rank_of(verdict)
        }
        named = {r.figures["label"] for r in verdict.reasons if r.code is ReasonCode.DOMINATED}
        assert len(named) == bool(better)
        # Of several the one that loses least.
        assert all(better[str(label)] == min(better.values()) for label in named)
        for rival in compared[place + 1 :]:
            if rank_of(rival) < rank_of(verdict):
                assert held_back(rival, answer)


def check_k_or_i(answer: Recommendation) -> None:
    """At equal bits, and for speed on CPU and Metal at any, the preferred family comes first.

    On CUDA and ROCm it does not come before what loses less than two thirds as much.
    """
    everywhere = answer.host.backend in {Backend.CPU, Backend.METAL}
    wanted = Family.I if answer.host.backend in {Backend.CUDA, Backend.ROCM} else Family.K
    seen: list[Verdict] = []
    for verdict in answer.verdicts:
        if verdict.fits and held_back(verdict, answer):
            seen.append(verdict)
        elif verdict.fits and verdict.file.family is wanted:
            for other in seen:
                assert not everywhere
                assert bits_of(other) != bits_of(verdict) or loses_far_less(other, verdict)


def loses_far_less(verdict: Verdict, other: Verdict) -> bool:
    losses = [REFERENCE.info(v.file.label) for v in (verdict, other)]
    own, its = (info.kld if info else None for info in losses)
    return own is not None and its is not None and 1.5 * own < its


def answer_of(model: Model, host: Host, need: Need) -> Recommendation:
    """Return the answer in the order of quality: balance puts another one first."""
    balanced = need.objective is Objective.BALANCED
    return recommend(
        model, host, need._replace(objective=Objective.AUTO) if balanced else need, REFERENCE
    )


@given(models(), hosts(), needs)
def test_dominated_quants_are_marked_and_never_picked(model: Model, host: Host, need: Need) -> None:
    answer = answer_of(model, host, need)
    check_order(answer)
    check_k_or_i(answer)
    if answer.pick is not None:
        assert not any(reason.code is ReasonCode.DOMINATED for reason in answer.pick.reasons)


catalogued = st.sampled_from(repo_ids()).map(cache(load_model))
backends = st.none() | st.sampled_from(Backend)
budgets = st.integers(2 * GIB, 160 * GIB)
asked = st.builds(
    Need,
    objective=st.sampled_from([Objective.SPEED, Objective.QUALITY]),
    ctx_size=st.sampled_from([2048, 8192, 32768]),
    family=st.sampled_from(FamilyChoice),
)


def machine(backend: Backend | None, budget: int, build: int | None) -> Host:
    """Return a machine whose budget is its VRAM, or its RAM where the CPU is all it has."""
    engine = Engine(build, "test") if build else None
    if backend is Backend.CPU:
        return Host(Ram(budget, None, "test"), Cpu(None, None), (), engine)
    kind = MemoryKind.UNIFIED if backend is Backend.METAL else MemoryKind.DEDICATED
    card = Device("GPU", backend, kind, budget, budget, None, "test")
    ram = budget if backend is Backend.METAL else 16 * GIB
    return Host(Ram(ram, None, "test"), Cpu(None, None), (card,), engine)


def with_more(host: Host, more: int) -> Host:
    """Return a machine with more of what its budget is."""
    build = host.engine.build if host.engine else None
    budget = host.devices[0].usable if host.devices else host.ram.total
    return machine(host.backend, budget + more, build)


@given(
    model=catalogued,
    need=asked,
    host=st.builds(machine, backends, budgets, st.none() | st.just(10587)),
    more=st.integers(0, 40 * GIB),
)
def test_a_bigger_budget_never_yields_a_worse_pick(
    model: Model, need: Need, host: Host, more: int
) -> None:
    """For one rule, speed or quality: AUTO trades quality for speed once a quant fits the GPU.

    But for the K-or-I rule: where it holds a quant back that fits, one that loses more can come
    before it.
    """
    small = recommend(model, host, need, REFERENCE)
    large = recommend(model, with_more(host, more), need, REFERENCE)
    check_order(large)
    check_k_or_i(large)
    if small.pick is not None:
        assert large.pick is not None
        if rank_of(large.pick) > rank_of(small.pick):
            assert held_back(small.pick, small)


@pytest.mark.parametrize("build", [None, 10587])
@pytest.mark.parametrize("backend", [None, *Backend])
@pytest.mark.parametrize("family", FamilyChoice)
@pytest.mark.parametrize("objective", [Objective.SPEED, Objective.QUALITY])
@pytest.mark.parametrize("repo_id", [LLAMA_70B, QWEN_14B])
def test_the_order_on_every_backend(
    repo_id: str,
    objective: Objective,
    family: FamilyChoice,
    backend: Backend | None,
    build: int | None,
) -> None:
    model, host = load_model(repo_id), machine(backend, 200 * GIB, build)
    need = Need(objective=objective, family=family)
    answer = recommend(model, host, need, REFERENCE)
    check_order(answer)
    check_k_or_i(answer)
    turned = recommend(model._replace(files=model.files[::-1]), host, need, REFERENCE)
    assert turned.verdicts == answer.verdicts


def test_i_quants_come_before_k_quants_of_equal_bits_and_behind_those_of_more(
    quantpick: Command,
) -> None:
    machine = ("--vram", "48GiB", "--backend", "cuda")
    verdicts = quantpick("recommend", "llama-3.1-70b", *machine, "--json").json["verdicts"]
    four_bits = "Q5_K_S Q4_K_L Q4_K_M Q4_K_S IQ4_XS"
    # IQ3_XS loses nearly twice as much as the K-quants between.
    three_bits = "IQ3_M Q3_K_XL Q3_K_L Q3_K_M IQ3_XS Q3_K_S"
    expected = f"{four_bits} {three_bits} IQ2_M Q2_K_L Q2_K"
    assert " ".join(v["label"] for v in verdicts if v["fits"]) == expected


def test_a_local_file_of_an_unknown_label_takes_its_place_by_its_bits() -> None:
    model = load_model("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF")
    files = {file.label: file for file in model.files}
    own = [
        files[label]._replace(label=name, paths=(f"x-{name}.gguf",))
        for label, name in (("Q6_K", "Q6_K_H"), ("IQ4_XS", "Q4_K_P"), ("IQ4_XS", "Q4_K_XS"))
    ]
    offered = (*own, *(files[label] for label in ("Q8_0", "IQ4_XS", "Q3_K_S", "IQ2_M")))
    local = model._replace(local=True, files=offered)
    host = machine(Backend.VULKAN, 40 * GIB, 10587)
    answer = recommend(local, host, Need(), REFERENCE)
    labels = [verdict.file.label for verdict in answer.verdicts]
    assert labels == ["Q8_0", "Q6_K_H", "IQ4_XS", "Q4_K_P", "Q4_K_XS", "Q3_K_S", "IQ2_M"]
    assert not any(
        reason.code is ReasonCode.DOMINATED
        for verdict in answer.verdicts
        for reason in verdict.reasons
    )


def test_recommend_marks_what_is_dominated(quantpick: Command) -> None:
    machine = ("--vram", "48GiB", "--backend", "cuda")
    verdicts = quantpick("recommend", "llama-3.1-70b", *machine, "--json").json["verdicts"]
    marks = {
        verdict["label"]: reason["label"]
        for verdict in verdicts
        for reason in verdict["reasons"]
        if reason["code"] == "dominated"
    }
    assert marks == {"Q3_K_XL": "IQ4_XS", "Q3_K_S": "IQ3_XS", "Q2_K": "IQ2_M"}
    lines = quantpick("recommend", "llama-3.1-70b", *machine).stdout.splitlines()
    (line,) = [line for line in lines if " Q3_K_XL " in line]
    assert line.endswith("rather IQ4_XS")
    text = quantpick("explain", "llama-3.1-70b:Q3_K_XL", *machine).stdout
    assert "- IQ4_XS (37.90 GB) is no larger and at least as good" in text


def test_a_k_quant_for_speed_is_not_dominated_by_a_slower_i_quant(quantpick: Command) -> None:
    machine = ("--ram", "43GiB", "--backend", "metal", "--json", "--for")
    speed, quality = (
        {v["label"]: [r["code"] for r in v["reasons"]] for v in document["verdicts"]}
        for document in (
            quantpick("recommend", "llama-3.1-70b", *machine, objective).json
            for objective in ("speed", "quality")
        )
    )
    assert "dominated" not in speed["Q3_K_S"]
    assert "dominated" in quality["Q3_K_S"]


def test_an_ultra_low_bit_pick_comes_with_its_warning(quantpick: Command) -> None:
    machine = ("--vram", "6GiB", "--ram", "2GiB", "--backend", "cuda")
    pick = quantpick("recommend", "qwen3-14b", *machine, "--json").json["pick"]
    assert pick["label"].startswith("UD-IQ1_")
    (warning,) = [r for r in pick["reasons"] if r["code"] == "ultra_low_bit"]
    assert warning["label"] == pick["label"]
    text = quantpick("recommend", "qwen3-14b", *machine).stdout
    assert "visible damage" in text
    (said,) = [line for line in text.splitlines() if line.startswith("pick: ")]
    figures = f"of {warning['label']} {warning['kld']}, of Q4_K_M 0.028 (Llama 3 8B)"
    assert f"expect visible damage: mean KL divergence {figures}" in said


def test_the_warning_is_for_labels_below_two_and_a_half_bits() -> None:
    bits = load_quality().bits_per_weight
    assert {value < 2.5 for _, value in bits} == {True, False}
    for label, value in bits:
        for spelled in (label, f"i1-{label}", f"UD-{label}"):
            assert (warning_of(spelled, REFERENCE) is not None) is (value < 2.5), spelled
    ternary = warning_of("TQ1_0", REFERENCE)
    assert ternary is not None
    assert ternary.figures["kld"] == "not known"


def test_what_does_not_fit_is_not_warned_of(quantpick: Command) -> None:
    verdicts = quantpick("recommend", "qwen3-14b", "--vram", "6GiB", "--json").json["verdicts"]
    assert any(v["label"] == "UD-IQ2_XXS" and not v["fits"] for v in verdicts)
    for verdict in verdicts:
        warned = "ultra_low_bit" in [reason["code"] for reason in verdict["reasons"]]
        assert not warned or verdict["fits"]
