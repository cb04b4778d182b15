"""Locks: what is written down, whether the Hub has moved since, and downloads that obey them."""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

import quantpick
from quantpick.errors import LockError
from tests.support.downloads import GOOD, NAME, NOTICE, RECEIPT, REPO, SPEC, refused, tree
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command, Result

OTHER = "someone/other-GGUF"
OLD, NEW = "a1" * 20, "b2" * 20
LATER = tiny_gguf(4096, seed=1)
TINY = tiny_gguf()
LOCK = "quantpick.lock"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def row(path: str, data: bytes) -> dict[str, Any]:
    """Return a file as a lock has it."""
    return {"path": path, "bytes": len(data), "sha256": sha256(data)}


def quant(**other: object) -> dict[str, Any]:
    """Return a locked quant of one file."""
    about = {"repo": REPO, "commit": OLD, "label": "Q4_K_M", "file": [row(NAME, GOOD)]}
    return {**about, **other}


def write(path: Path, *quants: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps({"version": 1, "quant": quants}))
    return path


def read(online: Command) -> list[dict[str, Any]]:
    document = tomllib.loads((online.cwd / LOCK).read_text("utf-8"))
    assert document["version"] == 1
    return list(document["quant"])


def succeeds(result: Result) -> Result:
    assert result.status == 0, result.stderr
    return result


def fails(result: Result, *said: str, status: int = 9) -> None:
    assert result.status == status, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    told = result.stdout + result.stderr
    assert [text for text in said if text not in told] == [], told


@pytest.fixture
def moved(online: Command, hub: LoopbackHub) -> Command:
    """Return quantpick with a lock of a commit that the branch has left behind."""
    hub.add_repo(REPO, {NAME: GOOD}, sha=OLD)
    hub.add_repo(REPO, {NAME: LATER}, sha=NEW)
    write(online.cwd / LOCK, quant())
    return online


# What is written down


def test_lock_says_where_each_file_is_from_and_what_proves_it(
    online: Command, hub: LoopbackHub
) -> None:
    shards = {f"g-Q8_0-0000{n}-of-00002.gguf": tiny_gguf(seed=n) for n in (1, 2)}
    hub.add_repo(REPO, {NAME: GOOD, **shards, "README.md": b"# card"}, sha=OLD, license="gemma")
    hub.add_repo(OTHER, {"o-IQ2_M.gguf": TINY}, sha=NEW)
    done = succeeds(online("lock", f"{REPO}:q8_0", f"{OTHER}:IQ2_M", SPEC))
    files = [row(path, data) for path, data in shards.items()]
    about = {"repo": REPO, "commit": OLD, "license": "gemma"}
    assert read(online) == [
        {**about, "label": "Q8_0", "file": files},
        {"repo": OTHER, "commit": NEW, "label": "IQ2_M", "file": [row("o-IQ2_M.gguf", TINY)]},
        {**about, "label": "Q4_K_M", "file": [row(NAME, GOOD)]},
    ]
    text = (online.cwd / LOCK).read_text("utf-8")
    assert f'path = "{NAME}"\n' in text
    assert done.stdout.splitlines()[-1] == f"written: {LOCK}"
    assert (tree(online.cwd), hub.requests("cdn")) == ({LOCK}, [])


def test_document_tells_what_the_file_holds(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: GOOD}, sha=OLD, license="gemma")
    document = succeeds(online("lock", SPEC, "-o", "deep/my.lock", "--json")).json
    (one,) = document["quants"]
    assert (one["repo_id"], one["commit"], one["label"]) == (REPO, OLD, "Q4_K_M")
    assert (one["revision"], one["license"], one["total_bytes"]) == (None, "gemma", len(GOOD))
    assert one["files"] == [row(NAME, GOOD)]
    assert document["key"] == quantpick.lock_key(online.cwd / document["lock"])


def test_revision_is_kept_and_asked_for_again(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {NAME: LATER}, sha=NEW)
    hub.add_repo(REPO, {NAME: GOOD}, sha=OLD, revision="v1")
    succeeds(online("lock", f"{REPO}@v1:Q4_K_M"))
    before = read(online)
    assert [(one["revision"], one["commit"]) for one in before] == [("v1", OLD)]
    succeeds(online("lock"))
    assert read(online) == before


def test_auto_is_locked_as_the_quant_that_the_machine_gets(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: GOOD, "g-Q8_0.gguf": TINY})
    small = online("lock", f"{REPO}:auto", "--vram", "1MiB", "--ram", "1MiB")
    fails(small, "fits this machine", status=4)
    assert tree(online.cwd) == set()
    succeeds(online("lock", f"{REPO}:auto", "--vram", "24GiB"))
    assert [one["label"] for one in read(online)] == ["Q8_0"]


def test_projector_is_locked_along_and_again(online: Command, hub: LoopbackHub) -> None:
    projectors = {"mmproj-F16.gguf": TINY, "mmproj-Q8_0.gguf": LATER}
    hub.add_repo(REPO, {NAME: GOOD, **projectors})
    succeeds(online("lock", "--with-mmproj", "q8_0", SPEC))
    before = read(online)
    files = [row(NAME, GOOD), row("mmproj-Q8_0.gguf", LATER)]
    assert [one["file"] for one in before] == [files]
    succeeds(online("lock"))
    assert read(online) == before


def test_projector_asked_for_without_a_quant_is_not_passed_over(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: GOOD, "mmproj-F16.gguf": TINY}, sha=OLD)
    write(online.cwd / LOCK, quant())
    result = online("lock", "--with-mmproj")
    assert result.status == 2 or len(read(online)[0]["file"]) == 2, result.stdout


def test_file_locked_by_its_path_is_asked_for_by_its_path_again(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {"a/g-Q2_K.gguf": TINY, "b/g-Q2_K.gguf": GOOD, "own.gguf": LATER})
    succeeds(online("lock", f"{REPO}:b/g-Q2_K.gguf", f"{REPO}:own.gguf"))
    before = read(online)
    assert [one["file"][0]["path"] for one in before] == ["b/g-Q2_K.gguf", "own.gguf"]
    succeeds(online("lock", "--check"))
    succeeds(online("lock"))
    assert read(online) == before


def test_without_a_quant_all_of_the_lock_is_locked_anew(moved: Command) -> None:
    succeeds(moved("lock"))
    assert read(moved) == [quant(commit=NEW, file=[row(NAME, LATER)])]


def test_without_a_quant_and_a_lock_there_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="there is no"):
        quantpick.lock([], tmp_path / LOCK)


@pytest.mark.parametrize("text", ["# My notes\nBuy milk\n", '[project]\nversion = "1"\n', ""])
def test_file_that_is_no_lock_is_left_alone(online: Command, hub: LoopbackHub, text: str) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    (online.cwd / "notes").write_text(text)
    fails(online("lock", SPEC, "-o", "notes"), "notes")
    assert (online.cwd / "notes").read_text() == text


def test_file_that_nothing_proves_is_not_locked(online: Command, hub: LoopbackHub) -> None:
    bare = {"rfilename": NAME, "size": len(GOOD)}
    hub.add_repo(REPO, {NAME: GOOD}, info={"siblings": [bare]})
    fails(online("lock", SPEC), f"no sha256 of {NAME}")
    assert tree(online.cwd) == set()


# Its key


def test_key_is_one_line_and_needs_no_network(online: Command, hub: LoopbackHub) -> None:
    path = write(online.cwd / LOCK, quant())
    line = succeeds(online("lock", "--key")).stdout
    assert line == f"{quantpick.lock_key(path)}\n"
    assert re.fullmatch(r"[A-Za-z0-9._-]{10,80}\n", line)
    assert hub.log == []


def test_key_is_the_same_for_the_same_bytes_and_names(tmp_path: Path) -> None:
    two = quant(repo=OTHER, label="Q8_0", file=[row("b.gguf", GOOD), row("a.gguf", TINY)])
    turned = {**two, "file": two["file"][::-1], "license": "mit", "revision": "v2"}
    key = quantpick.lock_key(write(tmp_path / "1", quant(), two))
    assert quantpick.lock_key(write(tmp_path / "2", turned, quant(commit=NEW))) == key


@pytest.mark.parametrize(
    "other",
    [
        {"repo": OTHER},
        {"file": [row(NAME, LATER)]},
        {"file": [row("g2-Q4_K_M.gguf", GOOD)]},
        {"file": [row(NAME, GOOD), row("mmproj-F16.gguf", TINY)]},
    ],
    ids=["repo", "bytes", "name", "one more"],
)
def test_key_is_another_for_other_files(tmp_path: Path, other: dict[str, Any]) -> None:
    key = quantpick.lock_key(write(tmp_path / "1", quant()))
    assert quantpick.lock_key(write(tmp_path / "2", quant(**other))) != key


# Whether the Hub has moved


def test_check_says_of_each_quant_what_became_of_it(online: Command, hub: LoopbackHub) -> None:
    names = ("still/there", "moved/same", "moved/changed", "gone/label", "gone/repo")
    for name in names:
        hub.add_repo(name, {NAME: GOOD}, sha=OLD)
    write(online.cwd / LOCK, *(quant(repo=name) for name in names))
    hub.add_repo(names[1], {NAME: GOOD, "README.md": b"new card"}, sha=NEW)
    hub.add_repo(names[2], {NAME: LATER}, sha=NEW)
    hub.add_repo(names[3], {"g-Q8_0.gguf": GOOD}, sha=NEW)
    del hub.answers.repos[names[4]]
    before = (online.cwd / LOCK).read_bytes()
    result = online("lock", "--check")
    fails(result, "4 of 5 locked quants have moved", "quantpick lock -o quantpick.lock")
    lines = [line.partition(":Q4_K_M  ")[2] for line in result.stdout.splitlines()]
    assert lines[0] == "unchanged"
    commits = f"from {OLD[:12]} to {NEW[:12]}"
    assert lines[1:3] == [f"moved {commits}, with the same files", f"CHANGED {commits}"]
    assert [line.startswith("GONE: ") for line in lines] == [False, False, False, True, True]
    document = online("lock", "--check", "--json").json
    states = [(one["moved"], one["same_files"]) for one in document["quants"]]
    assert states == [(False, True), (True, True), (True, False), (True, False), (True, False)]
    assert "Q4_K_M" in document["quants"][3]["gone"]
    assert (document["moved"], document["error"]["code"]) == (True, "lock")
    assert (online.cwd / LOCK).read_bytes() == before


def test_commit_that_was_locked_by_its_hash_never_moves(moved: Command) -> None:
    succeeds(moved("lock", f"{REPO}@{OLD}:Q4_K_M"))
    assert succeeds(moved("lock", "--check")).stdout.endswith("unchanged\n")


def test_check_takes_no_quant(online: Command) -> None:
    fails(online("lock", SPEC, "--check"), "look at the lock alone", status=2)


# Downloads that obey


def test_locked_files_are_fetched_though_the_branch_has_moved(
    moved: Command, hub: LoopbackHub
) -> None:
    document = succeeds(moved("download", "--locked", "--json")).json
    assert document["lock"] == LOCK
    assert [one["revision"] for one in document["quants"]] == [OLD]
    assert document["quants"][0]["files"][0]["verified"] is True
    assert (moved.cwd / NAME).read_bytes() == GOOD
    assert tree(moved.cwd) == {LOCK, NAME, NOTICE, RECEIPT}
    assert not [entry for entry in hub.log if "/api/" in entry.path]


@pytest.mark.parametrize("place", [[], ["--cache"]], ids=["folder", "cache"])
def test_second_run_asks_nobody(moved: Command, hub: LoopbackHub, place: list[str]) -> None:
    succeeds(moved("download", "--locked", *place))
    hub.log.clear()
    document = succeeds(moved("download", "--frozen", "--json", *place)).json
    assert document["quants"][0]["files"][0]["reused"] is True
    succeeds(moved("download", "--locked", *place, HF_HUB_OFFLINE="1"))
    assert hub.log == []


def test_frozen_fetches_nothing(moved: Command, hub: LoopbackHub) -> None:
    refused(moved, "--frozen", status=9, said=f"{NAME} of {REPO} is not there", hint="--locked")
    assert (tree(moved.cwd), hub.log) == ({LOCK}, [])


def test_a_spec_fetches_the_quant_that_it_locked_and_no_other(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    hub.add_repo(OTHER, dict.fromkeys(["o-F16.gguf", "o-UD-Q4_K_XL.gguf", "own.gguf"], TINY))
    wanted = {
        f"{REPO}:q4_k_m": {NAME},
        f"{OTHER}:fp16": {"o-F16.gguf"},
        f"{OTHER}:Q4_K_XL": {"o-UD-Q4_K_XL.gguf"},
        f"{OTHER}:own.gguf": {"own.gguf"},
    }
    succeeds(online("lock", *wanted))
    found = {}
    for number, spec in enumerate(wanted):
        folder = online.cwd / str(number)
        result = online("download", "--locked", spec, "--local-dir", folder.name)
        models = {path for path in tree(folder) if path.endswith(".gguf")}
        found[spec] = result.stderr if result.status else models
    assert found == wanted


@pytest.mark.parametrize(
    "spec", [f"{REPO}:Q8_0", f"{OTHER}:Q4_K_M", f"{REPO}:x-Q8_0.gguf", f"{REPO}@v2:Q4_K_M"]
)
def test_quant_that_is_not_locked_is_refused(tmp_path: Path, spec: str) -> None:
    path = write(tmp_path / LOCK, quant())
    with pytest.raises(LockError, match="does not lock") as caught:
        quantpick.download_locked(path, spec, local_dir=tmp_path, frozen=True)
    assert caught.value.hints == (f"it locks {SPEC}",)
    assert tree(tmp_path) == {LOCK}


def test_what_the_hub_no_longer_has_as_locked_is_refused(moved: Command, hub: LoopbackHub) -> None:
    hub.replace_bytes(REPO, NAME, LATER)
    fails(moved("download", "--locked"), f"expected {sha256(GOOD)}")
    del hub.answers.repos[REPO].commits[OLD]
    fails(moved("download", "--locked"), f"no revision {OLD}")
    assert NAME not in tree(moved.cwd)


def test_locked_download_does_not_turn_back_the_branch_in_the_cache(
    moved: Command, tmp_path: Path
) -> None:
    succeeds(moved("download", SPEC, "--cache"))
    repo = tmp_path / "home/hf/hub/models--someone--gemma-3-270m-GGUF"
    assert (repo / "refs/main").read_text() == NEW
    succeeds(moved("download", "--locked", "--cache"))
    assert (repo / "snapshots" / OLD / NAME).read_bytes() == GOOD
    assert (repo / "refs/main").read_text() == NEW


@pytest.mark.parametrize(
    "words", [["--revision", "v1"], ["--with-mmproj"], ["--dry-run", "--frozen"]]
)
def test_the_lock_alone_says_what_is_fetched(moved: Command, words: list[str]) -> None:
    fails(moved("download", "--locked", *words), "the lock says what is fetched", status=2)


# Locks that nobody should obey

_PATHS = ("../evil", "a/../../evil", "/tmp/evil", "C:\\evil", "\x1b[31m", "a\nb", "")
_ROWS: tuple[dict[str, Any], ...] = (
    *({"sha256": wrong} for wrong in ("../../x", sha256(GOOD).upper(), 5, "")),
    *({"bytes": wrong} for wrong in (-1, "1", True, 10**400)),
)
_QUANTS: tuple[dict[str, Any], ...] = (
    *({"repo": wrong} for wrong in ("../..", "http://evil.example/x", "some one/x", "x", 5)),
    *({"commit": wrong} for wrong in ("main", OLD.upper(), "../" * 14, 5)),
    *({"revision": wrong} for wrong in (5, "../../../evil", "/tmp/evil", "v1\x1b[2J")),
    *({"file": wrong} for wrong in ([], ["x"], [{"path": NAME, "bytes": 1}], "x")),
    {"label": "Q4\x1b[2J"},
    {"file": [row(NAME, GOOD), row(NAME, LATER)]},
)
HOSTILE = [
    *(quant(file=[row(path, GOOD)]) for path in _PATHS),
    *(quant(file=[{**row(NAME, GOOD), **wrong}]) for wrong in _ROWS),
    *(quant(**wrong) for wrong in _QUANTS),
    {"repo": REPO, "label": "Q4_K_M", "file": [row(NAME, GOOD)]},
]
BROKEN = [b"{", b"\xff\xfe", b"x = " + b"[" * 10_000, b"version = 2", b"version = 1\nquant = 5"]


@pytest.mark.parametrize("lock", [*HOSTILE, *BROKEN], ids=lambda lock: str(lock)[-100:])
def test_hostile_lock_is_refused_and_nothing_is_written(
    tmp_path: Path, lock: dict[str, Any] | bytes
) -> None:
    path = tmp_path / LOCK
    if isinstance(lock, bytes):
        path.write_bytes(lock)
    else:
        write(path, lock)
    with pytest.raises(LockError, match=r"cannot read|is no lock|has version") as caught:
        # Frozen, so that a lock which is obeyed after all does not leave the machine.
        quantpick.download_locked(path, local_dir=tmp_path / "there", frozen=True)
    assert caught.value.message.isprintable()
    assert tree(tmp_path) == {LOCK}


def test_hostile_lock_is_refused_by_each_command(online: Command, hub: LoopbackHub) -> None:
    write(online.cwd / LOCK, HOSTILE[0])
    for words in (["download", "--locked"], ["lock", "--check"], ["lock", "--key"], ["lock"]):
        fails(online(*words), "error: quantpick.lock is no lock that can be trusted")
    assert (tree(online.cwd), hub.log) == ({LOCK}, [])


def test_hostile_revision_overwrites_nothing(moved: Command) -> None:
    mine = moved.cwd / "mine"
    mine.write_text("mine")
    write(moved.cwd / LOCK, quant(revision=str(mine)))
    result = moved("download", "--locked", "--cache")
    assert mine.read_text() == "mine"
    fails(result, LOCK)
