"""Hundreds of downloads, each with other trouble: right bytes, or a documented exit status.

QUANTPICK_MATRIX_SEED chooses other runs than the usual ones. A run that breaks the law is told with
the command that does it again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub.loopback import LoggedRequest
from tests.hub.matrix import report, run_matrix
from tests.hub.matrix_law import TOKEN, Act, Promise, Tree, broken, false_receipts, talkative_files
from tests.hub.matrix_plan import COMMIT, SIZE, WAYS, make_run
from tests.hub.matrix_stage import MatrixHub
from tests.hub.matrix_summary import SUMMARY
from tests.hub.matrix_verdict import Outcome, Stage, summary

SEED = os.environ.get("QUANTPICK_MATRIX_SEED") or "1"

RIGHT, WRONG = (hashlib.sha256(data).hexdigest() for data in (b"right", b"wrong"))
FILE, NOTES = "target/q/x-Q4_K_M.gguf", "target/notes.txt"
BLOB = f"hf/hub/models--a--b/blobs/{RIGHT}"
PROMISE = Promise({FILE: RIGHT}, frozenset({FILE}), COMMIT)

REF = hashlib.sha256(COMMIT.encode()).hexdigest()

BEFORE: Tree = {NOTES: "1"}
DONE: Tree = {NOTES: "1", FILE: RIGHT, "target/q/NOTICE-a--b.txt": "2", "keep/proofs/1.json": "3"}


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> list[Outcome]:
    """Return what came of all runs, which is printed at the end of the tests."""
    if sys.platform == "win32":
        pytest.skip("Windows has no SIGINT to send")
    done, seconds = run_matrix(SEED)
    request.config.stash[SUMMARY] = summary(SEED, done, seconds)
    return done


def test_no_run_breaks_the_law(outcomes: list[Outcome]) -> None:
    assert not "\n\n".join(report(SEED, one) for one in outcomes if one.broken)


def test_the_matrix_is_as_large_as_promised_and_ends_in_both_ways(outcomes: list[Outcome]) -> None:
    done = [one for one in outcomes if one.skipped is None]
    ends = [status for one in done for status in one.first[:1]]
    assert [one.number for one in outcomes] == list(range(SIZE))
    assert len(done) >= 320
    assert sum(one.way != "inside" for one in done) >= 60
    assert ends.count(0) >= 60
    assert len([status for status in ends if status]) >= 60
    assert {3, 5, 6, 7} <= set(ends)
    assert ends.count(None) >= 20
    assert sum(one.second == 0 for one in done) >= 200


def test_a_seed_and_a_number_always_make_the_same_run() -> None:
    assert make_run("s", 7) == make_run("s", 7)
    assert make_run("s", 7) != make_run("t", 7)
    assert make_run("s", 7) != make_run("s", 8)
    assert sum(WAYS.values()) == SIZE


# The law itself: what it has to notice


def test_good_ends_are_lawful() -> None:
    assert broken(PROMISE, BEFORE, DONE, [Act(0)]) == []
    assert broken(PROMISE, BEFORE, BEFORE, [Act(7)]) == []
    part = {**BEFORE, "target/.quantpick/x.part": WRONG}
    assert broken(PROMISE, part, {**BEFORE}, [Act(None)]) == []
    assert broken(PROMISE, BEFORE, part, [Act(5), Act(7)]) == []
    assert broken(PROMISE, {}, {BLOB: RIGHT, "hf/hub/models--a--b/refs/main": REF}, [Act(5)]) == []


@pytest.mark.parametrize(
    ("before", "after", "act", "said"),
    [
        (BEFORE, DONE, Act(1), "ended with 1"),
        (BEFORE, DONE, Act(-11), "ended with -11"),
        (BEFORE, DONE, Act(0, "Traceback (most recent call last)"), "traceback"),
        (BEFORE, DONE, Act(0, f"sent {TOKEN}"), "told the token"),
        (BEFORE, DONE, Act(None, hung=True), "hangs"),
        (BEFORE, BEFORE, Act(0), f"ended with 0, and {FILE} is missing"),
        (BEFORE, {**DONE, FILE: WRONG}, Act(0), f"bad under a good name: {FILE}"),
        (BEFORE, {**BEFORE, FILE: WRONG}, Act(7), f"bad under a good name: {FILE}"),
        (BEFORE, {**BEFORE, FILE: WRONG}, Act(None), f"bad under a good name: {FILE}"),
        ({**BEFORE, FILE: WRONG}, {**BEFORE, FILE: WRONG}, Act(0), f"ended with 0, and {FILE}"),
        ({**BEFORE, FILE: WRONG}, DONE, Act(0), f"lost: {FILE}"),
        (BEFORE, {FILE: RIGHT}, Act(0), f"lost: {NOTES}"),
        (BEFORE, {**DONE, NOTES: "2"}, Act(0), f"lost: {NOTES}"),
        (DONE, BEFORE, Act(5), f"lost: {FILE}"),
        (BEFORE, {**BEFORE, "x-Q4_K_M.gguf": RIGHT}, Act(7), "bad under a good name: x-Q4"),
        (BEFORE, {**BEFORE, "target/other.gguf": RIGHT}, Act(7), "bad under a good name"),
        (BEFORE, {**BEFORE, "home/log": RIGHT}, Act(7), "bad under a good name: home/log"),
        ({}, {BLOB: WRONG}, Act(7), f"bad under a good name: {BLOB}"),
        ({}, {"hf/hub/models--a--b/refs/main": WRONG}, Act(7), "bad under a good name"),
        (BEFORE, {**DONE, "target/.quantpick/x.part": "4"}, Act(0), "left behind"),
    ],
)
def test_what_breaks_the_law_is_noticed(before: Tree, after: Tree, act: Act, said: str) -> None:
    assert [text for text in broken(PROMISE, before, after, [act]) if said in text]


def test_an_end_that_cannot_be_good_is_noticed() -> None:
    impossible = replace(PROMISE, listed={}, wanted=frozenset())
    assert broken(impossible, BEFORE, BEFORE, [Act(0)])
    assert broken(impossible, BEFORE, BEFORE, [Act(7)]) == []


def test_the_token_on_disk_and_a_false_receipt_are_noticed(tmp_path: Path) -> None:
    receipt = tmp_path / "a--b--Q4_K_M.quantpick.json"
    receipt.write_text(f'{{"files": [{{"parts": [{{"sha256": "{RIGHT}"}}]}}]}}')
    assert [*talkative_files(tmp_path), *false_receipts(tmp_path, frozenset({RIGHT}))] == []
    assert [*false_receipts(tmp_path, frozenset({WRONG}))]
    receipt.write_text(TOKEN)
    assert [*talkative_files(tmp_path)]
    assert [*false_receipts(tmp_path, frozenset({RIGHT}))]


def test_a_download_that_lies_breaks_the_law(tmp_path: Path) -> None:
    runs = (make_run("lies", number) for number in range(SIZE))
    run = next(r for r in runs if r.before == "nothing" and r.repo == "plain" and not r.cache)
    with MatrixHub(1000) as hub, MatrixHub(1000) as stranger:
        stage = Stage(hub, stranger, tmp_path)
        room = stage.room(run)
        room.prepare()
        stage.open(run)

        def half_a_file() -> Act:
            place = room.target / run.final
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(run.shelf.finals[run.final][:-1])
            return Act(0)

        played = stage.play(room, lambda: [half_a_file()], half_a_file)
    assert [text for text in played.broken if text.startswith("first act: bad under a good name")]
    assert [text for text in played.broken if text.startswith("second act: ended with 0, and")]


def test_a_token_that_goes_astray_is_noticed() -> None:
    run = make_run(SEED, 0)
    with MatrixHub(1000) as hub:
        hub.log.append(LoggedRequest("hub", "GET", f"/{run.shelf.mark}", None, "Bearer x", 200))
        assert hub.told_strangers(run, all_servers=False) == []
        assert hub.told_strangers(run, all_servers=True)
        hub.log.append(LoggedRequest("cdn", "GET", f"/{run.shelf.mark}", None, "Bearer x", 200))
        assert hub.told_strangers(run, all_servers=False)


def test_one_run_can_be_done_alone() -> None:
    command = [sys.executable, "-m", "tests.hub.matrix", "--seed", SEED, "--only", str(SIZE - 1)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"run {SIZE - 1}, inside: ")
