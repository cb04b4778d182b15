"""Programs of others that meet quantpick at a Hub or in its cache: `hf`, and the mirror olah."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.hub.listings import tree_entries
from tests.hub.loopback import LoopbackHub
from tests.hub.protocol import Request
from tests.hub.sending import Handler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.command import Command

#: The mirror, at the version that these tests were made with.
OLAH = "olah==0.5.4"

_PATIENCE = 60


def start_hf(online: Command, *words: str, **env: str) -> subprocess.Popen[str]:
    """Start `hf` in quantpick's folder and home; its answer will be JSON."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("hf"), *words, "--json"],
        cwd=online.cwd,
        env=online.environment(**{"HF_HUB_DISABLE_UPDATE_CHECK": "1", **env}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def hf(online: Command, *words: str, **env: str) -> dict[str, Any]:
    """Run `hf`, which has to succeed, and return its answer."""
    with start_hf(online, *words, **env) as run:
        out, err = run.communicate(timeout=_PATIENCE)
    assert run.returncode == 0, err
    answer = json.loads(out)
    assert isinstance(answer, dict)
    return answer


class MirroredHub(LoopbackHub):
    """A Hub that also answers what only mirrors ask for: some paths of a tree."""

    def __init__(self) -> None:
        """Bind both ports."""
        super().__init__()
        self._servers[0].RequestHandlerClass = _WithPathsInfo


class _WithPathsInfo(Handler):
    """One connection of a client that may ask for `paths-info`."""

    def do_POST(self) -> None:  # noqa: N802 -- its name in http.server
        """List some paths of a commit."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        name, _, revision = self.path.removeprefix("/api/models/").partition("/paths-info/")
        repo = self.server.hub.answers.repos[name]
        files = list(repo.commits[repo.commit(revision) or ""].values())
        entries = tree_entries(files, "", recursive=True)
        body = json.dumps([entry for entry in entries if entry["path"] in form["paths"]]).encode()
        self.server.hub.note(Request("hub", "POST", self.path, self.headers), 200)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def install_olah(folder: Path) -> Path | None:
    """Install olah away from this project's packages; return its program, None without PyPI."""
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [str(_program(folder, "python")), "-m", "pip", "install", "--quiet", OLAH],
    ]
    for command in commands:
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
    return _program(folder, "olah-cli")


def _program(folder: Path, name: str) -> Path:
    return folder / ("Scripts" if sys.platform == "win32" else "bin") / name


@contextmanager
def olah_before(hub: LoopbackHub, program: Path, folder: Path) -> Iterator[str]:
    """Run olah as a mirror of a Hub; yields its address."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["--host", "127.0.0.1", "--port", place.partition(":")[2], "--hf-scheme", "http"]
    words += ["--hf-netloc", urlsplit(hub.endpoint).netloc, "--mirror-netloc", place]
    words += ["--hf-lfs-netloc", urlsplit(hub.cdn_endpoint).netloc]
    words += ["--repos-path", str(folder / "repos"), "--log-path", str(folder / "logs")]
    with (folder / "output").open("w") as output:
        mirror = subprocess.Popen([program, *words], cwd=folder, stdout=output, stderr=output)
    try:
        _wait_for(place, mirror)
        yield f"http://{place}"
    finally:
        mirror.kill()
        mirror.wait()


def _wait_for(place: str, program: subprocess.Popen[bytes]) -> None:
    """Wait until a program listens at a place on loopback."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(place.partition(":")[2]))).close()
        except OSError:
            assert program.poll() is None, "it ended early"
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.05)
        else:
            return
