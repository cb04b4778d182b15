"""The matrix of tensor types by backend: whole, dated, obeyed, and told in words."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.compatibility import (
    blocking_reason,
    doubtful_since,
    runs_fast,
    slow_reason,
    stand_in,
)
from quantpick.domain.host import Backend
from quantpick.domain.judge import I_QUANTS_FAST, I_QUANTS_SLOW
from quantpick.domain.matrix import gone_rows, matrix_backends, matrix_record, matrix_rows
from quantpick.domain.model import QuantFile, QuantInfo
from quantpick.domain.quant import Family, family_of
from quantpick.domain.verdict import ReasonCode
from quantpick.errors import IntegrityError
from quantpick.render.words import phrase, support_words
from quantpick.sources import catalog, rows
from tests.support.downloads import REPO
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

REFERENCE = catalog.load_reference()
LABELS = sorted(REFERENCE.quants)
TODAY = 11540
BACKENDS = (*Backend, "opencl", "cann", "musa", "webgpu")

labels, backends = st.sampled_from(LABELS), st.sampled_from(Backend)
#: Builds around all that the matrix names, where an answer can change, and any other.
TURNS = sorted(
    {turn for row in REFERENCE.support.values() for turn in (row.since, row.until) if turn}
)
builds = st.integers(1, 20_000) | st.sampled_from(TURNS).flatmap(
    lambda turn: st.integers(turn - 1, turn + 1)
)


def named(label: str) -> tuple[QuantFile, QuantInfo]:
    return QuantFile(label, 1, (f"g-{label}.gguf",)), REFERENCE.quants[label]


def blocked(label: str, backend: Backend, build: int | None = TODAY) -> ReasonCode | None:
    reason = blocking_reason(*named(label), backend, build, REFERENCE)
    return reason.code if reason else None


def slow(label: str, backend: Backend, build: int | None = TODAY) -> bool:
    return slow_reason(*named(label), backend, build, REFERENCE) is not None


# The matrix itself


def test_every_type_of_every_label_has_a_row_for_each_backend() -> None:
    kinds = {kind for info in REFERENCE.quants.values() for kind in info.tensor_types}
    cells = {(kind, backend) for kind in kinds for backend in BACKENDS}
    assert cells <= REFERENCE.support.keys()
    assert {backend for _, backend in REFERENCE.support} == set(BACKENDS)


def test_every_row_has_a_source_and_a_date() -> None:
    for row in (*REFERENCE.support.values(), *REFERENCE.gone.values()):
        assert len(row.source) > 10
        assert re.fullmatch(r"202[3-6]-(0[1-9]|1[0-2])(-\d\d)?", row.date)
        assert row.speed is None or len(row.speed_source or "") > 10


def test_the_labels_of_dead_types_are_in_the_matrix() -> None:
    dead = {label for label, info in REFERENCE.quants.items() if info.note.startswith("Dead")}
    gone = {kind: row.until for kind, row in REFERENCE.gone.items() if row.until}
    assert dead == set(gone)
    assert gone == dict.fromkeys(["Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8"], 4282)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("Q4_K on vulkan", "yes"),
        ("IQ2_S on vulkan", "b4588, slow before b4790"),
        ("IQ1_M on vulkan", "b4720"),
        ("IQ3_S on cuda", "by b2281, fast"),
        ("IQ4_XS on metal", "b2281, slow"),
        ("TQ1_0 on cuda", "no"),
        ("TQ1_0 on metal", "aborts"),
        ("TQ2_0 on metal", "b10414"),
        ("NVFP4 on metal", "no"),
        ("BF16 on cann", "b8449, needs an Ascend other than the 310P"),
        ("Q4_0_4_4 on cpu", "b3365 to b4281"),
        ("IQ4_XS on opencl", "no"),
    ],
)
def test_the_matrix_is_shown_cell_by_cell(cell: str, words: str) -> None:
    kind, _, backend = cell.partition(" on ")
    (row,) = (row for row in matrix_rows(REFERENCE) if row.tensor_type == kind)
    assert support_words(row.cells[matrix_backends(REFERENCE).index(backend)]) == words


def test_the_matrix_is_whole_and_plain() -> None:
    assert all(len(row.cells) == len(BACKENDS) for row in matrix_rows(REFERENCE))
    assert None not in [cell for row in matrix_rows(REFERENCE) for cell in row.cells]
    record = json.loads(json.dumps(matrix_record(REFERENCE)))
    assert len(record["support"]) == len(REFERENCE.support)
    assert {"tensor_type", "backend", "since", "source", "date"} <= record["support"][0].keys()
    assert not {"tensor_types", "backends"} & record["support"][0].keys()
    assert {row["tensor_type"]: row["instead"] for row in record["gone"]} == {
        kind: row.instead for kind, row in gone_rows(REFERENCE)
    }
    assert support_words(None) == "unknown"


# What it decides


@given(labels, backends, builds, builds)
def test_a_newer_build_never_blocks_what_an_older_one_ran(
    label: str, backend: Backend, one: int, other: int
) -> None:
    older, newer = sorted((one, other))
    if blocked(label, backend, older) is None:
        assert blocked(label, backend, newer) in {None, ReasonCode.TYPE_REMOVED}
    if blocked(label, backend, newer) is ReasonCode.BACKEND_TOO_OLD:
        assert blocked(label, backend, older) is ReasonCode.BACKEND_TOO_OLD


@given(labels, backends, builds)
def test_the_build_that_is_named_is_the_first_that_runs(
    label: str, backend: Backend, build: int
) -> None:
    reason = blocking_reason(*named(label), backend, build, REFERENCE)
    if reason is not None and reason.code is ReasonCode.BACKEND_TOO_OLD:
        since = int(reason.figures["since"])
        assert build < since
        assert blocked(label, backend, since) is None
        assert blocked(label, backend, since - 1) is ReasonCode.BACKEND_TOO_OLD


@given(labels, backends)
def test_an_unknown_build_is_a_current_one_and_says_what_it_hangs_on(
    label: str, backend: Backend
) -> None:
    file, info = named(label)
    assert blocked(label, backend, None) == blocked(label, backend, 20_000)
    assert slow(label, backend, None) == slow(label, backend, 20_000)
    since = doubtful_since(info, backend, None, REFERENCE)
    assert doubtful_since(info, backend, TODAY, REFERENCE) is None
    if since is not None:
        assert blocked(label, backend, since) in {None, blocked(label, backend, 20_000)}
        assert blocked(label, backend, since - 1) is not None
    assert blocking_reason(file, info, None, 1, REFERENCE) is None


def test_only_what_came_lately_is_in_doubt_where_the_build_is_unknown() -> None:
    doubted = {
        (label, backend.value): since
        for label in ("Q4_K_M", "IQ4_NL", "IQ4_XS", "IQ3_M", "IQ1_S", "MXFP4")
        for backend in Backend
        if (since := doubtful_since(REFERENCE.quants[label], backend, None, REFERENCE))
    }
    on_vulkan = {"IQ4_XS": 4648, "IQ3_M": 4588, "IQ1_S": 4720}
    mxfp4 = dict.fromkeys(Backend, 6096) | {Backend.SYCL: 7406}
    assert doubted == {
        **{(label, "vulkan"): since for label, since in on_vulkan.items()},
        **{("MXFP4", backend.value): since for backend, since in mxfp4.items()},
    }


@pytest.mark.parametrize("build", [1, 3472, TODAY])
@pytest.mark.parametrize("backend", Backend)
def test_k_quants_run_everywhere_and_are_slow_nowhere(backend: Backend, build: int) -> None:
    plain = [label for label in LABELS if family_of(label) is Family.K] + ["Q8_0", "Q4_0", "F16"]
    assert len(plain) > 20
    assert {blocked(label, backend, build) for label in plain} == {None}
    assert not any(slow(label, backend, build) for label in plain)
    assert not any(runs_fast(REFERENCE.quants[label], backend, REFERENCE) for label in plain)


@pytest.mark.parametrize(
    ("backend", "word"),
    [
        *[("cpu", "slow"), ("metal", "slow"), ("cuda", "fast"), ("rocm", "fast")],
        *[("vulkan", "none"), ("sycl", "none")],
    ],
)
def test_i_quants_run_everywhere_today_and_are_fast_or_slow_as_a_family(
    backend: str, word: str
) -> None:
    place, found = Backend(backend), {}
    assert (place in I_QUANTS_FAST, place in I_QUANTS_SLOW) == (word == "fast", word == "slow")
    for label in filter(lambda label: family_of(label) is Family.I, LABELS):
        assert blocked(label, place) is None
        fast = runs_fast(REFERENCE.quants[label], place, REFERENCE)
        found[label] = "slow" if slow(label, place) else "fast" if fast else "none"
    assert len(found) >= 12
    one_bit = [label for label in found if "IQ1_M" in REFERENCE.quants[label].tensor_types]
    # On CUDA it reads slowly and writes fast.
    apart = dict.fromkeys(one_bit, "none" if word == "fast" else word)
    apart["IQ4_NL"] = "none" if word == "none" else "fast"
    assert found == {**dict.fromkeys(found, word), **apart}


def test_what_a_backend_never_ran_says_what_would_happen() -> None:
    never = {
        (label, backend.value): code
        for label in LABELS
        for backend in Backend
        for code in [blocked(label, backend, 20_000)]
        if code is not None and code is not ReasonCode.TYPE_REMOVED
    }
    falls, aborts = ReasonCode.KERNEL_MISSING, ReasonCode.KERNEL_MISSING_ABORTS
    assert never == {
        **{("TQ1_0", backend): falls for backend in ("cuda", "rocm", "vulkan")},
        **{("TQ1_0", backend): aborts for backend in ("metal", "sycl")},
        **{("TQ2_0", backend): falls for backend in ("cuda", "rocm")},
        ("TQ2_0", "sycl"): aborts,
    }
    nvfp4 = QuantInfo("NVFP4", 4, 1, "good", "", ("NVFP4", "Q8_0"))
    file = QuantFile("NVFP4", 1, ("g-NVFP4.gguf",))
    reason = blocking_reason(file, nvfp4, Backend.METAL, TODAY, REFERENCE)
    assert reason is not None
    assert phrase(reason) == (
        "Metal cannot compute NVFP4 (as of b10587): those layers would fall to the CPU"
    )
    assert blocking_reason(file, nvfp4, Backend.VULKAN, TODAY, REFERENCE) is None


@pytest.mark.parametrize(
    ("label", "instead"),
    [
        *[("IQ4_KS", "IQ4_XS"), ("IQ2_K", "IQ2_XS"), ("IQ5_K", "Q5_K_S"), ("Q6_0", "Q6_K")],
        *[("IQ4_KS_R4", "IQ4_XS"), ("Q6_K_R4", "Q6_K"), ("Q8_0_R8", "Q8_0")],
        *[("UD-IQ2_KL", "Q2_K"), ("Q4_0_4_8", "Q4_0"), ("IQ9_K", "another quant")],
        ("Q4_K_M", "another quant"),
    ],
)
def test_what_stands_in_is_a_quant_that_llama_cpp_runs(label: str, instead: str) -> None:
    assert stand_in(label, REFERENCE) == instead
    assert {row.instead for row in REFERENCE.gone.values()} <= {
        label for label in LABELS if blocked(label, Backend.CPU) is None
    }


def test_a_dead_type_had_its_time_and_the_forks_own_are_known_by_name() -> None:
    found = [blocked("Q4_0_4_4", Backend.CPU, build) for build in (3364, 3365, 4281, 4282)]
    assert found == [ReasonCode.BACKEND_TOO_OLD, None, None, ReasonCode.TYPE_REMOVED]
    assert blocked("Q4_0_4_4", Backend.CUDA, 4000) is ReasonCode.KERNEL_MISSING
    for label, code in (("Q6_0", ReasonCode.FORK_ONLY), ("Q4_K_P", ReasonCode.UNKNOWN_LABEL)):
        file = QuantFile(label, 1, (f"g-{label}.gguf",))
        reason = blocking_reason(file, None, Backend.CPU, TODAY, REFERENCE)
        assert reason is not None
        assert reason.code is code


# Through the command line

FILES = ["Q4_K_M", "IQ4_NL", "IQ4_XS", "IQ2_M", "IQ1_M", "TQ1_0", "TQ2_0", "Q4_0_4_4", "IQ4_KS"]


@pytest.fixture
def ask(online: Command, hub: LoopbackHub) -> Callable[..., dict[str, Any]]:
    """Return what each quant of a repo is told on a backend with a build, by label."""
    hub.add_repo(REPO, {f"g-{label}.gguf": tiny_gguf() for label in FILES})

    def asked(backend: str, build: str) -> dict[str, Any]:
        memory = ["--ram", "64GiB", *([] if backend == "cpu" else ["--vram", "24GiB"])]
        words = [*memory, "--backend", backend, "--llama-cpp", build]
        answer = online("recommend", REPO, *words, "--json").json
        return {v["label"]: {r["code"]: r for r in v["reasons"]} for v in answer["verdicts"]}

    return asked


@pytest.mark.parametrize(
    ("build", "too_old", "slowly"),
    [
        ("b3472", {"IQ4_XS": 4648, "IQ2_M": 4588, "IQ1_M": 4720, "TQ2_0": 10384}, set()),
        ("b4588", {"IQ4_XS": 4648, "IQ1_M": 4720, "TQ2_0": 10384}, {"IQ2_M"}),
        ("b4720", {"TQ2_0": 10384}, {"IQ2_M", "IQ1_M"}),
        ("b4790", {"TQ2_0": 10384}, set()),
        ("b11540", {}, set()),
    ],
)
def test_vulkan_runs_what_its_build_runs(
    ask: Callable[..., dict[str, Any]], build: str, too_old: dict[str, int], slowly: set[str]
) -> None:
    told = ask("vulkan", build)
    old = {
        label: r["backend_too_old"]["since"] for label, r in told.items() if "backend_too_old" in r
    }
    assert old == too_old
    assert {label for label, reasons in told.items() if "i_quant_slow" in reasons} == slowly
    assert "kernel_missing" in told["TQ1_0"]
    assert "comfortable" in told["IQ4_NL"].keys() & told["Q4_K_M"].keys()


def test_each_backend_says_its_own(ask: Callable[..., dict[str, Any]]) -> None:
    told = {backend.value: ask(backend.value, "b11540") for backend in Backend}
    codes = {"type_slow", "i_quant_slow", "i_quant_preferred", "kernel_missing"}
    codes |= {"kernel_missing_aborts"}
    assert {
        backend: {label: found for label, r in reasons.items() if (found := r.keys() & codes)}
        for backend, reasons in told.items()
    } == {
        "cpu": {
            **{label: {"i_quant_slow"} for label in ("IQ4_XS", "IQ2_M", "IQ1_M")},
            **{label: {"type_slow"} for label in ("TQ1_0", "TQ2_0")},
        },
        "cuda": {
            "IQ2_M": {"i_quant_preferred"},
            **{label: {"kernel_missing"} for label in ("TQ1_0", "TQ2_0")},
        },
        "rocm": {
            "IQ2_M": {"i_quant_preferred"},
            **{label: {"kernel_missing"} for label in ("TQ1_0", "TQ2_0")},
        },
        "vulkan": {"TQ1_0": {"kernel_missing"}},
        "metal": {
            **{label: {"i_quant_slow"} for label in ("IQ4_XS", "IQ2_M", "IQ1_M")},
            "TQ1_0": {"kernel_missing_aborts"},
        },
        "sycl": {label: {"kernel_missing_aborts"} for label in ("TQ1_0", "TQ2_0")},
    }


def test_dead_and_fork_types_name_the_way_out(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {f"g-{label}.gguf": tiny_gguf() for label in FILES})
    ways = {
        "Q4_0_4_4": "llama.cpp dropped this type in b4282: take Q4_0 (llama.cpp repacks it",
        "IQ4_KS": "only the fork ik_llama.cpp loads it: run that, or take IQ4_XS",
        "TQ1_0": "CUDA cannot compute TQ1_0 (as of b10587): those layers would fall to the CPU",
    }
    machine = ("--vram", "24GiB", "--backend", "cuda")
    for label, way in ways.items():
        said = online("explain", f"{REPO}:{label}", *machine).stdout
        assert way in " ".join(said.split())
    listed = {r["label"]: r["not_offered"] for r in online("list", REPO, "--json").json["files"]}
    assert "take Q4_0 (" in listed["Q4_0_4_4"]
    assert "run that, or take IQ4_XS" in listed["IQ4_KS"]
    table = online("recommend", REPO, *machine).stdout
    assert "dead since b4282: take Q4_0" in " ".join(table.split())


# A broken matrix

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no types": ({"tensor_types": []}, "tensor_types is empty"),
    "no backends": ({"backends": []}, "needs backends, or an engine"),
    "both": ({"engine": "other"}, "needs backends, or an engine"),
    "a text for a build": ({"since": "b4588"}, "since is not of type int"),
    "a build below zero": ({"since": -1}, "a build is below zero"),
    "no build": ({"since": None}, "checked and otherwise belong to what never ran"),
    "no outcome": ({"since": None, "checked": 1}, "belong to what never ran"),
    "both answers": ({"checked": 1, "otherwise": "cpu"}, "belong to what never ran"),
    "no date": ({"date": None}, "date is missing"),
    "half a date": ({"date": "2024-7"}, "date is not a day or a month"),
    "a strange source": ({"source": "hearsay"}, "source is not in sources"),
    "a strange speed": ({"speed": "quick", "speed_source": "card"}, "neither fast nor slow"),
    "a speed without its source": ({"speed": "fast"}, "speed and speed_source"),
    "slow without a why": ({"speed": "slow", "speed_source": "card"}, "slow and why"),
    "an end of nothing": ({"slow_until": 5000}, "only what is slow"),
    "a death without a way out": ({"until": 5000}, "instead belongs to what is gone"),
    "a death before birth": ({"until": 3000, "instead": "Q8_0"}, "until is not after since"),
    "a strange field": ({"sinse": 3}, "sinse is not a field"),
    "a cell twice": ({"tensor_types": ["Q8_0"], "backends": ["cpu"]}, "Q8_0 on cpu has a row"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, words = BROKEN[name]
    shutil.copytree(rows.catalog_dir(), tmp_path / "catalog")
    path = tmp_path / "catalog" / "reference" / "backends.json"
    document = json.loads(path.read_text("utf-8"))
    row = {"tensor_types": ["NEW"], "backends": ["cpu"], "since": 4000, "source": "card"}
    row |= {"date": "2024-07-01"} | edit
    missing = [field for field, value in row.items() if value is None and field != "since"]
    document["support"].append({k: v for k, v in row.items() if k not in missing})
    path.write_text(json.dumps(document), "utf-8")
    monkeypatch.setenv(rows.CATALOG_VARIABLE, str(tmp_path / "catalog"))
    with pytest.raises(IntegrityError) as caught:
        catalog.load_reference()
    number = len(document["support"])
    assert f"reference/backends.json, support row {number}: " in caught.value.message
    assert words in caught.value.message
