"""Proof that a file on disk is the one that is listed: its size and its digest.

The Hub lists a sha256 for what is under LFS, as every large file is, and git's own sha1 for the
rest, which is taken over a small header and the bytes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quantpick.domain.listing import RemoteFile

#: Bytes read at once: large enough that hashing, not calling, takes the time.
_CHUNK = 1 << 20


def new_digest(file: RemoteFile) -> hashlib._Hash:
    """Return the hash object that a listed file is proven with."""
    if file.sha256 is None and file.git_oid is not None:
        return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    return hashlib.sha256()


def difference(path: Path, listed: RemoteFile, on_bytes: Callable[[int], None]) -> str | None:
    """Return how a file differs from what is listed, None if it is the same.

    Reads the whole file once its size is right. ``on_bytes`` receives the bytes hashed.
    """
    size = path.stat().st_size
    if size != listed.size:
        return f"{size} bytes, expected {listed.size}"
    return wrong_digest(listed, digest_of(path, listed, on_bytes)) if listed.digest else None


def wrong_digest(listed: RemoteFile, found: str) -> str | None:
    """Return how a digest differs from the one that is listed, None if it does not."""
    if listed.digest in {None, found}:
        return None
    return f"{listed.digest_name} {found}, expected {listed.digest}"


def digest_of(path: Path, listed: RemoteFile, on_bytes: Callable[[int], None]) -> str:
    """Return the digest of a file, of the kind that is listed for it, in hexadecimal digits."""
    digest = new_digest(listed)
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
            on_bytes(count)
    return digest.hexdigest()
