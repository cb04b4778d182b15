"""Quantpick among programs of others: `hf`, a mirror of the Hub, llama.cpp; one cache for all."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import scan_cache_dir

from tests.hub import faults
from tests.hub.programs import OLAH, MirroredHub, hf, install_olah, olah_before, start_hf
from tests.support.command import Command
from tests.support.engine import generate
from tests.support.gguf_files import MODEL_NAME, tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hub.loopback import LoopbackHub

REPO = "someone/gemma-3-270m-GGUF"
NAME, SPEC = "g-Q4_K_M.gguf", f"{REPO}:Q4_K_M"
FOLDER = "split-Q8_0"
SHARDS = [f"{FOLDER}/g-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
COMMIT = "c0ffee" * 6 + "abcd"
FILES = {
    NAME: tiny_gguf(4096),
    **{path: tiny_gguf(seed=number) for number, path in enumerate(SHARDS)},
    "README.md": b"# card",
}


@pytest.fixture
def shelf(hub: LoopbackHub) -> LoopbackHub:
    """Return the hub with a repo of one single and one split quant."""
    hub.add_repo(REPO, FILES, sha=COMMIT)
    return hub


def fetch(online: Command, spec: str, *words: str) -> list[dict[str, Any]]:
    """Download a quant and return what is said of each file."""
    result = online("download", spec, *words, "--json")
    assert result.status == 0, result.stdout + result.stderr
    files: list[dict[str, Any]] = result.json["files"]
    assert all(file["verified"] for file in files)
    return files


def cache(online: Command) -> Path:
    """Return the folder of the Hub cache."""
    return Path(online.env["HF_HOME"], "hub")


def read(online: Command, files: list[dict[str, Any]]) -> dict[str, bytes]:
    return {file["path"]: (online.cwd / file["local_path"]).read_bytes() for file in files}


def blobs(online: Command) -> list[Path]:
    return sorted(cache(online).glob("models--*/blobs/*"))


# What quantpick leaves, others use


@pytest.mark.parametrize("revision", [None, "v1", "refs/pr/1", COMMIT])
def test_hf_uses_what_quantpick_put_into_the_cache(
    online: Command, hub: LoopbackHub, revision: str | None
) -> None:
    named = revision if revision not in {None, COMMIT} else "main"
    hub.add_repo(REPO, FILES, sha=COMMIT, revision=str(named))
    words = ["--revision", revision] if revision else []
    (file,) = fetch(online, SPEC, "--cache", *words)
    hub.log.clear()
    for env in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert hf(online, "download", REPO, NAME, *words, **env)["path"] == file["local_path"]
    assert hub.requests("cdn") == []
    assert len(hub.log) > 0
    refs = {
        path.relative_to(cache(online)).as_posix(): path.read_text()
        for path in cache(online).glob("models--*/refs/**/*")
        if path.is_file()
    }
    folder = f"models--{REPO.replace('/', '--')}"
    assert refs == ({} if revision == COMMIT else {f"{folder}/refs/{named}": COMMIT})


def test_hf_uses_a_split_set_in_a_folder(online: Command, shelf: LoopbackHub) -> None:
    files = fetch(online, f"{REPO}:Q8_0", "--cache")
    shelf.log.clear()
    snapshot = Path(hf(online, "download", REPO, "--include", f"{FOLDER}/*")["path"])
    assert [str(snapshot / path) for path in SHARDS] == [file["local_path"] for file in files]
    assert read(online, files) == {path: FILES[path] for path in SHARDS}
    assert shelf.requests("cdn") == []
    assert len(shelf.log) > 0


@pytest.mark.usefixtures("shelf")
def test_hf_finds_nothing_wrong_with_the_cache(online: Command) -> None:
    for label in ("Q4_K_M", "Q8_0"):
        fetch(online, f"{REPO}:{label}", "--cache")
    assert hf(online, "cache", "verify", REPO)["checked"] == 3
    scan = scan_cache_dir(cache(online))
    assert scan.warnings == []
    (repo,) = scan.repos
    assert (repo.repo_id, repo.repo_type, set(repo.refs)) == (REPO, "model", {"main"})
    assert (repo.nb_files, repo.size_on_disk) == (3, sum(len(FILES[p]) for p in (NAME, *SHARDS)))
    assert len(blobs(online)) == 3


def test_hf_finds_nothing_wrong_with_a_folder(online: Command, shelf: LoopbackHub) -> None:
    fetch(online, SPEC, "--local-dir", "models")
    words = ("cache", "verify", REPO, "--revision", COMMIT, "--local-dir", "models")
    assert hf(online, *words)["checked"] == 1
    shelf.log.clear()
    assert Path(hf(online, "download", REPO, NAME, "--local-dir", "models")["path"]).samefile(
        online.cwd / "models" / NAME
    )
    assert shelf.requests("cdn") == []
    assert (online.cwd / "models" / NAME).read_bytes() == FILES[NAME]


def test_llama_cpp_runs_from_the_cache(
    online: Command, hub: LoopbackHub, gemma: Path, gemma_shards: list[Path]
) -> None:
    shards = {f"{FOLDER}/{shard.name.replace('Q4_K_M', 'Q8_0')}": shard for shard in gemma_shards}
    hub.add_repo(REPO, {MODEL_NAME: gemma, **shards})
    whole, first = (fetch(online, f"{REPO}:{label}", "--cache")[0] for label in ("Q4_K_M", "Q8_0"))
    said = generate(Path(whole["local_path"]))
    assert re.search("[a-z]{3}", said)
    assert generate(Path(first["local_path"])) == said


# What others leave, quantpick uses


@pytest.mark.parametrize("xet", [False, True], ids=["http", "xet"])
def test_quantpick_uses_what_hf_put_into_the_cache(
    online: Command, hub: LoopbackHub, *, xet: bool
) -> None:
    hub.add_repo(REPO, FILES, xet=xet)
    env = {"HF_HUB_DISABLE_XET": "0" if xet else "1"}
    path = hf(online, "download", REPO, NAME, **env)["path"]
    assert bool(hub.requests("cdn")) is not xet
    hf(online, "download", REPO, "--include", f"{FOLDER}/*", **env)
    hub.log.clear()
    (file,) = fetch(online, SPEC, "--cache")
    assert (file["local_path"], file["reused"]) == (path, True)
    shards = fetch(online, f"{REPO}:Q8_0", "--cache")
    assert [shard["reused"] for shard in shards] == [True, True]
    assert hub.requests("cdn") == []
    assert len(hub.log) > 0


def test_quantpick_uses_what_hf_put_into_a_folder(online: Command, shelf: LoopbackHub) -> None:
    hf(online, "download", REPO, "--include", f"{FOLDER}/*", "--local-dir", ".")
    shelf.log.clear()
    files = fetch(online, f"{REPO}:Q8_0")
    assert [file["reused"] for file in files] == [True, True]
    assert shelf.requests("cdn") == []
    assert len(shelf.log) > 0


@pytest.mark.parametrize("xet", [False, True], ids=["http", "xet"])
def test_wrong_byte_that_hf_left_in_the_cache_is_noticed_and_replaced(
    online: Command, hub: LoopbackHub, *, xet: bool
) -> None:
    hub.add_repo(REPO, FILES, xet=xet)
    env = {"HF_HUB_DISABLE_XET": "0" if xet else "1"}
    path = Path(hf(online, "download", REPO, NAME, **env)["path"])
    spoil(path)
    hub.log.clear()
    (file,) = fetch(online, SPEC, "--cache")
    assert (file["local_path"], file["reused"]) == (str(path), False)
    assert path.read_bytes() == FILES[NAME]
    assert len(hub.requests("cdn")) == 1
    assert hf(online, "cache", "verify", REPO)["checked"] == 1


def test_wrong_byte_that_hf_left_in_a_folder_is_noticed(
    online: Command, shelf: LoopbackHub
) -> None:
    hf(online, "download", REPO, NAME, "--local-dir", ".")
    spoil(online.cwd / NAME)
    shelf.log.clear()
    result = online("download", SPEC, "--json")
    assert (result.status, result.json["error"]["code"]) == (7, "integrity")
    assert shelf.requests("cdn") == []
    assert [file["reused"] for file in fetch(online, SPEC, "--force")] == [False]
    assert (online.cwd / NAME).read_bytes() == FILES[NAME]


def spoil(path: Path) -> None:
    """Flip a bit in the middle of a file, and leave its length."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    # Xet leaves its files read-only.
    path.resolve().chmod(0o644)
    path.resolve().write_bytes(data)


# At the same time


@pytest.mark.parametrize("first", ["hf", "quantpick"])
def test_two_programs_at_once_fill_one_cache_and_fetch_once(
    online: Command, shelf: LoopbackHub, first: str
) -> None:
    shelf.add_fault(faults.slow(len(FILES[NAME])))
    starts = [lambda: start_hf(online, "download", REPO, NAME), lambda: start_quantpick(online)]
    runs = [(starts if first == "hf" else starts[::-1])[0]()]
    end = time.monotonic() + 30
    while not shelf.requests("cdn"):
        assert time.monotonic() < end
        time.sleep(0.02)
    runs.append((starts if first == "hf" else starts[::-1])[1]())
    for run in runs:
        _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    (blob,) = blobs(online)
    (shown,) = cache(online).glob(f"models--*/snapshots/{COMMIT}/{NAME}")
    assert blob.read_bytes() == shown.read_bytes() == FILES[NAME]
    assert len(shelf.requests("cdn")) == 1


def start_quantpick(online: Command) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "quantpick", "download", SPEC, "--cache"],
        cwd=online.cwd,
        env=online.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


# Through a mirror


@pytest.fixture(scope="session")
def olah(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program of a mirror, in an environment of its own: it wants other packages."""
    program = install_olah(tmp_path_factory.mktemp("olah") / "venv")
    if program is None:
        pytest.skip(f"pip cannot install {OLAH}")
    return program


@pytest.fixture
def mirrored() -> Iterator[MirroredHub]:
    """Return a Hub that a mirror can stand before, with the repo."""
    with MirroredHub() as hub:
        hub.add_repo(REPO, FILES, sha=COMMIT)
        yield hub


def test_mirror_brings_right_bytes_and_keeps_them(
    quantpick: Command, mirrored: MirroredHub, olah: Path, tmp_path: Path
) -> None:
    with olah_before(mirrored, olah, tmp_path / "olah") as address:
        there = Command(quantpick.cwd, {**quantpick.env, "HF_ENDPOINT": address})
        for label, paths in (("Q4_K_M", [NAME]), ("Q8_0", SHARDS)):
            files = fetch(there, f"{REPO}:{label}", "--retries", "0")
            assert read(there, files) == {path: FILES[path] for path in paths}
        assert len(mirrored.requests("cdn")) == 3
        cached = fetch(there, f"{REPO}:Q8_0", "--cache", "--retries", "0")
        assert read(there, cached) == {path: FILES[path] for path in SHARDS}
        assert len(mirrored.requests("cdn")) == 3
        assert hf(there, "download", REPO, SHARDS[0])["path"] == cached[0]["local_path"]


def test_wrong_bytes_that_a_mirror_keeps_are_noticed(
    quantpick: Command, mirrored: MirroredHub, olah: Path, tmp_path: Path
) -> None:
    mirrored.add_fault(faults.corrupt(2000))
    with olah_before(mirrored, olah, tmp_path / "olah") as address:
        there = Command(quantpick.cwd, {**quantpick.env, "HF_ENDPOINT": address})
        result = there("download", SPEC, "--retries", "0", "--json")
    assert (result.status, result.json["error"]["code"]) == (7, "integrity")
    assert "mirror" in "\n".join(result.json["error"]["hints"])
    assert not (there.cwd / NAME).exists()
