"""A file under way: bytes written at any place, and a note of which are there.

The note survives a kill and a power cut: it is written after the bytes it tells of are on the disk,
under another name first. What it does not tell of is fetched again; what it tells of is proven with
the rest of the file in the end.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from quantpick.domain.spans import add_span, covered

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.spans import Spans

_FORMAT = 1


class PartFile:
    """A file of ``size`` bytes that comes in pieces; threads may write and read it at once."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._note = path.with_name(f"{path.name}.json")
        self._lock = Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._done = _read_note(self._note, path, size)
        self._noted = self._done
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        os.ftruncate(self._file, size)

    def __enter__(self) -> Self:
        """Have it closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def done(self) -> Spans:
        """Which bytes are there."""
        return self._done

    def write(self, at: int, data: bytes) -> None:
        """Write bytes at an offset, all of them. Raises OSError."""
        view = memoryview(data)
        while view:
            count = self._pwrite(view, at)
            with self._lock:
                self._done = add_span(self._done, at, at + count)
            view, at = view[count:], at + count

    def read_into(self, at: int, buffer: memoryview) -> int:
        """Read into a buffer from an offset on, and return how many bytes."""
        if hasattr(os, "preadv"):
            return os.preadv(self._file, [buffer], at)
        with self._lock:
            os.lseek(self._file, at, os.SEEK_SET)
            data = os.read(self._file, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def save(self) -> None:
        """Note what is there, for a later run. Raises OSError."""
        done = self._done
        if done != self._noted:
            os.fsync(self._file)
            _write_note(self._note, self.size, done)
            self._noted = done

    def close(self) -> None:
        """Note what is there, as far as the disk allows, and let the file go."""
        if self._file < 0:
            return
        with suppress(OSError):
            self.save()
        os.close(self._file)
        self._file = -1
        if not self._done:
            discard(self.path)

    def finish(self, target: Path) -> None:
        """Give the whole file its name: on the disk before anything says so. Raises OSError."""
        os.fsync(self._file)
        os.close(self._file)
        self._file = -1
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)
        _sync_folder(target.parent)
        discard(self.path)

    def _pwrite(self, view: memoryview, at: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._file, view, at)
        with self._lock:
            os.lseek(self._file, at, os.SEEK_SET)
            return os.write(self._file, view)


def bytes_there(path: Path, size: int) -> int:
    """Return how many bytes of a part file an earlier run has left."""
    return covered(_read_note(path.with_name(f"{path.name}.json"), path, size))


def adopt(whole: Path, path: Path) -> None:
    """Make a whole file, fetched in another way, the part file that it is to become."""
    size = whole.stat().st_size
    whole.replace(path)
    _write_note(path.with_name(f"{path.name}.json"), size, ((0, size),))


def discard(path: Path) -> None:
    """Remove a part file and its notes."""
    for suffix in ("", ".json", ".json.new"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _read_note(note: Path, path: Path, size: int) -> Spans:
    """Return the spans of a note; none where it is not of this file or makes no sense."""
    try:
        record: Any = json.loads(note.read_text("utf-8"))
        if record["format"] != _FORMAT or record["size"] != size or path.stat().st_size != size:
            return ()
        done: Spans = ()
        for start, stop in record["done"]:
            if not 0 <= int(start) < int(stop) <= size:
                return ()
            done = add_span(done, int(start), int(stop))
    except (OSError, ValueError, ArithmeticError, TypeError, LookupError, RecursionError):
        return ()
    return done


def _write_note(note: Path, size: int, done: Spans) -> None:
    written = note.with_name(f"{note.name}.new")
    try:
        with written.open("w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "size": size, "done": done}, file)
            file.flush()
            os.fsync(file.fileno())
        written.replace(note)
    except OSError:
        written.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Have the disk keep a rename; where folders cannot be opened the system does it itself."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
