"""Receipts beside what was fetched, and files on disk that are checked again."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import quantpick
from quantpick.domain.verification import State
from quantpick.errors import IntegrityError, NotFoundError
from tests.hub.loopback import LoopbackHub
from tests.support.command import Command
from tests.support.downloads import GOOD, NAME, NOTICE, RECEIPT, REPO, SPEC, tree
from tests.support.gguf_files import MODEL_NAME, MODEL_SIZE, split_gguf, tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Callable

    from quantpick.domain.verification import Verification

COMMIT = "c3" * 20
TINY = tiny_gguf()
OTHER = tiny_gguf(4096, seed=1)
PARTS = [GOOD[:11_111], GOOD[11_111:]]
SHARDS = [f"g-Q8_0/g-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
RAW = "g-Q2_K.gguf"
MMPROJ = "mmproj-F16.gguf"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fetch one of each once: a file with its projector, shards, raw parts, one into the cache."""
    base = tmp_path_factory.mktemp("shelf")
    (base / "work").mkdir()
    (base / "tiny.gguf").write_bytes(GOOD)
    shards = split_gguf(base / "tiny.gguf", base / "cut", 2)
    files: dict[str, bytes | Path] = {NAME: GOOD, MMPROJ: OTHER, "README.md": b"# card"}
    files |= dict(zip(SHARDS, shards, strict=True))
    files |= {f"{RAW}.part{number}of2": part for number, part in enumerate(PARTS, 1)}
    with LoopbackHub() as hub:
        hub.add_repo(REPO, files, sha=COMMIT, license="gemma")
        home = {"HOME": str(base / "home"), "HF_HOME": str(base / "hf")}
        online = Command(base / "work", {**home, "HF_ENDPOINT": hub.endpoint})
        for words in (
            [SPEC, "--with-mmproj", "--local-dir", "one"],
            [f"{REPO}:Q8_0", "--local-dir", "set"],
            [f"{REPO}:Q2_K", "--local-dir", "raw"],
            [SPEC, "--cache"],
        ):
            result = online("download", *words)
            assert result.status == 0, result.stderr
    return base


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep notes of what was proven away from the user's own."""
    monkeypatch.setenv("QUANTPICK_CACHE", str(tmp_path / "kept"))


@pytest.fixture
def here(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what was fetched, to be spoilt, as the folder that paths begin in."""
    shutil.copytree(shelf / "work", tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Path()


def states(found: Verification) -> dict[str, str]:
    return {Path(file.path).as_posix(): file.state.value for file in found.files}


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def receipt(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text("utf-8"))
    assert isinstance(record, dict)
    return record


# Receipts


def test_receipt_says_where_the_files_are_from_and_what_proves_them(here: Path) -> None:
    record = receipt(here / "one" / RECEIPT)
    files = record.pop("files")
    assert record == {"format": 1, "repo_id": REPO, "license": "gemma"}
    assert [(row["path"], row["parts"][0]["bytes"]) for row in files] == [
        (NAME, len(GOOD)),
        (MMPROJ, len(OTHER)),
    ]
    for row in files:
        fetched = datetime.fromisoformat(row["fetched"])
        assert timedelta(0) <= datetime.now(UTC) - fetched < timedelta(hours=1)
        about = (row["label"], row["revision"], row["quantpick"])
        assert about == ("Q4_K_M", COMMIT, quantpick.__version__)
    assert tree(here / "one") == {NAME, MMPROJ, NOTICE, RECEIPT}


def test_receipt_of_joined_parts_names_each_of_them(here: Path) -> None:
    (row,) = receipt(next((here / "raw").glob("*.quantpick.json")))["files"]
    assert row["path"] == RAW
    assert [part["path"] for part in row["parts"]] == [f"{RAW}.part1of2", f"{RAW}.part2of2"]
    assert [part["bytes"] for part in row["parts"]] == [len(part) for part in PARTS]
    assert (here / "raw" / RAW).read_bytes() == GOOD


def test_receipt_keeps_its_date_until_something_else_is_fetched(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    where = online.cwd / RECEIPT
    assert online("download", SPEC).status == 0
    record = receipt(where)
    record["files"][0]["fetched"] = "2026-01-01T00:00:00+00:00"
    where.write_text(json.dumps(record))
    assert online("download", SPEC).status == 0
    assert receipt(where) == record
    hub.add_repo(REPO, {NAME: OTHER}, sha=COMMIT)
    assert online("download", SPEC, "--force").status == 0
    (row,) = receipt(where)["files"]
    assert row["revision"] == COMMIT
    assert not row["fetched"].startswith("2026-01-01")


@pytest.mark.parametrize("damage", [b"{", b"[]", b"[" * 100_000], ids=range(3))
def test_damaged_receipt_is_an_error_to_check_with_and_written_anew_by_download(
    online: Command, hub: LoopbackHub, damage: bytes
) -> None:
    hub.add_repo(REPO, {NAME: GOOD})
    (online.cwd / RECEIPT).write_bytes(damage)
    with pytest.raises(IntegrityError, match="receipt"):
        quantpick.verify([online.cwd])
    result = online("download", SPEC)
    assert result.status == 0, result.stderr
    assert receipt(online.cwd / RECEIPT)["files"][0]["label"] == "Q4_K_M"


def test_receipts_of_several_quants_in_one_folder_do_not_displace_each_other(
    online: Command, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a/g-Q2_K.gguf": TINY, "b/g-Q2_K.gguf": OTHER, NAME: GOOD, MMPROJ: OTHER}
    hub.add_repo(REPO, files)
    specs = [[f"{REPO}:a/g-Q2_K.gguf"], [f"{REPO}:b/g-Q2_K.gguf"], [SPEC, "--with-mmproj"], [SPEC]]
    for words in specs:
        assert online("download", *words).status == 0
    monkeypatch.chdir(online.cwd)
    assert states(quantpick.verify([Path()])) == dict.fromkeys(files, "ok")


def test_notice_and_receipt_of_a_locked_download_are_those_of_any(
    online: Command, hub: LoopbackHub
) -> None:
    about = {"license": "llama3.1", "base_model": "meta-llama/Meta-Llama-3.1-70B-Instruct"}
    hub.add_repo(REPO, {NAME: GOOD}, **about)  # type: ignore[arg-type]
    for words in (["lock", SPEC], ["download", SPEC], ["download", "--locked"]):
        place = ["--local-dir", words[-1][-1]] if words[0] == "download" else []
        assert online(*words, *place).status == 0
    places = [online.cwd / "M", online.cwd / "d"]
    receipts = [receipt(place / RECEIPT) for place in places]
    for record in receipts:
        record["files"][0]["fetched"] = ""
    assert receipts[0] == receipts[1]
    assert (places[0] / NOTICE).read_text("utf-8") == (places[1] / NOTICE).read_text("utf-8")


# Checks against receipts


@pytest.mark.parametrize("folder", ["one", "set", "raw"])
def test_folder_that_is_as_it_was_fetched_is_right(here: Path, folder: str) -> None:
    found = quantpick.verify([here / folder])
    models = {f"{folder}/{path}" for path in tree(here / folder) if path.endswith(".gguf")}
    assert states(found) == dict.fromkeys(models, "ok")
    assert {file.against for file in found.files} == {"receipt"}
    assert {file.fault for file in found.files} == {None}
    assert all(file.size == Path(file.path).stat().st_size for file in found.files)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip_first(path: Path) -> None:
    flip(path, 0)


@pytest.mark.parametrize("spoil", [flip, flip_first, cut, grow])
@pytest.mark.parametrize("name", [f"one/{NAME}", f"one/{MMPROJ}", f"raw/{RAW}", f"set/{SHARDS[1]}"])
def test_spoilt_file_is_found_by_its_name_and_in_its_folder(
    here: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(here / name)
    for path in (here / name, here / name.partition("/")[0]):
        found = quantpick.verify([path])
        wrong = [file for file in found.files if file.state is not State.OK]
        assert [(Path(file.path).as_posix(), file.state) for file in wrong] == [(name, State.WRONG)]
        assert "expected" in str(wrong[0].fault)


@pytest.mark.parametrize("folder", ["set", ".", "set/g-Q8_0"], ids=["root", "above", "below"])
def test_missing_shard_is_missed_wherever_the_folder_is_named(here: Path, folder: str) -> None:
    (here / "set" / SHARDS[1]).unlink()
    found = states(quantpick.verify([here / folder]))
    assert found[f"set/{SHARDS[0]}"] == "ok"
    assert found.get(f"set/{SHARDS[1]}") == "missing"


def test_file_that_nothing_tells_of_is_unproven(here: Path) -> None:
    (here / "one/deep").mkdir()
    (here / "one/deep/x.gguf").write_bytes(GOOD)
    (here / "one/deep/notes.txt").write_text("no model")
    found = quantpick.verify([here / "one"])
    wanted = {f"one/{NAME}": "ok", f"one/{MMPROJ}": "ok", "one/deep/x.gguf": "unproven"}
    assert states(found) == wanted


@pytest.mark.parametrize("data", [GOOD[:300], GOOD[:-40], b"no GGUF", b""], ids=range(4))
def test_unproven_file_that_is_not_whole_in_itself_is_wrong(here: Path, data: bytes) -> None:
    (here / "x.gguf").write_bytes(data)
    (checked,) = quantpick.verify([here / "x.gguf"]).files
    assert (checked.state, checked.against) == (State.WRONG, None)
    assert checked.fault


def test_size_alone_proves_nothing(online: Command, hub: LoopbackHub) -> None:
    bare = {"rfilename": NAME, "size": len(GOOD)}
    hub.add_repo(REPO, {NAME: GOOD}, info={"siblings": [bare]})
    (file,) = online("download", SPEC, "--json").json["files"]
    assert file["verified"] is False
    flip(online.cwd / NAME)
    (checked,) = quantpick.verify([online.cwd]).files
    assert checked.state is not State.OK


def test_many_at_once_get_the_answers_of_one_by_one_and_each_once(here: Path) -> None:
    flip(here / "one" / NAME)
    (here / "x.gguf").write_bytes(GOOD)
    paths = [path for path in sorted(here.rglob("*.gguf")) if path.is_file()]
    single = [file for path in paths for file in quantpick.verify([path]).files]
    together = quantpick.verify([*paths, here / "one" / NAME, here])
    assert len(single) == 6
    assert sorted(together.files) == sorted(single)
    assert [together.count(state) for state in State] == [4, 1, 0, 1]


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"files": None},
        {"files": [{"path": "../../x.gguf", "parts": []}]},
        {"files": [{"path": "/etc/passwd", "parts": []}]},
        {"files": [{"path": "a\x1b[31m.gguf", "parts": []}]},
        {"files": [{"path": NAME, "parts": [{"path": "../x", "bytes": 1}]}]},
        {"files": [{"path": NAME, "parts": [{"path": NAME, "bytes": -1}]}]},
        {"files": [{"path": NAME, "parts": [{"path": NAME, "bytes": 1, "sha256": "x"}]}]},
        {"license": "a\x1b[31m"},
        {"repo_id": 5},
    ],
    ids=range(10),
)
def test_receipt_that_nobody_should_believe_is_refused(here: Path, damage: dict[str, Any]) -> None:
    where = here / "one" / RECEIPT
    where.write_text(json.dumps({**receipt(where), **damage}))
    with pytest.raises(IntegrityError, match="no receipt that can be read") as caught:
        quantpick.verify([here / "one"])
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["nowhere", "one/x.gguf", "empty"])
def test_path_with_nothing_to_check_is_not_found(here: Path, name: str) -> None:
    (here / "empty").mkdir()
    with pytest.raises(NotFoundError):
        quantpick.verify([here / "one", here / name])


# Checks against the cache, a lock and the Hub


def test_file_in_the_cache_is_proven_by_its_name_there(shelf: Path, tmp_path: Path) -> None:
    shutil.copytree(shelf / "hf", tmp_path / "hf", symlinks=True)
    (link,) = tmp_path.rglob(f"snapshots/{COMMIT}/{NAME}")
    (checked,) = quantpick.verify([link]).files
    assert (checked.state, checked.against) == (State.OK, "the cache")
    flip(link.resolve())
    assert states(quantpick.verify([link.parent])) == {link.as_posix(): "wrong"}


def test_lock_says_what_files_should_be(here: Path, tmp_path: Path) -> None:
    record = receipt(here / "one" / RECEIPT)
    (part,) = record["files"][0]["parts"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in part.items()]
    head = f'version = 1\n[[quant]]\nrepo = "{REPO}"\ncommit = "{COMMIT}"\nlabel = "Q4_K_M"\n'
    lock = tmp_path / "my.lock"
    lock.write_text("\n".join([head, "[[quant.file]]", *lines]))
    (here / "one" / RECEIPT).unlink()
    for path in (here / "one" / NAME, here / "one"):
        (checked,) = quantpick.verify([path], lock_file=lock).files
        assert (checked.state, checked.against) == (State.OK, str(lock))
    flip(here / "one" / NAME)
    assert states(quantpick.verify([here / "one"], lock_file=lock)) == {f"one/{NAME}": "wrong"}
    with pytest.raises(NotFoundError, match="has no file"):
        quantpick.verify([here / "one" / MMPROJ], lock_file=lock)
    (here / "one" / NAME).unlink()
    assert states(quantpick.verify([here / "one"], lock_file=lock)) == {f"one/{NAME}": "missing"}


def test_the_hub_says_what_files_should_be(here: Path, online: Command, hub: LoopbackHub) -> None:
    raw = {f"{RAW}.part{number}of2": part for number, part in enumerate(PARTS, 1)}
    hub.add_repo(REPO, {NAME: OTHER})
    hub.add_repo(REPO, {NAME: GOOD, MMPROJ: OTHER, **raw}, sha=COMMIT, revision="v1")
    for path in here.rglob("*.quantpick.json"):
        path.unlink()
    files = [str((here / name).absolute()) for name in (f"one/{NAME}", f"raw/{RAW}")]
    document = online("verify", *files, "--repo", f"{REPO}@v1", "--json")
    assert document.status == 0, document.stdout
    assert document.json["counts"] == {"ok": 2, "wrong": 0, "missing": 0, "unproven": 0}
    now = online("verify", files[0], "--repo", REPO, "--json")
    assert (now.status, now.json["error"]["code"]) == (7, "integrity")


def test_folder_need_not_hold_all_that_the_hub_has(
    here: Path, online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, {NAME: GOOD, MMPROJ: OTHER, "g-Q8_0.gguf": TINY, "README.md": b"# card"})
    result = online("verify", str((here / "one").absolute()), "--repo", REPO)
    assert result.status == 0, result.stdout


def test_the_command_tells_each_state_and_ends_with_the_worst(
    here: Path, quantpick: Command
) -> None:
    there = Command(here.absolute(), quantpick.env)
    good = there("verify", "one", "set", "raw")
    assert (good.status, len(good.stdout.splitlines())) == (0, 5)
    assert f"one/{NAME}  ok: 0.03 MB as in receipt" in good.stdout
    (here / "x.gguf").write_bytes(GOOD)
    unproven = there("verify", "x.gguf", f"one/{NAME}")
    assert (unproven.status, "x.gguf  unproven" in unproven.stdout) == (3, True)
    assert "hint: name the repo they are from" in unproven.stderr
    flip(here / "one" / NAME)
    (here / "set" / SHARDS[1]).unlink()
    bad = there("verify", "x.gguf", "one", "set", "--json")
    assert (bad.status, bad.json["error"]["exit_status"]) == (7, 7)
    assert bad.json["counts"] == {"ok": 2, "wrong": 1, "missing": 1, "unproven": 1}
    quiet = there("verify", "one", "--quiet")
    assert (quiet.status, quiet.stdout) == (7, "")
    assert there("verify", "nowhere").status == 3


def test_a_damaged_receipt_ends_the_command_with_7(here: Path, quantpick: Command) -> None:
    (here / "one" / RECEIPT).write_text("{")
    result = Command(here.absolute(), quantpick.env)("verify", f"one/{NAME}", "--json")
    assert (result.status, result.json["error"]["code"]) == (7, "integrity")


def test_real_model_is_right(
    gemma: Path, tmp_path: Path, hub: LoopbackHub, online: Command
) -> None:
    hub.add_repo(REPO, {MODEL_NAME: gemma})
    (tmp_path / MODEL_NAME).symlink_to(gemma)
    (checked,) = quantpick.verify([tmp_path / MODEL_NAME]).files
    assert (checked.state, checked.size) == (State.UNPROVEN, MODEL_SIZE)
    result = online("verify", str(tmp_path / MODEL_NAME), "--repo", REPO)
    assert result.status == 0, result.stdout
    assert f"{MODEL_NAME}  ok: 0.25 GB as in {REPO} at " in result.stdout
