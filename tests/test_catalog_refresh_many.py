"""``quantpick catalog refresh`` over many repos: bounded, patient with limits, and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from quantpick.sources.sweep import sweep
from tests.hub import faults
from tests.support.catalogs import Shop, entry, get, ordered, put, put_aliases, row
from tests.test_download_trouble import wait_until

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command


def many(online: Command, hub: LoopbackHub, count: int) -> Shop:
    """Return a shop with so many repos that all have one row that could be exact."""
    shop = Shop(online)
    for number in range(count):
        repo_id = f"repo/r-{number:04}"
        hub.add_repo(repo_id, {f"m-{number}-Q8_0.gguf": b"%04d" % number}, license="apache-2.0")
        rounded = row("Q8_0", 10, rounded_to=10, paths=[f"m-{number}-Q8_0.gguf"])
        put(shop.catalog, repo_id, entry(ordered(rounded)))
    put_aliases(shop.catalog, "repo/r-0000")
    return shop


def asked(hub: LoopbackHub) -> list[str]:
    """Return the repos that were asked about, in the order of the calls that were answered."""
    calls = [call.path for call in hub.requests("hub") if call.status == 200]
    return [call.partition("/api/models/")[2].partition("?")[0] for call in calls]


def test_named_repos_alone_are_asked(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 6)
    shop("repo/r-0002", "repo/r-0004")
    assert sorted(asked(hub)) == ["repo/r-0002", "repo/r-0004"]


class _Gate:
    """Counts the transfers that are under way at once, by holding each until so many are there."""

    def __init__(self, hub: LoopbackHub, wanted: int) -> None:
        self.now = self.most = 0
        self._lock, full = threading.Lock(), threading.Event()
        answer = hub.answers.answer

        def held(request: Any) -> Any:  # noqa: ANN401 -- as the hub has it
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
                if self.now == wanted:
                    full.set()
            full.wait(30)
            time.sleep(0.05)
            with self._lock:
                self.now -= 1
            return answer(request)

        hub.answers.answer = held  # type: ignore[method-assign]


@pytest.mark.parametrize("connections", [1, 4])
def test_so_many_repos_are_asked_at_once_and_no_more(
    connections: int, online: Command, hub: LoopbackHub
) -> None:
    shop, gate = many(online, hub, 24), _Gate(hub, connections)
    shop("--connections", str(connections))
    assert gate.most == connections
    assert len(asked(hub)) == 24


def test_limits_are_waited_for_and_nobody_is_left_out(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 30)
    hub.api_limit = 12
    done = shop("--connections", "3")
    assert "30 repos: 0 as catalogued, 30 changed" in done.stdout
    assert sorted(asked(hub)) == sorted(f"repo/r-{n:04}" for n in range(30))
    # Each of three threads learns of the limit once in each of two windows.
    refused = [call for call in hub.requests("hub") if call.status == 429]
    assert 0 < len(refused) <= 2 * 3


def test_limit_that_is_too_long_ends_the_run_and_the_next_goes_on(
    online: Command, hub: LoopbackHub
) -> None:
    shop = many(online, hub, 20)
    wait = faults.status(429, headers={"Retry-After": "4000"}, path="repo/r-0010")
    hub.add_fault(wait)
    done = shop("--connections", "1", status=5)
    assert "the Hub limits requests: wait 4000 s" in done.stderr
    assert "! repo/r-0010" in done.stdout
    # The one thread may be some answers ahead, but does not ask on for ever.
    first = asked(hub)
    assert len([call for call in hub.requests("hub") if call.status == 429]) == 1
    hub.clear_faults()
    hub.log.clear()
    again = shop("--connections", "1")
    assert "20 repos: 0 as catalogued, 20 changed" in again.stdout
    assert set(asked(hub)).isdisjoint(f"repo/r-{n:04}" for n in range(10))
    assert {*first, *asked(hub)} == {f"repo/r-{n:04}" for n in range(20)}


def test_hub_that_is_away_is_not_asked_about_every_repo(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 40)
    hub.add_fault(faults.status(503))
    done = shop("--connections", "2", "--retries", "0", status=5)
    assert "error: the Hub answered 503" in done.stderr
    assert len(hub.requests("hub")) < 40


def test_wait_that_no_clock_can_tell_is_no_wait(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 2)
    never = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 +99999999999999999999"}
    hub.add_fault(faults.status(429, headers=never, times=1))
    assert "2 repos: 0 as catalogued, 2 changed" in shop().stdout


@pytest.mark.parametrize("code", [401, 403])
def test_wrong_token_makes_no_repo_count_as_gone(
    code: int, online: Command, hub: LoopbackHub
) -> None:
    shop = many(online, hub, 12)
    hub.add_fault(faults.status(code))
    done = shop("--connections", "1", status=6)
    assert f"! repo/r-0000  the Hub refuses access to repo/r-0000 ({code})" in done.stdout
    assert "its entry stays" not in done.stdout
    assert "HF_TOKEN" in done.stderr


def test_gated_repo_keeps_its_entry_and_fails_nothing(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 2)
    hub.add_fault(faults.status(403, x_error_code="GatedRepo", path="repo/r-0001"))
    assert "- repo/r-0001  its entry stays, but repo/r-0001 is gated" in shop().stdout


def test_few_repos_that_fail_are_asked_about_alone_the_next_time(
    online: Command, hub: LoopbackHub
) -> None:
    shop = many(online, hub, 12)
    hub.add_fault(faults.status(503, path="repo/r-0003"))
    done = shop("--write", "--retries", "0", status=5)
    assert "1 of 12 repos could not be compared" in done.stderr
    hub.clear_faults()
    hub.log.clear()
    again = shop("--write", "--retries", "0")
    assert asked(hub) == ["repo/r-0003"]
    assert "12 repos: 0 as catalogued, 12 changed" in again.stdout
    assert all(
        "rounded_to" not in get(shop.catalog, f"repo/r-{n:04}")["files"][0] for n in range(12)
    )


def older(online: Command, seconds: int) -> None:
    """Make all findings that are kept older."""
    for path in (online.cwd / "kept" / "refresh").iterdir():
        kept = json.loads(path.read_text("utf-8"))
        for finding in kept["record"].values():
            finding[0] -= seconds
        path.write_text(json.dumps(kept), "utf-8")


def test_repo_that_always_fails_keeps_no_finding_of_others_for_ever(
    online: Command, hub: LoopbackHub
) -> None:
    shop = many(online, hub, 6)
    hub.add_fault(faults.status(503, path="repo/r-0003"))
    shop("--retries", "0", status=5)
    for _ in range(2):
        hub.log.clear()
        older(online, 50_000)
        shop("--retries", "0", status=5)
    assert len(asked(hub)) == 5


# Interrupted


def interrupt(shop: Shop, hub: LoopbackHub, *words: str) -> None:
    """Run a refresh and end it as Ctrl-C does after twenty repos; the Hub holds back the next.

    By SIGTERM, as what runs in the background of a shell does not hear SIGINT.
    """
    hub.add_fault(faults.hang(path="repo/r-0020"))
    child = subprocess.Popen(
        [sys.executable, "-m", "quantpick", "catalog", "refresh", "--connections", "1", *words],
        cwd=shop.online.cwd,
        env=shop.online.environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    seen = 0
    for line in child.stdout:
        seen += "now exact" in line
        if seen == 20:
            break
    # It has asked for the next: a request that comes later would count as the next run's.
    wait_until(lambda: "repo/r-0020" in hub.log[-1].path)
    os.kill(child.pid, signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    hub.clear_faults()
    hub.log.clear()


@pytest.mark.skipif(sys.platform == "win32", reason="ends it as POSIX does")
def test_interrupted_run_goes_on_where_it_was(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 40)
    interrupt(shop, hub)
    whole = shop()
    assert asked(hub).count("repo/r-0020") == 1
    assert sorted(asked(hub)) == [f"repo/r-{n:04}" for n in range(20, 40)]
    # What was found before is told too, and the whole is forgotten once it is done.
    assert whole.stdout.count("now exact:") == 40
    hub.log.clear()
    shop()
    assert len(asked(hub)) == 40


@pytest.mark.skipif(sys.platform == "win32", reason="ends it as POSIX does")
def test_interrupted_run_has_written_what_it_found(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 40)
    interrupt(shop, hub, "--write")
    exact = ["rounded_to" not in get(shop.catalog, f"repo/r-{n:04}")["files"][0] for n in range(40)]
    assert exact == [True] * 20 + [False] * 20
    assert shop.online("catalog", "check").stdout == "40 repos with 40 quants: no fault\n"
    # A finding about an entry that was edited since holds no more.
    put(shop.catalog, "repo/r-0005", entry(ordered(row("Q8_0", 10, rounded_to=10))))
    shop("--write")
    assert sorted(asked(hub)) == ["repo/r-0005", *(f"repo/r-{n:04}" for n in range(20, 40))]


def test_index_that_a_killed_run_left_behind_is_made_anew(
    online: Command, hub: LoopbackHub
) -> None:
    shop = many(online, hub, 3)
    shop.online("catalog", "check", "--write-index")
    before = (shop.catalog / "index.json").read_text("utf-8")
    shop("--write")
    (shop.catalog / "index.json").write_text(before, "utf-8")
    assert "3 repos: 3 as catalogued" in shop("--write").stdout
    assert shop.online("catalog", "check").status == 0


@pytest.mark.skipif(sys.platform == "win32", reason="ends it as POSIX does")
def test_old_findings_are_not_gone_on_from(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 40)
    interrupt(shop, hub)
    older(online, 90_000)
    shop()
    assert len(asked(hub)) == 40


@pytest.mark.skipif(sys.platform == "win32", reason="ends it as POSIX does")
def test_spoilt_findings_are_found_again(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 40)
    interrupt(shop, hub)
    for path in (online.cwd / "kept" / "refresh").iterdir():
        kept = json.loads(path.read_text("utf-8"))
        for finding in kept["record"].values():
            finding[2] = ["changed", [["sideways", 1]], 7]
        path.write_text(json.dumps(kept), "utf-8")
    assert "40 changed" in shop().stdout
    assert len(asked(hub)) == 40


@pytest.mark.skipif(sys.platform == "win32", reason="ends it as POSIX does")
def test_what_was_only_shown_is_written_by_the_next_run(online: Command, hub: LoopbackHub) -> None:
    shop = many(online, hub, 40)
    interrupt(shop, hub)
    shop("--write")
    rows = [get(shop.catalog, f"repo/r-{n:04}")["files"][0] for n in range(40)]
    assert [one for one in rows if "rounded_to" in one] == []


def test_bug_in_a_thread_is_told_as_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        list(sweep(range(3, -1, -1), lambda number: 6 // number, 2))


def take(shop: Shop, count: int, connections: int = 8, wait: float = 0) -> None:
    """Take some answers of a refresh through the Python API, wait, and end it."""
    code = (
        "import threading, time; from quantpick.api.refresh import catalogued, refresh; "
        "from quantpick.domain.policy import Policy; "
        f"found = refresh(catalogued([]), policy=Policy(connections={connections})); "
        f"print([next(found).state for _ in range({count})]); time.sleep({wait}); found.close(); "
        # What is under way is answered before the end, and not while the next run is looked at.
        "[one.join() for one in threading.enumerate() if one is not threading.main_thread()]"
    )
    env = shop.online.environment()
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == 0, done.stderr


def test_run_that_ends_early_loses_nothing_of_the_one_before(
    online: Command, hub: LoopbackHub
) -> None:
    shop = many(online, hub, 90)
    take(shop, 70)
    take(shop, 3)
    hub.log.clear()
    shop()
    assert sorted(asked(hub)) == [f"repo/r-{n:04}" for n in range(70, 90)]


def test_no_more_answers_are_fetched_than_are_soon_wanted(
    online: Command, hub: LoopbackHub
) -> None:
    shop = many(online, hub, 200)
    take(shop, 1, connections=2, wait=2)
    # For each connection the one under way and four that wait.
    assert 2 <= len(asked(hub)) <= 1 + 2 * 5


def test_five_thousand_repos_take_one_call_each_and_no_more_memory_than_fifty(
    online: Command, hub: LoopbackHub
) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux tells a process how much memory it took at most")
    shop = many(online, hub, 5000)
    few, _ = measured(shop, hub, [f"repo/r-{n:04}" for n in range(50)])
    peak, calls = measured(shop, hub, [])
    assert calls == 5000
    assert peak < few + (8 << 20), (few, peak)


def measured(shop: Shop, hub: LoopbackHub, words: list[str]) -> tuple[int, int]:
    """Return the peak memory of a refresh in bytes, and how many calls it made."""
    hub.log.clear()
    child = (
        "import sys; from pathlib import Path; from quantpick.cli.main import run; "
        "status = run(sys.argv[1:]); "
        "sys.stderr.write(Path('/proc/self/status').read_text()); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, "catalog", "refresh", *words],
        cwd=shop.online.cwd,
        env=shop.online.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10, len(asked(hub))
