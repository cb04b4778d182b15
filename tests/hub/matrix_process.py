"""Runs of the fault matrix through the real command line, each process in a room of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.hub.matrix_law import TOKEN, Act
from tests.hub.matrix_stage import PATIENCE
from tests.hub.matrix_verdict import Outcome
from tests.support.command import Command

if TYPE_CHECKING:
    from tests.hub.matrix_plan import Run
    from tests.hub.matrix_stage import Room
    from tests.hub.matrix_verdict import Stage

_PROGRAM = (sys.executable, "-m", "quantpick")

#: The same, and stoppable also where the tests run in the background of a shell.
_STOPPABLE = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from quantpick.__main__ import main; main()
"""

#: Puts a disk of its own in the place of the target, in a mount namespace that ends with the shell,
#: and copies out what is on it in the end. Told its kind and source, mount does not take over the
#: options that are there, which only root may set.
_ON_A_DISK = """
cp -a "$TARGET" "$AWAY/given" && mount -t tmpfs -o size=1g none "$TARGET" || exit 99
cp -a "$AWAY/given/." "$TARGET" && mount -t tmpfs -o "remount,$LIMIT" none "$TARGET" || exit 99
"$@"; status=$?
cp -a "$TARGET" "$AWAY/disk"; exit $status
"""

_BLOCK = 4096


def run_process(run: Run, stage: Stage) -> Outcome:
    """Do one run: with its faults and what else befalls it, and again without."""
    if run.way in {"small disk", "read-only"} and not _namespace():
        reason = "no mount namespace, neither as root nor with unshare -Urm"
        return Outcome(run.number, run.way, [], None, [], [], 0.0, skipped=reason)
    room = stage.room(run)
    room.prepare()
    for name in ("hf", "keep", "home", "tmp"):
        (room.root / name).mkdir(exist_ok=True)
    stage.open(run)
    stage.hub.link_lifetime, stage.hub.api_limit = run.link_lifetime, run.api_limit
    player = _Player(room, stage)
    return stage.play(room, player.first, player.second)


@cache
def _namespace() -> tuple[str, ...]:
    """Return the words that begin a mount namespace, none where there can be none."""
    for words in (("unshare", "-m"), ("unshare", "-Urm")):
        probe = [*words, "mount", "-t", "tmpfs", "none", "/mnt"]
        if (
            shutil.which("unshare")
            and not subprocess.run(probe, capture_output=True, check=False).returncode
        ):
            return words
    return ()


class _Player:
    """The two acts of one run."""

    def __init__(self, room: Room, stage: Stage) -> None:
        self._room, self._stage, self._run = room, stage, room.run
        names = {"HF_HOME": "hf", "QUANTPICK_CACHE": "keep", "HOME": "home", "TMPDIR": "tmp"}
        places = {variable: str(room.root / name) for variable, name in names.items()}
        token = {"HF_TOKEN": TOKEN} if room.run.token else {}
        self._command = Command(room.root, {**places, **token, "HF_ENDPOINT": stage.hub.endpoint})

    def first(self) -> list[Act]:
        """Do the act with the faults."""
        run = self._run
        if run.way == "killed":
            return [self._struck(_PROGRAM, signal.SIGKILL) for _ in range(1 + (run.pick % 4 == 0))]
        if run.way == "stopped":
            return [self._struck((sys.executable, "-c", _STOPPABLE), signal.SIGINT)]
        if run.way == "pair":
            one = self._start(_PROGRAM)
            time.sleep(run.moment * 0.6 if run.pick % 2 else 0)
            return [_end(process) for process in (one, self._start(_PROGRAM))]
        if run.way in {"small disk", "read-only"}:
            return [self._on_a_disk()]
        return [_end(self._start(_PROGRAM))]

    def second(self) -> Act:
        """Do the act without faults, with time enough."""
        self._stage.hub.link_lifetime = self._stage.hub.api_limit = None
        more = ["--force"] if self._run.before == "foreign" else []
        return _end(self._start(_PROGRAM, *more, HF_HUB_DOWNLOAD_TIMEOUT="10"))

    def _words(self) -> list[str]:
        run = self._run
        words = ["download", f"{run.shelf.repo_id}:{run.shelf.label}"]
        words += ["--cache"] if run.cache else ["--local-dir", "target"]
        words += ["--revision", run.revision] if run.revision else []
        words += ["--with-mmproj", "auto"] if run.shelf.projector else []
        words += ["--force"] if run.force else []
        words += [(), ("--json",), ("--quiet",), ("--progress", "json")][run.pick % 4]
        return [*words, "--connections", str(run.connections), "--retries", str(1 + run.pick % 2)]

    def _start(self, program: tuple[str, ...], *more: str, **env: str) -> subprocess.Popen[str]:
        waits = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", **env}
        return subprocess.Popen(
            [*program, *self._words(), *more],
            cwd=self._room.root,
            env=self._command.environment(**waits),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def _struck(self, program: tuple[str, ...], blow: signal.Signals) -> Act:
        """Send a signal at a random moment after the first request."""
        seen, patience = len(self._stage.hub.log), time.monotonic() + PATIENCE
        process = self._start(program)
        while len(self._stage.hub.log) == seen and process.poll() is None:
            if time.monotonic() > patience:
                break
            time.sleep(0.005)
        time.sleep(self._run.moment * (self._run.pace * 1.1 + 0.12))
        process.send_signal(blow)
        return _end(process)

    def _on_a_disk(self) -> Act:
        target = self._room.target
        with TemporaryDirectory() as away:
            limit = "ro" if self._run.way == "read-only" else f"size={self._disk_size()}"
            place = {"TARGET": str(target), "AWAY": away, "LIMIT": limit}
            shell = (*_namespace(), "sh", "-c", _ON_A_DISK, "sh")
            act = _end(self._start((*shell, *_PROGRAM), **place))
            shutil.rmtree(target)
            shutil.move(Path(away, "disk"), target)
        return act

    def _disk_size(self) -> int:
        """Return the size of a disk that is much too small, or just so."""
        needed = sum(map(len, self._run.shelf.finals.values()))
        if self._run.pick % 4 == 0:
            return needed // 2 + _BLOCK
        return (needed // _BLOCK + self._run.pick % 9) * _BLOCK


def _end(process: subprocess.Popen[str]) -> Act:
    """Wait for a process as long as patience lasts."""
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return Act(None, said, hung=True)
    # An interpreter that is about to end has no handler for an interrupt any more, and is killed by
    # it once all is done; shells report that as 130 too.
    told = {-signal.SIGKILL: None, -signal.SIGINT: 128 + signal.SIGINT}
    return Act(told.get(process.returncode, process.returncode), said)
