"""Proof that a file on disk is the one the Hub lists: its size and its sha256."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quantpick.domain.listing import RemoteFile

#: Bytes read at once: large enough that hashing, not calling, takes the time.
_CHUNK = 4 * 2**20


def difference(path: Path, listed: RemoteFile, on_bytes: Callable[[int], None]) -> str | None:
    """Return how a file differs from what the Hub lists, None if it is the same.

    Reads the whole file once its size is right. ``on_bytes`` receives the bytes hashed.
    """
    size = path.stat().st_size
    if size != listed.size:
        return f"{size} bytes, expected {listed.size}"
    if listed.sha256 is None:
        return None
    digest = sha256_of(path, on_bytes)
    return None if digest == listed.sha256 else f"sha256 {digest}, expected {listed.sha256}"


def sha256_of(path: Path, on_bytes: Callable[[int], None]) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
            on_bytes(count)
    return digest.hexdigest()
