"""Proof that files on disk are the ones listed, and a note of it, so that it is done once.

A note says which digest a file had, with its size, its place on the disk and the time of its last
change as the file system keeps it; when any of them differs the file is hashed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantpick import gguf_header
from quantpick.fetch.digest import new_digest, wrong_digest
from quantpick.kept import load_record, store_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from quantpick.domain.header import Header
    from quantpick.domain.plan import Target

_FORMAT = 1
_BLOCK = 1 << 20


def fault(
    path: Path, target: Target, on_bytes: Callable[[int], None], *, again: bool = False
) -> str | None:
    """Return how a file differs from what is listed, None if it does not.

    Reads the file unless it was proven before and has not changed since, and then too when it is to
    be proven ``again``. ``on_bytes`` receives the bytes that were read or need not be.
    """
    size = path.stat().st_size
    if size != target.size:
        return f"{size} bytes, expected {target.size}"
    if not again and _noted(path, target):
        on_bytes(size)
        return None
    wrong = _wrong_bytes(path, target, on_bytes)
    if wrong is None and target.provable:
        note_proof(path, target)
    return wrong


def note_proof(path: Path, target: Target) -> None:
    """Note that a file has the digests that are listed for it."""
    store_record("proofs", [_FORMAT, str(path.resolve())], _state(path, target))


def read_structure(path: Path, target: Target) -> Header | None:
    """Return the header of a GGUF file that is whole in itself; None for a file of another kind.

    None as well for tensor types of a fork or of a newer llama.cpp: the digest is then all the
    proof there is. Raises IntegrityError for a wrong header, or tensors that end past the file.
    """
    if not target.path.lower().endswith(".gguf"):
        return None
    try:
        return gguf_header.read_one(path, target.path)
    except gguf_header.UnknownTypeError:
        return None


def check_set(headers: Mapping[str, Header]) -> None:
    """Check that the files that say they are shards are one whole set. Raises IntegrityError."""
    shards = {
        path: header for path, header in headers.items() if gguf_header.split_count(header) > 1
    }
    if shards:
        gguf_header.join_shards(list(shards.values()), list(shards))


def _wrong_bytes(path: Path, target: Target, on_bytes: Callable[[int], None]) -> str | None:
    """Return how a file's bytes differ from what is listed, None if they do not; reads them all."""
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        for part in target.parts:
            digest, left = new_digest(part), part.size
            while left and (count := file.readinto(view[: min(left, _BLOCK)])):
                digest.update(view[:count])
                left -= count
                on_bytes(count)
            wrong = wrong_digest(part, digest.hexdigest())
            if wrong is not None:
                return wrong if len(target.parts) == 1 else f"{part.path}: {wrong}"
    return None


def _noted(path: Path, target: Target) -> bool:
    kept: Any = load_record("proofs", [_FORMAT, str(path.resolve())])
    return target.provable and kept == _state(path, target)


def _state(path: Path, target: Target) -> list[Any]:
    info = path.stat()
    when = [info.st_size, info.st_dev, info.st_ino, info.st_mtime_ns, info.st_ctime_ns]
    return [*when, [part.digest for part in target.parts]]
