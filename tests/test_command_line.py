"""The program around its commands: usage, errors, documents, pipes, and the Python behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quantpick as package
from quantpick.domain.host import Cpu, Host, Ram
from quantpick.errors import NotFoundError
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

MODEL = "llama-3.1-70b"
MACHINE = ["--vram", "24GiB", "--ram", "64GiB", "--backend", "cuda"]
REPO, FILE = "tester/Tiny-GGUF", "Tiny-Q4_K_M.gguf"
GGUF = tiny_gguf()
COMMANDS = [
    ["list"],
    ["list", MODEL],
    ["hardware"],
    ["recommend"],
    ["recommend", MODEL, *MACHINE],
    ["explain", f"{MODEL}:Q4_K_M", *MACHINE],
    ["download", f"{REPO}:Q4_K_M", "--dry-run"],
]
FAILURES = [
    (["recommend", "--frob"], 2),
    (["recommend", "--vram", "24G"], 2),
    (["hardware", "--host", "missing.json"], 2),
    (["recommend", "--for", "fun"], 2),
    (["explain"], 2),
    (["download"], 2),
    (["frob"], 2),
    (["list", "no-such-model"], 3),
    (["explain", f"{MODEL}:Q9_K_M", *MACHINE], 3),
    (["download", f"{REPO}:Q8_0"], 3),
    (["recommend", MODEL, "--ram", "8GiB", "--backend", "cpu"], 4),
]


@pytest.fixture
def stocked(online: Command, hub: LoopbackHub) -> Command:
    """Quantpick as a command that talks to a hub with one repo."""
    hub.add_repo(REPO, {FILE: GGUF}, license="apache-2.0")
    return online


def test_no_command_is_a_usage_error(quantpick: Command) -> None:
    run = quantpick()
    assert (run.status, run.stdout) == (2, "")
    assert "hint: run: quantpick --help" in run.stderr.splitlines()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["recommend", "--frob"], "quantpick recommend --help"),
        (["explain", "a", "b"], "quantpick explain --help"),
        (["recommend", "--ctx-size", "0"], "quantpick recommend --help"),
        (["--frob"], "quantpick --help"),
        (["frob"], "quantpick --help"),
    ],
)
def test_words_that_are_not_understood_are_a_usage_error_with_the_help_to_read(
    words: list[str], hint: str, quantpick: Command
) -> None:
    run = quantpick(*words)
    assert (run.status, run.stdout) == (2, "")
    assert run.stderr.startswith("error: ")
    assert run.stderr.splitlines()[-1] == f"hint: run: {hint}"


def test_two_places_to_write_to_are_one_too_many(quantpick: Command) -> None:
    run = quantpick("download", "llama-3.2-1b:Q8_0", "--cache", "--local-dir", "models")
    assert (run.status, run.stdout) == (2, "")
    assert "--local-dir" in run.stderr.splitlines()[0]


def test_a_misspelled_command_is_guessed_once(quantpick: Command) -> None:
    assert quantpick("recomend").stderr.count("Did you mean 'recommend'?") == 1


def test_version_is_the_packages(quantpick: Command) -> None:
    run = quantpick("--version")
    assert (run.status, run.stdout) == (0, f"quantpick {package.__version__}\n")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_json_is_one_document_of_the_command_and_talk_goes_elsewhere(
    words: list[str], stocked: Command
) -> None:
    run = stocked(*words, "--json")
    assert run.status == 0, run.stderr
    assert list(run.json)[:2] == ["schema_version", "command"]
    assert (run.json["schema_version"], run.json["command"]) == (1, words[0])
    assert "error" not in run.json


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_without_json_the_text_is_no_document(words: list[str], stocked: Command) -> None:
    run = stocked(*words)
    assert run.status == 0, run.stderr
    assert run.stdout.strip()
    with pytest.raises(json.JSONDecodeError):
        json.loads(run.stdout)


@pytest.mark.parametrize(("words", "status"), FAILURES, ids=str)
def test_failures_speak_json_when_asked_to(words: list[str], status: int, stocked: Command) -> None:
    run = stocked(*words, "--json")
    assert run.status == status, run.stderr
    assert (run.json["schema_version"], run.json["command"]) == (1, words[0])
    error = run.json["error"]
    assert error["exit_status"] == status
    assert error["message"]
    assert error["hints"]
    assert "error:" not in run.stderr


@pytest.mark.parametrize(("words", "status"), FAILURES, ids=str)
def test_failures_speak_on_stderr_otherwise(
    words: list[str], status: int, stocked: Command
) -> None:
    run = stocked(*words)
    assert run.status == status
    told = [line.partition(": ")[0] for line in run.stderr.splitlines()]
    assert told.count("error") == 1
    assert "hint" in told
    assert "Traceback" not in run.stderr


def test_an_option_of_the_program_fails_in_json_too(quantpick: Command) -> None:
    run = quantpick("--json")
    assert run.status == 2
    assert run.json["error"]["hints"] == ["run: quantpick --help"]


# A reader that goes away


def printing_to(
    stdout: int, words: list[str], unbuffered: str, quantpick: Command
) -> subprocess.CompletedProcess[str]:
    """Run a command line whose output goes to an open file."""
    return subprocess.run(
        [sys.executable, "-m", "quantpick", *words],
        cwd=quantpick.cwd,
        env=quantpick.environment(PYTHONUNBUFFERED=unbuffered),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", MODEL, "--json"],
        ["recommend", MODEL, *MACHINE],
        ["recommend", MODEL, "--ram", "8GiB", "--backend", "cpu"],
        ["recommend", "no-such-model", "--json"],
        ["--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_a_reader_that_went_away_is_not_an_error(
    words: list[str], unbuffered: str, quantpick: Command
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    run = printing_to(theirs, words, unbuffered, quantpick)
    os.close(theirs)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full disk is a device of Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [["list"], ["hardware", "--json"], ["recommend", "no-such-model", "--json"], ["--help"]],
    ids=" ".join,
)
def test_output_that_finds_no_room_is_no_bug(
    words: list[str], unbuffered: str, quantpick: Command
) -> None:
    with Path("/dev/full").open("w") as full:
        run = printing_to(full.fileno(), words, unbuffered, quantpick)
    assert (run.returncode, "Traceback" in run.stderr) == (8, False)
    assert run.stderr.splitlines()[0].startswith("error: cannot write the output: ")


# The Python behind it


def python(quantpick: Command, program: str) -> str:
    """Run a program in a Python of its own and return what it printed."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=quantpick.cwd,
        env=quantpick.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_importing_quantpick_loads_none_of_its_parts(quantpick: Command) -> None:
    program = """
import sys
before = set(sys.modules)
import quantpick
dir(quantpick), quantpick.__all__, quantpick.__version__
loaded = {name for name in set(sys.modules) - before if "quantpick." in name or name == "typer"}
print(sorted(loaded))
"""
    assert python(quantpick, program).strip() == "[]"


def test_every_public_name_is_there(quantpick: Command) -> None:
    program = "import quantpick\nfor name in quantpick.__all__: getattr(quantpick, name)\n"
    functions = {"recommend", "explain", "plan", "download", "probe", "parse_filename"}
    assert functions < set(package.__all__)
    assert python(quantpick, program) == ""
    assert all(callable(getattr(package, name)) for name in functions)
    with pytest.raises(AttributeError, match="frobnicate"):
        package.frobnicate  # noqa: B018 -- looking it up is the test


def test_probe_stays_a_function_after_a_probe(quantpick: Command) -> None:
    program = """
import quantpick
first = quantpick.probe()
quantpick.recommend("llama-3.1-70b")
print(quantpick.probe().ram.total == first.ram.total > 0)
"""
    assert python(quantpick, program).strip() == "True"


def test_recommend_is_what_the_command_answers(quantpick: Command) -> None:
    host = Host(Ram(64 * 2**30, None, "test"), Cpu("test", 8))
    answer = package.recommend(MODEL, host=host)
    words = ["recommend", MODEL, "--ram", "64GiB", "--backend", "cpu", "--json"]
    told = quantpick(*words).json
    assert answer.pick is not None
    assert answer.pick.file.label == told["pick"]["label"]
    labels = [verdict.file.label for verdict in answer.verdicts]
    assert labels == [verdict["label"] for verdict in told["verdicts"]]


def test_explain_takes_the_verdict_out_of_the_recommendation() -> None:
    host = Host(Ram(64 * 2**30, None, "test"), Cpu("test", 8))
    verdict, answer, *_ = package.explain(f"{MODEL}:q4_k_m", host=host)
    assert verdict.file.label == "Q4_K_M"
    assert verdict in answer.verdicts
    with pytest.raises(NotFoundError, match="Q9_K_M"):
        package.explain(f"{MODEL}:Q9_K_M", host=host)


def test_plan_and_download_reach_the_hub(stocked: Command, tmp_path: Path) -> None:
    program = f"""
import quantpick, pathlib
plan = quantpick.plan("{REPO}:Q4_K_M")
print([file.path for file in plan.files])
done = quantpick.download("{REPO}:Q4_K_M", local_dir=pathlib.Path({str(tmp_path)!r}))
print([file.verified for file in done.files])
"""
    assert python(stocked, program).split("\n") == [f"['{FILE}']", "[True]", ""]
    assert (tmp_path / FILE).read_bytes() == GGUF


def test_a_file_name_tells_its_quant() -> None:
    parsed = package.parse_filename("Meta-Llama-3.1-70B-Instruct-Q8_0-00001-of-00002.gguf")
    assert parsed.label == "Q8_0"
