"""Locks between processes: who holds one changes the files it stands for, the others wait."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

#: The folder of locks in the Hub cache. They are huggingface_hub's, which leaves them.
_HUBS = ".locks"


@contextmanager
def hold(locks: Iterable[Path], note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold all locks, taken in one order by all processes; tell ``note`` when that takes long.

    Raises OSError where a lock cannot be made.
    """
    with ExitStack() as stack:
        for lock in sorted(locks):
            guard = FileLock(lock)
            _acquire(guard, lock, note)
            stack.callback(_release, guard, lock)
        yield


def _release(guard: FileLock, lock: Path) -> None:
    # Removed while it is held: who opens it later opens another, who waits for it notices.
    if _HUBS not in lock.parts:
        with suppress(OSError):
            lock.unlink()
    guard.release()


def _acquire(guard: FileLock, lock: Path, note: Callable[[str], None] | None) -> None:
    said = False
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=1)
        except Timeout:
            if note is not None and not said:
                note("another process fetches the same files; waiting for it")
            said = True
        except FileNotFoundError:
            # The other process is done and has removed the folder: make it again.
            continue
        else:
            return
