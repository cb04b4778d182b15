"""The lock on disk: TOML that people can read, and compare line by line."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import tomli_w

from quantpick.domain.lock import lock_of, lock_record
from quantpick.domain.names import printable
from quantpick.errors import LockError
from quantpick.fetch.places import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.lock import Lock

_HEAD = """\
# What `quantpick lock` settled on. `quantpick download --locked` fetches exactly this.
"""


def read_lock(path: Path) -> Lock:
    """Return the lock of a file. Raises LockError."""
    try:
        record = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise LockError(f"there is no {path}", "write one: quantpick lock SPEC") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LockError(
            f"cannot read {path} as a lock: {printable(str(error))}",
            "move it away, or name another file; then write it anew: quantpick lock SPEC",
        ) from error
    return lock_of(record, str(path))


def write_lock(path: Path, lock: Lock) -> None:
    """Write a lock: the whole of it, or nothing.

    Raises LockError where a file that is no lock would be lost, and DiskError.
    """
    if path.exists():
        read_lock(path)
    write_text(path, _HEAD + tomli_w.dumps(lock_record(lock), multiline_strings=False))
