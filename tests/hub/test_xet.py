"""Downloads by Xet: right bytes, wrong bytes, a storage that is silent, and an interruption."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.hub import faults
from tests.support.gguf_files import tiny_gguf

if TYPE_CHECKING:
    from tests.hub.faults import Fault
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

REPO = "someone/gemma-3-270m-GGUF"
NAME, SPEC = "g-Q4_K_M.gguf", f"{REPO}:Q4_K_M"
SHARDS = [f"s/g-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
TINY = tiny_gguf(1 << 18)
#: Its values are noise, which the storage cannot pack.
GOOD = TINY[:4096] + Random(1).randbytes(len(TINY) - 4096)
FILES = {NAME: GOOD, **{path: tiny_gguf(seed=n) for n, path in enumerate(SHARDS)}}
TOKEN_PATH = "/xet-read-token/"

#: As `python -m quantpick`, and stoppable also where the tests run in the background of a shell.
START = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from quantpick.__main__ import main; main()
"""


@pytest.fixture
def shelf(hub: LoopbackHub) -> LoopbackHub:
    """Return the hub with a repo whose files are in a Xet storage as well."""
    hub.add_repo(REPO, FILES, xet=True)
    return hub


def fetch(online: Command, *words: str, **env: str) -> tuple[list[dict[str, Any]], str]:
    """Download with --xet and return what is said of each file, and stderr."""
    online = replace(online, env={**online.env, **env})
    result = online("download", *words, "--xet", "--json")
    assert result.status == 0, result.stderr
    files: list[dict[str, Any]] = result.json["files"]
    assert [(file["verified"], file["reused"]) for file in files] == [(True, False)] * len(files)
    for file in files:
        assert (online.cwd / file["local_path"]).read_bytes() == FILES[file["path"]]
    return files, result.stderr


def left(online: Command) -> set[str]:
    """Name the files that hold bytes of models, or might: all but notes, locks and logs."""
    folders = [online.cwd, Path(online.env["HF_HOME"], "hub")]
    found = {path for folder in folders for path in folder.rglob("*") if not path.is_dir()}
    notes = {path for path in found if path.suffix in {".txt", ".json", ".lock"}}
    return {path.name for path in found - notes if path.parent.name != "refs"}


def token_requests(hub: LoopbackHub) -> list[str]:
    return [entry.path for entry in hub.requests("hub") if TOKEN_PATH in entry.path]


@pytest.mark.parametrize("spec", [SPEC, f"{REPO}:Q8_0"], ids=["single", "split"])
def test_bytes_come_by_xet_and_are_proven(online: Command, shelf: LoopbackHub, spec: str) -> None:
    files, err = fetch(online, spec)
    assert shelf.requests("cdn") == []
    assert len(token_requests(shelf)) >= 1
    assert "HTTP" not in err
    assert left(online) == {Path(file["path"]).name for file in files}


def test_bytes_come_by_xet_into_the_cache(online: Command, shelf: LoopbackHub) -> None:
    (file,), _ = fetch(online, SPEC, "--cache")
    assert shelf.requests("cdn") == []
    place = Path(file["local_path"])
    assert left(online) == {NAME, place.resolve().name}
    assert file["sha256"] == place.resolve().name


def test_nothing_comes_by_xet_without_the_option(online: Command, shelf: LoopbackHub) -> None:
    assert online("download", SPEC, HF_HUB_DISABLE_XET="0").status == 0
    assert token_requests(shelf) == []
    assert len(shelf.requests("cdn")) == 1


@pytest.mark.parametrize("place", [[], ["--cache"]], ids=["folder", "cache"])
def test_wrong_bytes_of_xet_are_noticed_and_the_file_comes_over_http(
    online: Command, shelf: LoopbackHub, place: list[str]
) -> None:
    spoil_storage(shelf)
    (file,), err = fetch(online, SPEC, *place)
    assert f"{NAME} is not intact: sha256" in err
    assert token_requests(shelf) != []
    assert len(shelf.requests("cdn")) >= 1
    names = {NAME, Path(file["local_path"]).resolve().name}
    assert left(online) == names


def spoil_storage(hub: LoopbackHub) -> None:
    """Flip a bit of the model in the storage."""
    word = GOOD[len(GOOD) // 2 :][:16]
    spoilt = 0
    for path in (path for path in hub.xet_folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        at = data.find(word)
        if at >= 0:
            path.chmod(0o600)
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            spoilt += 1
    assert spoilt > 0


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (faults.hang(path=TOKEN_PATH), []),
        (faults.hang(path=TOKEN_PATH), ["--cache"]),
        (faults.status(500, path=TOKEN_PATH), []),
        (faults.status(403, path=TOKEN_PATH), ["--cache"]),
        (faults.html(path=TOKEN_PATH, server="hub"), []),
    ],
    ids=["hangs", "hangs-cache", "500", "403-cache", "page"],
)
def test_storage_that_cannot_be_had_is_left_for_http_soon(
    online: Command, shelf: LoopbackHub, fault: Fault, place: list[str]
) -> None:
    shelf.add_fault(fault)
    start = time.monotonic()
    (file,), err = fetch(online, SPEC, *place, QUANTPICK_XET_STALL="6")
    assert time.monotonic() - start < 30
    assert f"Xet does not bring {NAME}; fetching it over HTTP" in err.splitlines()
    assert token_requests(shelf) != []
    assert len(shelf.requests("cdn")) == 1
    assert left(online) == {NAME, Path(file["local_path"]).resolve().name}


@pytest.mark.parametrize("seconds", ["soon", "nan", "-1"])
def test_patience_that_is_no_number_of_seconds_is_refused(
    online: Command, shelf: LoopbackHub, seconds: str
) -> None:
    result = online("download", SPEC, "--xet", QUANTPICK_XET_STALL=seconds)
    assert result.status == 2, result.stderr
    assert "QUANTPICK_XET_STALL" in result.stderr
    assert left(online) == set()
    assert token_requests(shelf) == []


def test_storage_that_is_gone_is_left_for_http_soon(online: Command, shelf: LoopbackHub) -> None:
    for path in [path for path in shelf.xet_folder.rglob("*") if path.is_file()]:
        path.unlink()
    _, err = fetch(online, SPEC, QUANTPICK_XET_STALL="6")
    assert f"Xet does not bring {NAME}; fetching it over HTTP" in err.splitlines()
    assert left(online) == {NAME}


def test_xet_writes_its_logs_to_the_home_of_hugging_face(
    online: Command, shelf: LoopbackHub, tmp_path: Path
) -> None:
    home = tmp_path / "elsewhere"
    fetch(online, SPEC, HF_HOME=str(home))
    assert shelf.requests("cdn") == []
    assert not Path(online.env["HF_HOME"]).exists()
    assert not Path(online.env["HOME"], ".cache/huggingface").exists()
    chunks = [path for path in home.rglob("*") if path.is_file() and path.stat().st_size > 10**5]
    assert chunks == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_interrupt_ends_the_process_of_xet_too(online: Command, shelf: LoopbackHub) -> None:
    shelf.add_fault(faults.hang(path=TOKEN_PATH))
    with start(online) as run:
        patience = time.monotonic() + 30
        while not token_requests(shelf):
            assert time.monotonic() < patience
            time.sleep(0.02)
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert len(children) == 1
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert (run.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("interrupted")
    assert left(online) == set()
    shelf.clear_faults()
    fetch(online, SPEC)


def start(online: Command) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, "download", SPEC, "--xet"],
        cwd=online.cwd,
        env=online.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
