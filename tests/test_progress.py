"""What a download says while it runs, to people and to programs, and what it leaves on stdout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.hub import faults
from tests.support.downloads import GOOD, NAME, REPO, SPEC, tree
from tests.support.gguf_files import split_gguf, tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

Event = dict[str, Any]

LARGE = tiny_gguf(1 << 18)
OTHER = tiny_gguf(1 << 18, seed=1)


def events(stderr: str) -> list[Event]:
    """Read JSON lines; each of them has to be one object."""
    found = [json.loads(line) for line in stderr.splitlines()]
    assert all(isinstance(event, dict) for event in found)
    return found


def steps(found: list[Event]) -> list[list[Event]]:
    """Return the events step by step, without notes; a step has one start and one end."""
    told = [event for event in found if event["event"] != "note"]
    starts = [place for place, event in enumerate(told) if event["event"] == "start"]
    framed = [told[low:high] for low, high in zip(starts, [*starts[1:], None], strict=True)]
    assert starts[:1] == [0]
    for one in framed:
        kinds = [event["event"] for event in one]
        assert kinds == ["start", *["progress"] * (len(kinds) - 2), "end"]
        assert len({(event["what"], event["total_bytes"]) for event in one}) == 1
    return framed


def counts(step: list[Event]) -> list[int]:
    return [event["done_bytes"] for event in step]


def fetch(online: Command, *words: str) -> list[Event]:
    result = online("download", SPEC, "--progress", "json", "--json", *words)
    assert result.status == 0, result.stderr
    assert result.json["label"] == "Q4_K_M"
    return events(result.stderr)


def test_json_lines_go_from_nothing_to_the_whole(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    hub.add_fault(faults.slow(len(LARGE) * 2 // 3))
    (step,) = steps(fetch(online))
    assert (step[0]["what"], step[0]["total_bytes"]) == (f"fetch {NAME}", len(LARGE))
    assert counts(step)[0] == 0
    assert counts(step)[-1] == len(LARGE)
    assert counts(step) == sorted(counts(step))
    between = counts(step)[1:-1]
    assert between
    assert 0 < between[0] < len(LARGE)


def test_json_lines_of_a_set_count_all_its_files(online: Command, hub: LoopbackHub) -> None:
    paths = [f"g-Q4_K_M-0000{number}-of-00002.gguf" for number in (1, 2)]
    hub.add_repo(REPO, dict(zip(paths, (LARGE, OTHER), strict=True)))
    (step,) = steps(fetch(online))
    assert step[0]["what"] == "fetch Q4_K_M, 2 files"
    assert counts(step)[-1] == step[0]["total_bytes"] == len(LARGE) + len(OTHER)


def test_json_lines_of_files_that_are_there_tell_of_their_check(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    fetch(online)
    (step,) = steps(fetch(online))
    assert step[0]["what"] == f"check {NAME}"
    assert counts(step)[-1] == len(LARGE)


def test_count_begins_anew_only_after_a_note_that_says_why(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    hub.add_fault(faults.corrupt(9999, times=1))
    found = fetch(online)
    assert [counts(step)[-1] for step in steps(found)] == [len(LARGE)] * 2
    kinds = [event["event"] for event in found]
    (note,) = (event for event in found if event["event"] == "note")
    assert "not intact" in note["text"]
    assert "once more" in note["text"]
    assert kinds.index("note") == kinds.index("end") + 1


def test_broken_connections_never_turn_the_count_back(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    hub.add_fault(faults.drop(len(LARGE) // 3, times=2))
    (step,) = steps(fetch(online))
    assert counts(step) == sorted(counts(step))
    assert counts(step)[-1] == len(LARGE)


def test_failed_transfer_ends_its_step_short_of_the_whole(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    hub.add_fault(faults.drop(len(LARGE) // 3))
    result = online("download", SPEC, "--progress", "json", "--json", "--retries", "0")
    assert result.status == 5, result.stdout
    (step,) = steps(events(result.stderr))
    assert 0 < counts(step)[-1] < len(LARGE)


def part_bytes(folder: Path) -> int:
    """Return how many bytes an ended run has noted as there."""
    (note,) = folder.rglob("*.part.json")
    return sum(stop - start for start, stop in json.loads(note.read_text())["done"])


def test_first_count_after_a_resume_is_what_was_there(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    hub.add_fault(faults.drop(len(LARGE) // 2))
    assert online("download", SPEC, "--retries", "0").status == 5
    there = part_bytes(online.cwd)
    assert there >= len(LARGE) // 4
    hub.clear_faults()
    hub.add_fault(faults.slow(len(LARGE) // 2))
    (step,) = steps(fetch(online))
    assert step[0]["total_bytes"] == len(LARGE)
    assert there <= counts(step)[1] < len(LARGE)
    assert counts(step)[-1] == len(LARGE)


def test_the_default_repo_and_the_recommended_quant_are_notes(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    words = ["auto", "--vram", "24GiB", "--progress", "json", "--dry-run"]
    result = online("download", f"{REPO}:{words[0]}", *words[1:])
    assert result.status == 0, result.stderr
    recommended = {"event": "note", "text": "recommended for this machine: Q4_K_M"}
    assert events(result.stderr) == [recommended]
    named = online("download", "Q4_K_M", *words[3:], QUANTPICK_REPO=REPO)
    assert events(named.stderr) == [{"event": "note", "text": f"Q4_K_M of the default repo {REPO}"}]


# What a person sees


def test_lines_name_each_step_once_and_how_large_it_is(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    first = online("download", SPEC, "--progress", "lines")
    assert first.stderr.splitlines() == [f"fetch {NAME} (2.10 MB)"]
    again = online("download", SPEC, "--progress", "lines", "--quiet")
    assert again.stderr.splitlines() == [f"check {NAME} (2.10 MB)"]


@pytest.mark.parametrize(
    ("words", "stdout"),
    [
        (["--quiet"], rf"{NAME}\n"),
        (["--quiet", "--local-dir", "there"], rf"there/{NAME}\n"),
        (["--quiet", "--cache"], rf"/\S+/snapshots/[0-9a-f]{{40}}/{NAME}\n"),
        (["--progress", "none"], rf"Q4_K_M of {REPO} at commit (?s:.+)"),
        (["--progress", "none", "--quiet"], rf"{NAME}\n"),
        (["--progress", "none", "--json"], r"\{.+\}\n"),
    ],
)
def test_quiet_says_nothing_but_the_path_and_no_progress_nothing_on_the_side(
    online: Command, hub: LoopbackHub, words: list[str], stdout: str
) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    result = online("download", SPEC, *words)
    assert (result.status, result.stderr) == (0, "")
    assert re.fullmatch(stdout, result.stdout), result.stdout


def test_quiet_still_tells_an_error(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    result = online("download", f"{REPO}:Q8_0", "--quiet")
    assert (result.status, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: {REPO} has no quant Q8_0\nhint: ")


def test_path_of_a_set_is_its_first_shard(
    online: Command, hub: LoopbackHub, tmp_path: Path
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(GOOD)
    shards = split_gguf(tmp_path / "tiny.gguf", tmp_path / "cut", 2)
    hub.add_repo(REPO, {f"g-Q4_K_M/{shard.name}": shard for shard in reversed(shards)})
    result = online("download", SPEC, "--quiet")
    assert (result.status, result.stderr) == (0, "")
    assert result.stdout == f"g-Q4_K_M/{shards[0].name}\n"
    assert (online.cwd / result.stdout.strip()).read_bytes() == shards[0].read_bytes()


def test_path_of_each_locked_quant_is_told_on_a_line_of_its_own(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: GOOD, "g-Q8_0.gguf": tiny_gguf()})
    assert online("lock", f"{REPO}:Q8_0", SPEC).status == 0
    result = online("download", "--locked", "--quiet")
    assert (result.status, result.stdout, result.stderr) == (0, f"g-Q8_0.gguf\n{NAME}\n", "")


def test_reader_of_progress_that_goes_away_makes_no_success_of_half_a_file(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: LARGE})
    hub.add_fault(faults.slow(len(LARGE)))
    run = subprocess.Popen(
        [sys.executable, "-m", "quantpick", "download", SPEC, "--progress", "json"],
        cwd=online.cwd,
        env=online.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    assert json.loads(run.stderr.readline())["event"] == "start"
    run.stderr.close()
    assert (run.wait(timeout=30), NAME in tree(online.cwd)) != (0, False)
