"""What a Hub and its CDN in good health answer: repos, listings, redirects and files."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

    from tests.hub.faults import Server

Headers = dict[str, str]

#: Bytes sent, and hashed, at once.
BLOCK = 1 << 18

_LFS_SUFFIXES = (".gguf", ".safetensors", ".bin")
_API = re.compile(
    r"/api/models/(?P<repo>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<verb>revision|tree)(?:/(?P<rev>[^/]+)(?:/(?P<path>.*))?)?)?"
)
_RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
_SMALL = re.compile(r"/api/resolve-cache/models/(?P<repo>.+?)/(?P<rev>[0-9a-f]{40})/(?P<path>.+)")


@dataclass(frozen=True)
class File:
    """One file of a commit; only those under LFS have a sha256 that the Hub tells."""

    path: str
    source: bytes | Path
    size: int
    sha256: str
    git_oid: str
    is_lfs: bool

    def read(self, start: int, stop: int, block: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`, a block at a time."""
        if isinstance(self.source, bytes):
            for at in range(start, stop, block):
                yield self.source[at : min(at + block, stop)]
            return
        with self.source.open("rb") as stream:
            stream.seek(start)
            while start < stop and (data := stream.read(min(block, stop - start))):
                start += len(data)
                yield data


@dataclass
class Repo:
    """The commits of a repo, the names they go by and what the card says."""

    name: str
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
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


def make_file(path: str, source: bytes | Path) -> File:
    """Describe a file the way the Hub does, checksums and all."""
    if isinstance(source, Path):
        info = source.stat()
        size, (sha256, oid) = info.st_size, _digests(source, info.st_size, info.st_mtime_ns)
    else:
        size, (sha256, oid) = len(source), _hash(iter((source,)), len(source))
    is_lfs = path.lower().endswith(_LFS_SUFFIXES)
    if is_lfs:
        oid = _hash(iter((pointer := _pointer(sha256, size),)), len(pointer))[1]
    return File(path, source, size, sha256, oid, is_lfs)


@cache
def _digests(path: Path, size: int, _mtime: int) -> tuple[str, str]:
    return _hash(File("", path, size, "", "", False).read(0, size, BLOCK), size)


def _hash(blocks: Iterator[bytes], size: int) -> tuple[str, str]:
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    for block in blocks:
        sha256.update(block)
        git.update(block)
    return sha256.hexdigest(), git.hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    head = b"version https://git-lfs.github.com/spec/v1\n"
    return head + b"oid sha256:%s\nsize %d\n" % (sha256.encode(), size)


def json_reply(value: object, code: int = 200, **headers: str) -> Reply:
    """Return a JSON answer; an underscore in a header's name stands for a hyphen."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = make_file("", json.dumps(value).encode())
    return Reply(code, {"Content-Type": "application/json; charset=utf-8", **named}, body)


def _error(code: int, message: str, error_code: str, **headers: str) -> Reply:
    marks = {"X_Error_Code": error_code, "X_Error_Message": message}
    return json_reply({"error": message}, code, **marks, **headers)


class Answers:
    """The repos of a Hub, and the answer to every request about them."""

    def __init__(self, accepted_token: str, page_size: int) -> None:
        """Take the token that opens gated repos and the length of one page of a tree."""
        self.accepted_token = accepted_token
        self.page_size = page_size
        self.repos: dict[str, Repo] = {}
        self.endpoint = self.cdn_endpoint = ""  # known once the servers run

    def answer(self, request: Request) -> Reply:
        """Work out the reply of a hub or CDN in good health."""
        path = urlsplit(request.target).path
        if request.server == "cdn":
            return self._cdn(path)
        routes = ((_SMALL, self._small), (_API, self._api), (_RESOLVE, self._resolve))
        for pattern, handle in routes:
            if found := pattern.fullmatch(path):
                parts = {name: unquote(text or "") for name, text in found.groupdict().items()}
                return handle(request, **parts)
        return json_reply({"error": "Not found"}, 404)

    def _cdn(self, path: str) -> Reply:
        for repo in self.repos.values():
            for files in repo.commits.values():
                for file in files.values():
                    if file.is_lfs and path == f"/lfs/{file.sha256}":
                        return _blob(file, f'"{file.sha256[:32]}"')
        return Reply(404)

    def _open(
        self, request: Request, repo: str, rev: str, *, listed: bool = False
    ) -> tuple[Repo, str] | Reply:
        """Find a repo and its commit, or the error the hub gives to this caller."""
        found = self.repos.get(repo)
        if found is None and request.token is None:
            return _error(401, "Invalid username or password.", "RepoNotFound")
        if found is None:
            return _error(404, "Repository not found", "RepoNotFound")
        if found.gated and not listed and request.token != self.accepted_token:
            text = f"Access to model {repo} is restricted."
            return _error(403 if request.token else 401, text, "GatedRepo")
        commit = found.commit(rev)
        if commit is None:
            return _error(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return found, commit

    def _api(self, request: Request, repo: str, verb: str, rev: str, path: str) -> Reply:
        # The file list of a gated repo is open to all in the model info, not as a tree.
        found = self._open(request, repo, rev or "main", listed=verb != "tree")
        if isinstance(found, Reply):
            return found
        files = list(found[0].commits[found[1]].values())
        if verb == "tree":
            return self._tree(request, files, path)
        return json_reply(_model_info(*found, files, blobs=bool(request.query("blobs"))))

    def _tree(self, request: Request, files: list[File], folder: str) -> Reply:
        recursive = request.query("recursive").lower() in ("true", "1")
        entries = _tree_entries(files, folder, recursive=recursive)
        if folder and not entries:
            return _error(404, f'"{folder}" does not exist', "EntryNotFound")
        start = int(request.query("cursor") or 0)
        stop = start + self.page_size
        if stop >= len(entries):
            return json_reply(entries[start:])
        parts = urlsplit(request.target)
        query = urlencode({**dict(parse_qsl(parts.query)), "cursor": stop})
        link = f'<{self.endpoint}{parts.path}?{query}>; rel="next"'
        return json_reply(entries[start:stop], Link=link)

    def _resolve(self, request: Request, repo: str, rev: str, path: str) -> Reply:
        found = self._open(request, repo, rev)
        if isinstance(found, Reply):
            return found
        commit = found[1]
        file = found[0].commits[commit].get(path)
        if file is None:
            return _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit)
        marks = {"X-Repo-Commit": commit, "X-Linked-Size": str(file.size)}
        marks["X-Linked-ETag"] = f'"{file.sha256 if file.is_lfs else file.git_oid}"'
        name = quote(path, safe="")
        if not file.is_lfs:
            place = f"/api/resolve-cache/models/{repo}/{commit}/{name}"
            return Reply(307, {**marks, "Location": place}, make_file("", b"Temporary Redirect"))
        signed = f"filename={name}&Expires=2000000000&Signature=fake"
        place = f"{self.cdn_endpoint}/lfs/{file.sha256}?{signed}"
        return Reply(302, {**marks, "Location": place}, make_file("", b"Found"))

    def _small(self, request: Request, repo: str, rev: str, path: str) -> Reply:
        found = self._open(request, repo, rev)
        if isinstance(found, Reply):
            return found
        file = found[0].commits[found[1]].get(path)
        if file is None:
            return _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=rev)
        return _blob(file, f'"{file.git_oid}"', {"X-Repo-Commit": rev})


def _blob(file: File, etag: str, headers: Headers | None = None) -> Reply:
    name = quote(file.path.rpartition("/")[2], safe="")
    shown = f"inline; filename*=UTF-8''{name}; filename=\"{name}\";"
    return Reply(200, {"ETag": etag, "Content-Disposition": shown, **(headers or {})}, file)


def _model_info(repo: Repo, commit: str, files: list[File], *, blobs: bool) -> dict[str, object]:
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
        "siblings": [_sibling(file, blobs=blobs) for file in files],
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
    return {"size": file.size, "pointerSize": len(_pointer(file.sha256, file.size))}


def _tree_entry(file: File) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "oid": file.git_oid}
    entry |= {"size": file.size, "path": file.path}
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, **_lfs_sizes(file)}
    return entry


def _tree_entries(files: list[File], folder: str, *, recursive: bool) -> list[dict[str, object]]:
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
