"""The digest that proves a listed file.

The Hub lists a sha256 for what is under LFS, as every large file is, and git's own sha1 for the
rest, which is taken over a small header and the bytes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantpick.domain.listing import RemoteFile


def new_digest(file: RemoteFile) -> hashlib._Hash:
    """Return the hash object that a listed file is proven with."""
    if file.sha256 is None and file.git_oid is not None:
        return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    return hashlib.sha256()


def wrong_digest(listed: RemoteFile, found: str) -> str | None:
    """Return how a digest differs from the one that is listed, None if it does not."""
    if listed.digest in {None, found}:
        return None
    return f"{listed.digest_name} {found}, expected {listed.digest}"
