"""Fetching files over several connections at once, with their sha256 taken while they come.

One thread a connection writes ranges to their place; one a file follows the front of what is there
and hashes it, so that the proof is done nearly when the last byte is. The calling thread watches,
reports and notes what is there.
"""

from __future__ import annotations

import time
from threading import Lock, Thread
from typing import TYPE_CHECKING

from quantpick.domain.spans import gaps
from quantpick.fetch.hashing import Hashing
from quantpick.fetch.queue import Queue
from quantpick.remote import wrong_length
from quantpick.web import WebError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quantpick.domain.policy import Policy
    from quantpick.fetch.queue import Job, Task
    from quantpick.web import Answer

#: Bytes read from a connection at once, at most: large enough that calls cost little, small enough
#: that all connections together hold little memory.
_BLOCK = 512 << 10

#: Seconds between two looks at how far it is, and between two notes of what is there.
_LOOK = 0.1
_NOTE = 2.0

#: A connection that brings fewer bytes in this many seconds counts as stalled.
_SLOWEST, _WINDOW = 32 << 10, 30.0

#: Seconds that all threads together get to end after an error or an interrupt.
_PATIENCE = 1.0

_PARTIAL = 206


def fetch_all(jobs: Sequence[Job], policy: Policy, on_bytes: Callable[[int], None]) -> list[str]:
    """Fetch what is missing of all jobs; return the digest of each.

    ``on_bytes`` receives byte counts as they arrive, first of what was there already. Raises the
    errors of RemoteBytes, and OSError for a disk that fails. What has come stays in the part files.
    """
    run = _Run(jobs, policy)
    try:
        return run.watch(on_bytes)
    finally:
        run.end()


class _Run:
    def __init__(self, jobs: Sequence[Job], policy: Policy) -> None:
        self.queue = Queue(list(jobs), policy)
        self._answers: set[Answer] = set()
        self._lock = Lock()
        self._hashing = Hashing(self.queue)
        threads = [Thread(target=self._work, daemon=True) for _ in range(policy.connections)]
        self._threads = [*threads, *self._hashing.threads]

    def watch(self, on_bytes: Callable[[int], None]) -> list[str]:
        queue = self.queue
        for thread in self._threads:
            thread.start()
        told, noted = 0, time.monotonic()
        while True:
            digests = self._hashing.digests()
            if digests is None and not queue.stopped:
                queue.wait_for_end(_LOOK)
            arrived = sum(job.arrived() for job in queue.jobs)
            on_bytes(arrived - told)
            told = arrived
            if queue.error is not None:
                raise queue.error
            if digests is not None:
                return digests
            if time.monotonic() - noted > _NOTE:
                for job in queue.jobs:
                    job.part.save()
                noted = time.monotonic()

    def end(self) -> None:
        self.queue.stop()
        with self._lock:
            for answer in self._answers:
                answer.abort()
        end = time.monotonic() + _PATIENCE
        for thread in self._threads:
            # An interrupt may come before all have started.
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        try:
            while (task := self.queue.take()) is not None:
                try:
                    self._bring(task)
                except WebError as error:
                    self.queue.done(task, error)
                else:
                    self.queue.done(task)
        except BaseException as error:  # noqa: BLE001 -- a thread has nobody above it to tell
            self.queue.stop(error)

    def _bring(self, task: Task) -> None:
        answer, at = task.job.source.open(task.start, task.stop)
        with self._lock:
            self._answers.add(answer)
        known, whole = answer.status == _PARTIAL, False
        self.queue.knows_ranges(task.job, known=known)
        try:
            self._copy(task, answer, at, task.stop if known else task.job.size)
            whole = not self.queue.stopped
        finally:
            with self._lock:
                self._answers.discard(answer)
            answer.close(reusable=whole)

    def _copy(self, task: Task, answer: Answer, at: int, end: int) -> None:
        """Write a body to its place, from ``at`` up to ``end``."""
        window, since = at, time.monotonic()
        while (data := answer.read(_BLOCK)) and not self.queue.stopped:
            if at + len(data) > end:
                raise wrong_length(task.job.source.file, "more bytes than announced")
            task.brought += _write(task.job, at, data)
            at += len(data)
            now = time.monotonic()
            if now - since > _WINDOW:
                if at - window < _SLOWEST:
                    raise WebError("the connection has all but stopped")
                window, since = at, now
        if at < end and not self.queue.stopped:
            raise WebError("the connection broke off")


def _write(job: Job, at: int, data: bytes) -> int:
    """Write what is not there yet, for what is there may be hashed; return how many bytes."""
    start, written = job.at + at, 0
    for low, high in gaps(job.part.done, start, start + len(data)):
        job.part.write(low, data[low - start : high - start])
        written += high - low
    return written
