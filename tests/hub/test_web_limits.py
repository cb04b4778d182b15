"""Tokens that cannot be sent, no network, a silent or busy Hub, and how often it is asked."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hub import faults
from tests.hub.asking import (
    COMMIT,
    GOOD,
    NAME,
    REPO,
    SHARDS,
    SPEC,
    TOKEN,
    asked,
    fails,
    fill,
    succeeds,
    tokens,
)
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from tests.hub.faults import Fault
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

SPLIT = f"{REPO}:Q8_0"
AT = ("--revision", COMMIT)


@pytest.fixture
def shelf(hub: LoopbackHub) -> LoopbackHub:
    """Return the hub with a repo of one single and one split quant."""
    fill(hub)
    return hub


# Tokens


@pytest.mark.parametrize("token", [" hf_accepted\n", "hf_\naccepted", "hf_accepted\r\n"])
def test_token_is_sent_without_what_no_token_has(
    online: Command, shelf: LoopbackHub, token: str
) -> None:
    succeeds(online, SPEC, HF_TOKEN=token)
    assert tokens(shelf) == [("api", True), ("resolve", True), ("cdn", False)]


@pytest.mark.parametrize("words", [[SPEC], ["--locked"]], ids=["spec", "locked"])
@pytest.mark.parametrize("token", ["hf_gehëim", "hf_geh\x01im", "hf_geh\x7fim"])
def test_token_that_cannot_be_sent_is_refused_and_not_shown(
    online: Command, shelf: LoopbackHub, words: list[str], token: str
) -> None:
    assert online("lock", SPEC).status == 0
    shelf.log.clear()
    result = online("download", *words, HF_TOKEN=token)
    assert result.status == 6
    assert "error: the token cannot be sent" in result.stderr
    assert "hint: check HF_TOKEN" in result.stderr
    assert "geh" not in result.stdout + result.stderr
    assert shelf.log == []


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["folder", "bytes"])
def test_token_file_that_cannot_be_read_is_no_bug(
    online: Command, shelf: LoopbackHub, content: bytes | None
) -> None:
    place = Path(online.env["HF_HOME"], "token")
    place.parent.mkdir()
    if content is None:
        place.mkdir()
    else:
        place.write_bytes(content)
    succeeds(online, SPEC)
    assert asked(shelf) == ["api", "resolve", "cdn"]


def test_hf_home_holds_the_token_and_the_cache(
    online: Command, shelf: LoopbackHub, tmp_path: Path
) -> None:
    home = tmp_path / "other"
    home.mkdir()
    (home / "token").write_text(f"{TOKEN}\n")
    succeeds(online, "--cache", SPEC, HF_HOME=str(home))
    assert tokens(shelf)[0] == ("api", True)
    (shown,) = home.glob(f"hub/models--*/snapshots/{COMMIT}/{NAME}")
    assert shown.read_bytes() == GOOD
    assert not Path(online.env["HF_HOME"]).exists()
    succeeds(online, "--cache", SPEC, HF_HOME=str(home), HF_HUB_CACHE=str(tmp_path / "third"))
    assert len(list(tmp_path.glob(f"third/models--*/snapshots/{COMMIT}/{NAME}"))) == 1


# No network


@pytest.mark.parametrize("place", [[], ["--cache"]], ids=["folder", "cache"])
def test_offline_mode_is_no_hindrance_where_all_is_there(
    online: Command, shelf: LoopbackHub, place: list[str]
) -> None:
    for spec in (SPEC, SPLIT):
        succeeds(online, *AT, *place, spec)
        shelf.log.clear()
        succeeds(online, *AT, *place, spec, HF_HUB_OFFLINE="1")
        assert shelf.log == []


@pytest.mark.parametrize(
    "words",
    [
        [SPEC, "--cache"],
        [SPEC, "--cache", "--revision", "main"],
        [SPEC, *AT, "--local-dir", "x"],
        [SPLIT, "--cache", *AT],
        ["someone/other:Q4_K_M", "--cache", *AT],
    ],
    ids=["no-revision", "branch", "no-file", "other-quant", "other-repo"],
)
def test_offline_mode_is_named_where_something_is_missing(
    online: Command, shelf: LoopbackHub, words: list[str]
) -> None:
    succeeds(online, "--cache", SPEC, *AT)
    shelf.log.clear()
    assert "HF_HUB_OFFLINE" in fails(online, *words, HF_HUB_OFFLINE="1")
    assert shelf.log == []


# A Hub that is silent


def test_hub_that_never_answers_is_given_up_in_time(online: Command, hub: LoopbackHub) -> None:
    repos = {"o/api": "/api/models/o/api", "o/link": "/o/link/resolve/", "o/file": "file-Q4_K_M"}
    for seed, repo in enumerate(repos):
        hub.add_repo(repo, {f"{repo[2:]}-Q4_K_M.gguf": tiny_gguf(seed=seed)}, sha=f"{seed}" * 40)
    for repo, path in repos.items():
        hub.add_fault(faults.hang(path=path, server="cdn" if repo == "o/file" else "hub"))
    start = time.monotonic()
    with ThreadPoolExecutor(len(repos)) as pool:
        there = replace(online, env={**online.env, "HF_HUB_DOWNLOAD_TIMEOUT": "3"})
        runs = [pool.submit(fails, there, f"{repo}:Q4_K_M", "--retries", "1") for repo in repos]
    assert [repo for repo, run in zip(repos, runs, strict=True) if repo not in run.result()] == []
    # Two tries of three seconds each and the second between them.
    assert 7 <= time.monotonic() - start < 60
    assert len([entry for entry in hub.log if entry.status == 0]) == 2 * len(repos)


# A Hub that is busy

#: Seconds to come back after: more than quantpick waits by itself before its second try.
LATER = 3


def waits() -> dict[str, dict[str, str]]:
    """Return ways to say "come back in some seconds"."""
    then = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=LATER + 1)
    return {
        "seconds": {"Retry-After": str(LATER)},
        "date": {"Retry-After": format_datetime(then, usegmt=True)},
        "limit": {"RateLimit": f'"api";r=0;t={LATER}'},
    }


def test_hub_that_asks_to_wait_is_waited_for(online: Command, hub: LoopbackHub) -> None:
    start, cases = time.time(), list(product(("api", "resolve", "cdn"), waits().items()))
    for place, (way, headers) in cases:
        name = f"{place}-{way}"
        hub.add_repo(f"o/{name}", {f"{name}-Q4_K_M.gguf": GOOD}, sha=COMMIT)
        hub.add_fault(busy(place, name, headers, times=1))
    names = [f"{place}-{way}" for place, (way, _) in cases]
    with ThreadPoolExecutor(len(names)) as pool:
        ends = list(pool.map(lambda name: timed(online, f"o/{name}:Q4_K_M"), names))
    assert {name: end for name, end in zip(names, ends, strict=True) if end < start + LATER} == {}
    assert {(online.cwd / f"{name}-Q4_K_M.gguf").read_bytes() for name in names} == {GOOD}
    assert len([entry for entry in hub.log if entry.status == 429]) == len(names)


def timed(online: Command, spec: str) -> float:
    """Download with one further try, and return when it was done."""
    result = online("download", spec, "--retries", "1")
    assert result.status == 0, result.stderr
    return time.time()


def busy(place: str, name: str, headers: dict[str, str], times: int | None = None) -> Fault:
    """Return a fault that refuses a repo's requests of one kind."""
    paths = {"api": f"/api/models/o/{name}", "resolve": f"/o/{name}/resolve/", "cdn": f"{name}-Q4"}
    server: faults.Server = "cdn" if place == "cdn" else "hub"
    return faults.status(429, headers=headers, path=paths[place], server=server, times=times)


@pytest.mark.parametrize("zone", ["-0000", "+0200"])
@pytest.mark.parametrize("path", ["/api/", "/resolve/"])
def test_date_to_wait_for_in_another_form_is_no_bug(
    online: Command, shelf: LoopbackHub, path: str, zone: str
) -> None:
    # Python's own formatdate() writes -0000.
    date = f"Mon, 23 Nov 2020 09:00:00 {zone}".strip()
    shelf.add_fault(faults.status(429, headers={"Retry-After": date}, path=path, times=1))
    succeeds(online, SPEC, "--retries", "1")
    assert [entry.status for entry in shelf.log].count(429) == 1


@pytest.mark.parametrize("place", ["api", "resolve", "cdn"])
@pytest.mark.parametrize("header", ["Retry-After", "RateLimit"])
def test_hub_that_asks_to_wait_long_is_not_waited_for(
    online: Command, hub: LoopbackHub, place: str, header: str
) -> None:
    text = {"Retry-After": "100000", "RateLimit": '"api";r=0;t=100000'}[header]
    hub.add_repo("o/long", {"long-Q4_K_M.gguf": GOOD}, sha=COMMIT)
    hub.add_fault(busy(place, "long", {header: text}))
    result = online("download", "o/long:Q4_K_M")
    assert result.status == 5
    assert "100000 s" in result.stderr
    assert len([entry for entry in hub.log if entry.status == 429]) == 1


# How often


def test_fresh_run_asks_for_the_listing_once_and_for_each_file_once(
    online: Command, shelf: LoopbackHub
) -> None:
    succeeds(online, SPEC)
    assert asked(shelf) == ["api", "resolve", "cdn"]
    shelf.log.clear()
    succeeds(online, SPLIT)
    assert sorted(asked(shelf)) == ["api", "cdn", "cdn", "resolve", "resolve"]


def test_many_ranges_of_a_file_use_one_link(online: Command, hub: LoopbackHub) -> None:
    large = tiny_gguf(3 << 20)
    hub.add_repo(REPO, {NAME: large}, sha=COMMIT)
    assert online("download", SPEC).status == 0
    assert (online.cwd / NAME).read_bytes() == large
    assert [asked(hub).count(kind) for kind in ("api", "resolve")] == [1, 1]
    assert asked(hub).count("cdn") > 3


def test_commit_that_was_listed_before_is_not_listed_again(
    online: Command, shelf: LoopbackHub
) -> None:
    succeeds(online, SPEC)
    shelf.log.clear()
    succeeds(online, SPLIT, *AT)
    assert "api" not in asked(shelf)
    assert asked(shelf).count("cdn") == len(SHARDS)
    shelf.log.clear()
    succeeds(online, SPLIT, *AT)
    assert shelf.log == []


@pytest.mark.parametrize("place", [[], ["--cache"]], ids=["folder", "cache"])
def test_locked_run_asks_for_no_listing_and_the_next_one_for_nothing(
    online: Command, shelf: LoopbackHub, tmp_path: Path, place: list[str]
) -> None:
    assert online("lock", SPEC).status == 0
    assert asked(shelf) == ["api"]
    shelf.log.clear()
    # Another machine: nothing is known there but the lock.
    env = {"QUANTPICK_CACHE": str(tmp_path / "empty")}
    succeeds(online, "--locked", *place, **env)
    assert asked(shelf) == ["resolve", "cdn"]
    for words, more in (("--locked", {}), ("--frozen", {}), ("--locked", {"HF_HUB_OFFLINE": "1"})):
        shelf.log.clear()
        succeeds(online, words, *place, **env, **more)
        assert shelf.log == []
