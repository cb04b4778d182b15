"""A listed file as locks and receipts write it down, and read it back with nothing believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantpick.domain.listing import MOST_BYTES, RemoteFile
from quantpick.domain.names import is_sha1, is_sha256, unsafe_path

if TYPE_CHECKING:
    from collections.abc import Callable


def file_record(file: RemoteFile) -> dict[str, Any]:
    """Return path, bytes and digest of a file, the digest under its own name if there is one."""
    digests = {"sha256": file.sha256, "git_sha1": file.git_oid}
    known = {key: value for key, value in digests.items() if value is not None}
    return {"path": file.path, "bytes": file.size, **known}


def file_of(row: dict[str, Any]) -> RemoteFile:
    """Return the file of a record. Raises ValueError, TypeError or LookupError for a wrong one."""
    size = row["bytes"]
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < MOST_BYTES:
        raise ValueError(f"{size!r} is no number of bytes")
    return RemoteFile(
        safe_path(row["path"]),
        size,
        _digest(row.get("sha256"), is_sha256),
        _digest(row.get("git_sha1"), is_sha1),
    )


def safe_path(path: Any) -> str:  # noqa: ANN401 -- from a file, checked here
    """Return a path that is safe to write below a folder. Raises ValueError for any other."""
    if not isinstance(path, str) or unsafe_path(path):
        raise ValueError(f"the path {path!r} is not safe")
    return path


def text(value: Any) -> str:  # noqa: ANN401 -- from a file, checked here
    """Return a text that a terminal may show. Raises ValueError for anything else."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{value!r} is no text")
    return value


def _digest(value: Any, right: Callable[[object], bool]) -> str | None:  # noqa: ANN401 -- likewise
    if value is not None and not right(value):
        raise ValueError(f"{value!r} is no digest")
    return None if value is None else str(value)
