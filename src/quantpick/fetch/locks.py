"""Locks between processes: who holds one changes the files it stands for, the others wait."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from quantpick.fetch.places import STAGING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from quantpick.domain.progress import Progress


@contextmanager
def hold(locks: Iterable[Path], progress: Progress) -> Iterator[None]:
    """Hold all locks, taken in one order by all processes; say so when that takes long."""
    with ExitStack() as stack:
        for lock in sorted(locks):
            guard = FileLock(lock)
            _acquire(guard, lock, progress)
            stack.callback(_release, guard, lock)
        yield


def _release(guard: FileLock, lock: Path) -> None:
    # Removed while it is held: who opens it later opens another, who waits for it notices. Those of
    # the cache are huggingface_hub's, which leaves them.
    if lock.parent.name == STAGING:
        with suppress(OSError):
            lock.unlink()
    guard.release()


def _acquire(guard: FileLock, lock: Path, progress: Progress) -> None:
    said = False
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=1)
        except Timeout:
            if not said:
                progress.note("another process fetches the same files; waiting for it")
            said = True
        except FileNotFoundError:
            # The other process is done and has removed the folder: make it again.
            continue
        else:
            return
