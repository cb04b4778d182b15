"""Which bytes to ask for next: the missing ones of all files, from the front, each asked for once.

All threads of a run share one Queue and its lock. A file starts with one connection, which finds
the link and whether the server knows ranges; the others join when it does. Trouble halves the
number of connections, each range that arrives whole raises it by one.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Condition
from typing import TYPE_CHECKING

from quantpick.domain.policy import LONGEST_WAIT, range_length
from quantpick.domain.spans import add_span, covered, front, gaps

if TYPE_CHECKING:
    from quantpick.domain.policy import Policy
    from quantpick.domain.spans import Span, Spans
    from quantpick.fetch.part import PartFile
    from quantpick.remote import RemoteBytes
    from quantpick.web import WebError

#: Bytes that a try has to bring to count as progress: a server that gives a byte a try is no use.
_PROGRESS = 64 << 10

#: Bytes that a file's ranges may be ahead of its hashing. On a line faster than that the processor
#: is better spent on hashing what is still in memory; where an earlier run has left more, not.
_WINDOW = 256 << 20


class Job:
    """One remote file on its way into a part file, from byte ``at`` of it on.

    Only for the Queue to change.
    """

    def __init__(self, source: RemoteBytes, part: PartFile, at: int = 0) -> None:
        self.source, self.part, self.at = source, part, at
        self.size = source.file.size
        self.hashed = 0
        self.resumed = self.arrived() > 0
        self.ranges: bool | None = None
        self.failures = 0
        self.failed_at = self.not_before = 0.0

    def arrived(self) -> int:
        """Return how many of its bytes are there."""
        inside = (
            (max(start, self.at), min(stop, self.at + self.size)) for start, stop in self.part.done
        )
        return sum(max(0, stop - start) for start, stop in inside)

    def contiguous(self, position: int) -> int:
        """Return up to where all bytes from ``position`` on are there."""
        return min(front(self.part.done, self.at + position) - self.at, self.size)


@dataclass(eq=False)
class Task:
    """Bytes of one job for one connection to bring, when it set out, and how many it brought."""

    job: Job
    start: int
    stop: int
    since: float
    brought: int = 0


class Queue:
    """The jobs of a run, and what its threads wait for."""

    def __init__(self, jobs: list[Job], policy: Policy) -> None:
        self.jobs, self._policy = jobs, policy
        self.changed = Condition()
        #: What the calling thread waits for. A Ctrl-C that comes while it waits for a Condition can
        #: lose the lock, which makes a RuntimeError of the interrupt.
        self.ended: SimpleQueue[None] = SimpleQueue()
        self.error: BaseException | None = None
        self.stopped = False
        self._limit = policy.connections
        self._active: list[Task] = []

    def take(self) -> Task | None:
        """Return the next bytes to fetch; wait where there are none yet, None at the end."""
        with self.changed:
            while not self.stopped and self._unfinished():
                task = self._next()
                if task is not None:
                    self._active.append(task)
                    return task
                self.changed.wait(self._pause())
            return None

    def knows_ranges(self, job: Job, *, known: bool) -> None:
        """Note whether the server of a job takes notice of ranges."""
        with self.changed:
            job.ranges = known
            self.changed.notify_all()

    def done(self, task: Task, error: WebError | None = None) -> None:
        """Take back a task that has brought all its bytes, or met an error."""
        with self.changed:
            self._active.remove(task)
            if error is not None:
                self._failed(task, error)
            else:
                task.job.failures = 0
                self._limit = min(self._limit + 1, self._policy.connections)
            self.changed.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """End the run; the first error counts."""
        with self.changed:
            self.error = self.error or error
            self.stopped = True
            self.changed.notify_all()
        self.ended.put(None)

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the run is stopped or a hashing thread has nothing more to do."""
        with suppress(Empty):
            self.ended.get(timeout=seconds)

    def _unfinished(self) -> bool:
        return bool(self._active) or any(job.arrived() < job.size for job in self.jobs)

    def _gaps(self, job: Job) -> list[Span]:
        """Return which bytes of a job are neither there nor asked for."""
        known: Spans = ()
        for start, stop in job.part.done:
            known = add_span(known, start - job.at, stop - job.at)
        for task in self._active:
            if task.job is job:
                known = add_span(known, task.start, task.stop)
        return list(gaps(known, 0, job.size))

    def _next(self) -> Task | None:
        if len(self._active) >= self._limit:
            return None
        now = time.monotonic()
        for job in self.jobs:
            gap = next(iter(self._gaps(job)), None)
            busy = any(task.job is job for task in self._active)
            if gap is None or job.not_before > now or (busy and not job.ranges):
                continue
            if busy and not job.resumed and gap[0] - job.hashed > _WINDOW:
                continue
            if job.ranges is False:
                return Task(job, 0, job.size, now)
            missing = sum(covered(tuple(self._gaps(other))) for other in self.jobs)
            length = range_length(missing, self._policy.connections)
            return Task(job, gap[0], min(gap[1], gap[0] + length), now)
        return None

    def _pause(self) -> float | None:
        """Return the seconds until a job that waits may go on; None to wait for news alone."""
        now = time.monotonic()
        waits = [job.not_before - now for job in self.jobs if job.not_before > now]
        return min(waits) if waits else None

    def _failed(self, task: Task, error: WebError) -> None:
        job, now = task.job, time.monotonic()
        if task.brought >= _PROGRESS:
            job.failures = 0
        elif task.since < job.failed_at:
            return  # one fault met by several connections is one failure
        wait = error.wait
        tired = job.failures >= len(self._policy.waits)
        if error.final or tired or (wait or 0) > LONGEST_WAIT:
            self.stop(job.source.refusal(error))
            return
        if wait is None:
            wait = self._policy.waits[job.failures]
        job.failures += 1
        job.failed_at, job.not_before = now, now + wait
        self._limit = max(1, self._limit // 2)
