"""Runs another program without trusting it: closed stdin, a time limit, a bound on its output."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from threading import Thread
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Bytes kept of each of a program's two outputs; what comes after is read and dropped.
OUTPUT_LIMIT = 2**20

_CHUNK = 2**16


class Output(NamedTuple):
    """What a program printed, cut at the limit, and its exit status."""

    status: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs a program and returns its output.

    Raises TimeoutError, and OSError where it cannot be started.
    """

    def __call__(self, words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
        """Run it."""


def run(words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
    """Run a program in a group of its own, so that its children end with it."""
    deadline = time.monotonic() + timeout
    with subprocess.Popen(  # noqa: S603 -- a program of the user's own, without a shell
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        start_new_session=True,
    ) as process:
        outputs = [_Reader(stream) for stream in (process.stdout, process.stderr) if stream]
        try:
            status = process.wait(max(0.0, deadline - time.monotonic()))
            # A child may keep the outputs open after the program has ended.
            done = all(reader.join_until(deadline) for reader in outputs)
        except subprocess.TimeoutExpired:
            done = False
        finally:
            _end(process)
        if not done:
            raise TimeoutError(f"{words[0]} did not answer within {timeout:g} s")
    stdout, stderr = (reader.text for reader in outputs)
    return Output(status, stdout, stderr)


class _Reader(Thread):
    """Reads a stream to its end and keeps the first part."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream, self._kept = stream, bytearray()
        self.start()

    def run(self) -> None:
        try:
            while chunk := os.read(self._stream.fileno(), _CHUNK):
                self._kept += chunk[: OUTPUT_LIMIT - len(self._kept)]
        except (OSError, ValueError):
            # Closed under the reader, after a time limit.
            return

    def join_until(self, deadline: float) -> bool:
        """Wait for the end of the stream; whether it came."""
        self.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive()

    @property
    def text(self) -> str:
        return bytes(self._kept).decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
    else:
        process.kill()
