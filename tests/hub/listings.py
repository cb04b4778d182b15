"""What the Hub tells of a commit: the model info, and the tree of its files."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hub.protocol import File, Repo


def model_info(repo: Repo, commit: str, *, blobs: bool) -> dict[str, object]:
    """Return the model info, with sizes and checksums if `blobs` asks and the repo tells them."""
    told = blobs and not repo.no_blobs
    return {
        "_id": commit[:24],
        "id": repo.name,
        "modelId": repo.name,
        "author": repo.name.rpartition("/")[0],
        "sha": commit,
        "private": False,
        "disabled": False,
        "gated": "manual" if repo.gated else False,
        "createdAt": "2025-01-01T00:00:00.000Z",
        "lastModified": "2025-01-01T00:00:00.000Z",
        "tags": ["gguf", *(f"{name}:{value}" for name, value in repo.card.items())],
        "cardData": repo.card,
        "siblings": [_sibling(file, blobs=told) for file in repo.commits[commit].values()],
        **repo.extra,
    }


def _sibling(file: File, *, blobs: bool) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": file.path}
    if blobs:
        entry |= {"size": file.size, "blobId": file.git_oid}
    if blobs and file.is_lfs:
        entry["lfs"] = {"sha256": file.sha256, **_lfs_sizes(file)}
    return entry


def _lfs_sizes(file: File) -> dict[str, int]:
    return {"size": file.size, "pointerSize": file.pointer_size}


def tree_entries(files: list[File], folder: str, *, recursive: bool) -> list[dict[str, object]]:
    """List a folder: in full, or only what lies directly in it."""
    base = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, object]] = {}
    for file in files:
        if not file.path.startswith(base):
            continue
        for parent in _parents(file.path, base):
            oid = hashlib.sha1(parent.encode()).hexdigest()
            entries[parent] = {"type": "directory", "oid": oid, "size": 0, "path": parent}
        entries[file.path] = _tree_entry(file)
    if recursive:
        return list(entries.values())
    return [entry for path, entry in entries.items() if "/" not in path.removeprefix(base)]


def _parents(path: str, base: str) -> list[str]:
    cuts = (found.start() for found in re.finditer("/", path))
    return [path[:cut] for cut in cuts if cut > len(base)]


def _tree_entry(file: File) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "oid": file.git_oid}
    entry |= {"size": file.size, "path": file.path}
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, **_lfs_sizes(file)}
    if file.xet_hash:
        entry["xetHash"] = file.xet_hash
    return entry
