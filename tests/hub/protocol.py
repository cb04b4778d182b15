"""What the Hub on loopback is made of: files, repos, requests and replies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

    from tests.hub.faults import Server

Headers = dict[str, str]

#: Bytes sent, and hashed, at once.
BLOCK = 1 << 18

_LFS_SUFFIXES = (".gguf", ".safetensors", ".bin")


@dataclass(frozen=True)
class File:
    """One file of a commit; only those under LFS have a sha256 that the Hub tells."""

    path: str
    source: bytes | Path
    size: int
    sha256: str
    git_oid: str
    is_lfs: bool
    xet_hash: str | None = None

    def read(self, start: int, stop: int, block: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`, a block at a time; past the end are zeros."""
        if isinstance(self.source, bytes):
            for at in range(start, stop, block):
                end = min(at + block, stop)
                yield self.source[at:end].ljust(end - at, b"\0")
            return
        with self.source.open("rb") as stream:
            stream.seek(start)
            for at in range(start, stop, block):
                length = min(block, stop - at)
                yield stream.read(length).ljust(length, b"\0")

    def listed(self, claim: str | None, xet_hash: str | None) -> File:
        """Return it as listings tell of it: large files may have a false sha256, or a Xet hash."""
        if not self.is_lfs:
            return self
        sha256 = claim or self.sha256
        oid = _pointer_oid(sha256, self.size)
        return replace(self, sha256=sha256, git_oid=oid, xet_hash=xet_hash)

    @property
    def pointer_size(self) -> int:
        """The length of the text that stands for a large file in git."""
        return len(_pointer(self.sha256, self.size))


Commits = dict[str, dict[str, File]]


@dataclass
class Repo:
    """The commits of a repo, the names they go by and what the card says."""

    name: str
    commits: Commits = field(default_factory=dict)  # the files as listed
    contents: Commits = field(default_factory=dict)  # the files as served: mostly the same
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    no_blobs: bool = False
    xet: bool = False
    card: dict[str, object] = field(default_factory=dict)
    extra: dict[str, object] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        """Return the commit that a branch, a tag or a sha names."""
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass(frozen=True)
class Request:
    """One request, as far as answers depend on it."""

    server: Server
    method: str
    target: str
    headers: Message

    @property
    def token(self) -> str | None:
        """The caller's token, None for an anonymous one."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def query(self, name: str) -> str:
        """Return one value of the query, empty where it is not given."""
        return parse_qs(urlsplit(self.target).query).get(name, [""])[0]


@dataclass(frozen=True)
class Reply:
    """One answer; its body is a file so that a large one need not be in memory."""

    status: int
    headers: Headers = field(default_factory=dict)
    body: File = field(default_factory=lambda: make_file("", b""))
    is_file: bool = False  # a file of a repo: can be had in parts


def make_file(path: str, source: bytes | Path) -> File:
    """Describe a file the way the Hub does, checksums and all."""
    if isinstance(source, Path):
        info = source.stat()
        size, (sha256, oid) = info.st_size, _digests(source, info.st_size, info.st_mtime_ns)
    else:
        size, (sha256, oid) = len(source), _hash(iter((source,)), len(source))
    is_lfs = path.lower().endswith(_LFS_SUFFIXES)
    oid = _pointer_oid(sha256, size) if is_lfs else oid
    return File(path, source, size, sha256, oid, is_lfs)


@cache
def _digests(path: Path, size: int, _mtime: int) -> tuple[str, str]:
    return _hash(File("", path, size, "", "", is_lfs=False).read(0, size, BLOCK), size)


def _hash(blocks: Iterator[bytes], size: int) -> tuple[str, str]:
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    for block in blocks:
        sha256.update(block)
        git.update(block)
    return sha256.hexdigest(), git.hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    head = b"version https://git-lfs.github.com/spec/v1\n"
    return head + b"oid sha256:%s\nsize %d\n" % (sha256.encode(), size)


def _pointer_oid(sha256: str, size: int) -> str:
    pointer = _pointer(sha256, size)
    return _hash(iter((pointer,)), len(pointer))[1]


def json_reply(value: object, code: int = 200, **headers: str) -> Reply:
    """Return a JSON answer; an underscore in a header's name stands for a hyphen."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = make_file("", json.dumps(value).encode())
    return Reply(code, {"Content-Type": "application/json; charset=utf-8", **named}, body)
