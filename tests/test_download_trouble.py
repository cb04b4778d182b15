"""Downloads that meet trouble: bad transfers, a bad network, an interruption, another run."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.hub import faults
from tests.support.downloads import (
    GOOD,
    NAME,
    NOTICE,
    RECEIPT,
    REPO,
    SPEC,
    refused,
    refused_in_json,
    refused_in_text,
    succeeds,
    tree,
)
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hub.faults import Fault
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

Wrong = tuple["Fault", int, str, str]

API = "/api/models"
GOOD_SHA256 = hashlib.sha256(GOOD).hexdigest()

#: As `python -m quantpick`, and stoppable also where the tests run in the background of a shell.
START = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from quantpick.__main__ import main; main()
"""


@pytest.fixture
def shelf(hub: LoopbackHub) -> LoopbackHub:
    """Return the hub with one repo of one small quant."""
    hub.add_repo(REPO, {NAME: GOOD, "README.md": b"# card"})
    return hub


@pytest.mark.parametrize("place", [[], ["--cache"]], ids=["folder", "cache"])
@pytest.mark.parametrize(
    "wrong",
    [
        (faults.short(100), 7, "arrived shorter or longer", "run the same command again"),
        (faults.missing_on_cdn(), 3, "is not there (404)", "try again later"),
    ],
    ids=["truncated", "404"],
)
def test_transfer_that_brings_nothing_leaves_nothing_and_the_next_run_succeeds(
    online: Command, shelf: LoopbackHub, tmp_path: Path, place: list[str], wrong: Wrong
) -> None:
    fault, status, said, hint = wrong
    shelf.add_fault(fault)
    check = refused_in_json if place else refused_in_text
    check(online, SPEC, *place, status=status, said=said, hint=hint)
    assert tree(online.cwd) == set()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.stat().st_size > 2000]
    shelf.clear_faults()
    succeeds(online, *place)


@pytest.mark.parametrize("place", [[], ["--cache"]], ids=["folder", "cache"])
@pytest.mark.parametrize(
    "fault", [faults.corrupt(2000), faults.corrupt(len(GOOD) - 1, n=1)], ids=["flipped", "last"]
)
def test_wrong_bytes_are_fetched_once_more_then_set_aside_and_the_next_run_succeeds(
    online: Command, shelf: LoopbackHub, tmp_path: Path, place: list[str], fault: Fault
) -> None:
    shelf.add_fault(fault)
    check = refused_in_json if place else refused_in_text
    said, hint = "intact: sha256", "twice the same wrong bytes"
    check(online, SPEC, *place, status=7, said=said, hint=hint)
    assert len(shelf.requests("cdn")) == 2
    (rejected,) = tmp_path.rglob("*.rejected")
    assert rejected.read_bytes() == fault.flipped(GOOD, 0)
    assert not (online.cwd / NAME).exists()
    assert GOOD_SHA256 not in {path.name for path in tmp_path.rglob("blobs/*")}
    shelf.clear_faults()
    succeeds(online, *place)
    assert not list(tmp_path.rglob("*.rejected"))


def test_bytes_that_are_wrong_once_are_fetched_again_and_said_so(
    online: Command, shelf: LoopbackHub
) -> None:
    shelf.add_fault(faults.corrupt(2000, times=1))
    result = online("download", SPEC)
    assert result.status == 0
    assert "is not intact: sha256" in result.stderr
    assert "fetching it once more" in result.stderr
    assert (online.cwd / NAME).read_bytes() == GOOD


def test_proven_shard_is_kept_when_the_next_one_arrives_wrong(
    online: Command, hub: LoopbackHub
) -> None:
    first, second = (f"g/g-Q4_K_M-0000{number}-of-00002.gguf" for number in (1, 2))
    hub.add_repo(REPO, {first: GOOD, second: tiny_gguf(4096, seed=1)})
    hub.add_fault(faults.corrupt(5000, path=second))
    refused_in_text(online, SPEC, status=7, said=second, hint="twice the same wrong bytes")
    assert {path for path in tree(online.cwd) if not path.startswith(".")} == {"g", first}
    hub.clear_faults()
    files = online("download", SPEC, "--json").json["files"]
    assert [(file["verified"], file["reused"]) for file in files] == [(True, True), (True, False)]


def test_bad_file_in_the_cache_is_noticed_and_replaced(online: Command, shelf: LoopbackHub) -> None:
    done = online("download", SPEC, "--cache", "--json").json
    path = online.cwd / done["files"][0]["local_path"]
    path.resolve().write_bytes(GOOD[:-1] + b"\xff")
    succeeds(online, "--cache")
    assert path.read_bytes() == GOOD
    assert len(shelf.requests("cdn")) == 2


def test_trouble_that_stays_is_given_up_after_retries_and_named(
    quantpick: Command, online: Command, hub: LoopbackHub
) -> None:
    for number, repo in enumerate(("o/down", "o/bare", "o/busy")):
        hub.add_repo(repo, {f"{repo[2:]}-Q4_K_M.gguf": tiny_gguf(seed=number)})
    hub.add_fault(faults.status(503, path=f"{API}/o/down"))
    hub.add_fault(faults.status(503, path="bare-Q4_K_M", server="cdn"))
    hub.add_fault(faults.status(429, path=f"{API}/o/busy", headers={"Retry-After": "1"}))
    cases = [
        (online, "o/down:Q4_K_M", "answered 503", "try again later"),
        (online, "o/bare:Q4_K_M", "answered 503", "try again later"),
        (online, "o/busy:Q4_K_M", "answered 429", "limits requests"),
        (quantpick, "o/any:Q4_K_M", "cannot reach the Hub", "HF_ENDPOINT"),
    ]
    refuse = {"text": refused_in_text, "json": refused_in_json}
    with ThreadPoolExecutor(8) as pool:  # at once, for most of the time they wait
        runs = [
            pool.submit(check, command, spec, "--local-dir", folder, status=5, said=said, hint=hint)
            for command, spec, said, hint in cases
            for folder, check in refuse.items()
        ]
    for run in runs:
        run.result()
    refusals = Counter(entry.path for entry in hub.log if entry.status in {429, 503})
    assert len(refusals) == 3
    assert set(refusals.values()) == {2 * 5}
    assert {path for path in tree(online.cwd) if "/" in path} == set()


def test_offline_mode_is_named(online: Command, shelf: LoopbackHub) -> None:
    there = replace(online, env={**online.env, "HF_HUB_OFFLINE": "1"})
    refused(there, SPEC, status=5, said="HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE")
    assert shelf.log == []


@pytest.mark.parametrize(
    "fault",
    [
        faults.status(503, path=API, times=1),
        faults.status(503, server="cdn", times=1),
        faults.status(429, path=API, times=1, headers={"Retry-After": "1"}),
        faults.status(429, server="cdn", times=1, headers={"Retry-After": "1"}),
        faults.reset(1000, times=1),
        faults.drop(1000, times=1),
        faults.hang(60, server="cdn", times=1),
        faults.stall(1000, 60, times=1),
    ],
    ids=["api-503", "cdn-503", "api-429", "cdn-429", "reset", "drop", "hang", "stall"],
)
def test_trouble_that_passes_is_got_over(online: Command, shelf: LoopbackHub, fault: Fault) -> None:
    shelf.add_fault(fault)
    # Long enough that a busy machine is not taken for a silent server.
    succeeds(replace(online, env={**online.env, "HF_HUB_DOWNLOAD_TIMEOUT": "3"}))
    hit = [entry for entry in shelf.requests(fault.server or "hub") if fault.path in entry.path]
    assert len(hit) == 2


def test_server_that_ignores_ranges_gives_a_right_file_after_a_drop(
    online: Command, hub: LoopbackHub
) -> None:
    large = tiny_gguf(3 * 2**20 // 2)
    hub.add_repo(REPO, {NAME: large})
    hub.add_fault(faults.drop(11 * 2**20, times=1))
    hub.add_fault(faults.no_range())
    assert online("download", SPEC).status == 0
    assert (online.cwd / NAME).read_bytes() == large
    assert [entry.status for entry in hub.requests("cdn")] == [200, 200]


def start(online: Command, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, "download", SPEC, *words],
        cwd=online.cwd,
        env=online.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < patience, "waited 30 s in vain"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_interrupted_transfer_keeps_what_has_come_and_the_next_run_goes_on_from_there(
    online: Command, shelf: LoopbackHub
) -> None:
    shelf.add_fault(faults.slow(len(GOOD) // 60))
    run = start(online)
    wait_until(lambda: bool(shelf.requests("cdn")))
    time.sleep(1)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (130, "")
    *_, stopped, hint = err.splitlines()
    assert re.fullmatch(r"interrupted with 0\.0\d MB of 0\.03 MB there", stopped)
    assert hint == "hint: run the same command again to go on from there"
    assert NAME not in tree(online.cwd)
    shelf.clear_faults()
    shelf.log.clear()
    succeeds(online)
    (entry,) = shelf.requests("cdn")
    start_at = int(re.findall(r"bytes=(\d+)-", entry.range or "")[0])
    assert 0 < start_at < len(GOOD)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_interrupted_listing_leaves_nothing(online: Command, shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.hang(60, path=API))
    run = start(online)
    wait_until(lambda: any(API in entry.path for entry in shelf.requests("hub")))
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert tree(online.cwd) == set()


def test_run_after_a_killed_one_succeeds_and_clears_up(online: Command, shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.slow(len(GOOD) // 60))
    run = start(online)
    wait_until(lambda: bool(shelf.requests("cdn")))
    run.kill()
    run.communicate(timeout=10)
    assert tree(online.cwd)
    assert NAME not in tree(online.cwd)
    shelf.clear_faults()
    succeeds(online)


def test_two_runs_at_once_both_succeed_and_fetch_once(online: Command, shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.slow(len(GOOD) // 2))
    first = start(online)
    wait_until(lambda: bool(shelf.requests("cdn")))
    second = start(online)
    for run in (first, second):
        _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    assert (online.cwd / NAME).read_bytes() == GOOD
    assert tree(online.cwd) == {NAME, NOTICE, RECEIPT}
    assert len(shelf.requests("cdn")) == 1
