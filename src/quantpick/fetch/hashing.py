"""Hashing files while they come: a few threads follow the front of what is there.

Bytes are read back from the part file, from memory as a rule, so that ranges may arrive in any
order and nothing has to wait for them.
"""

from __future__ import annotations

import os
from threading import Thread
from typing import TYPE_CHECKING

from quantpick.fetch.digest import new_digest

if TYPE_CHECKING:
    from quantpick.fetch.queue import Job, Queue

#: Bytes hashed at once, and by one thread of one file before it looks for another.
_BLOCK = 1 << 20
_STRETCH = 64 << 20

#: Seconds between two looks of a thread that has caught up: a wake-up a block would cost more.
_LAG = 0.02

_MOST_THREADS = 4


class Hashing:
    """The digests of a run's jobs as they grow."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._fronts = [_Front(job) for job in queue.jobs]
        count = min(_MOST_THREADS, os.cpu_count() or 1, len(self._fronts))
        self.threads = [Thread(target=self._work, daemon=True) for _ in range(count)]

    def digests(self) -> list[str] | None:
        """Return the digests in the order of the jobs once all are there, None before."""
        if all(front.finished for front in self._fronts):
            return [front.digest.hexdigest() for front in self._fronts]
        return None

    def _work(self) -> None:
        try:
            while (front := self._take()) is not None:
                front.hash_on()
                with self._queue.changed:
                    front.busy = False
                    self._queue.changed.notify_all()
        except BaseException as error:  # noqa: BLE001 -- a thread has nobody above it to tell
            self._queue.stop(error)
        else:
            self._queue.ended.put(None)

    def _take(self) -> _Front | None:
        """Return a file with bytes to hash; wait where there is none, None at the end."""
        with self._queue.changed:
            while not self._queue.stopped:
                left = [front for front in self._fronts if not front.finished]
                if not left:
                    return None
                front = next((one for one in left if not one.busy and one.stretch()), None)
                if front is not None:
                    front.busy = True
                    return front
                self._queue.changed.wait(_LAG)
            return None


class _Front:
    """How far one job is hashed; only one thread at a time goes on with it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._at = 0
        self.digest = new_digest(job.source.file)
        self.busy = False

    @property
    def finished(self) -> bool:
        return self._at == self._job.size

    def stretch(self) -> int:
        """Return how many bytes can be hashed now."""
        return self._job.contiguous(self._at) - self._at

    def hash_on(self) -> None:
        buffer = memoryview(bytearray(_BLOCK))
        end = self._at + min(self.stretch(), _STRETCH)
        while self._at < end:
            place = self._job.at + self._at
            count = self._job.part.read_into(place, buffer[: min(_BLOCK, end - self._at)])
            if count == 0:
                raise OSError(f"{self._job.part.path} has lost bytes that were written")
            self.digest.update(buffer[:count])
            self._at += count
            self._job.hashed = self._at
