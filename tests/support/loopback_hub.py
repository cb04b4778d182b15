"""A fake of the Hugging Face Hub on loopback, faithful where a download client looks.

Two listeners run, as in the real world: the hub, and a CDN of another origin to which every
large file is redirected. Both write into one log, so that a test can say which request went
where and whether the token went with it. Faults are armed by the test and hit what they match.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import sys
import threading
from dataclasses import dataclass, field
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message
    from types import TracebackType

Server = Literal["hub", "cdn"]
Headers = dict[str, str]

_LFS_SUFFIXES = (".gguf", ".safetensors", ".bin")
_BLOCK = 1 << 18
_API = re.compile(
    r"/api/models/(?P<repo>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<verb>revision|tree|paths-info|refs|auth-check)(?:/(?P<rev>[^/]+)(?:/(?P<path>.*))?)?)?"
)
_RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
_SMALL = re.compile(r"/api/resolve-cache/models/(?P<repo>.+?)/(?P<rev>[0-9a-f]{40})/(?P<path>.+)")


@dataclass(frozen=True)
class LoggedRequest:
    """One request as it came in; status 0 means it was left hanging."""

    server: Server
    method: str
    path: str  # the target as sent: still quoted, with the query
    range: str | None
    authorization: str | None
    status: int


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; use the functions below to make one."""

    kind: str
    path: str = ""  # part of the unquoted target; on the CDN the query holds the file name
    server: Server | None = None
    method: str | None = None
    times: int | None = None  # requests it hits; None is always
    code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    at: int = 0
    n: int = 0
    seconds: float = 0


class About(TypedDict, total=False):
    """What a repo says of itself besides its files."""

    license: str | None
    base_model: str | None
    gated: bool
    info: Mapping[str, object]  # adds to, or replaces, fields of the model info


class Where(TypedDict, total=False):
    """Which requests a fault hits; what is left out matches all."""

    path: str
    server: Server | None
    method: str | None
    times: int | None


def status(
    code: int,
    *,
    headers: Mapping[str, str] | None = None,
    x_error_code: str | None = None,
    **where: Unpack[Where],
) -> Fault:
    """Answer with this status and no more; without `x_error_code` the answer is a bare one."""
    extra = {"X-Error-Code": x_error_code} if x_error_code else {}
    return Fault("status", code=code, headers={**extra, **(headers or {})}, **where)


def missing_on_cdn(**where: Unpack[Where]) -> Fault:
    """Let the hub list and redirect to a file that the CDN does not have."""
    full: Where = {"server": "cdn", **where}
    return status(404, **full)


def hang(seconds: float = 3600, **where: Unpack[Where]) -> Fault:
    """Say nothing for a while, then answer as usual."""
    return Fault("hang", seconds=seconds, **where)


def drop(after: int, **where: Unpack[Where]) -> Fault:
    """Close the connection in good order after `after` bytes of a body."""
    return _body("drop", where, at=after)


def reset(after: int, **where: Unpack[Where]) -> Fault:
    """Break the connection with a TCP reset after `after` bytes of a body."""
    return _body("reset", where, at=after)


def corrupt(at: int, n: int = 16, **where: Unpack[Where]) -> Fault:
    """Flip `n` bytes from offset `at` of the file on; the length stays right."""
    return _body("corrupt", where, at=at, n=n)


def short(by: int, **where: Unpack[Where]) -> Fault:
    """Announce and send a file that is `by` bytes shorter than listed."""
    return _body("short", where, n=by)


def slow(bytes_per_second: int, **where: Unpack[Where]) -> Fault:
    """Send a body at a steady low speed."""
    return _body("slow", where, n=bytes_per_second)


def stall(after: int, seconds: float, **where: Unpack[Where]) -> Fault:
    """Stop sending after `after` bytes of a body, and go on later."""
    return _body("stall", where, at=after, seconds=seconds)


def no_range(**where: Unpack[Where]) -> Fault:
    """Take no notice of a Range and answer 200 with the whole file."""
    return _body("no_range", where)


def _body(kind: str, where: Where, at: int = 0, n: int = 0, seconds: float = 0) -> Fault:
    """Make a fault of the bytes: they are the CDN's unless the test names the hub."""
    full: Where = {"server": "cdn", "method": "GET", **where}
    return Fault(kind, at=at, n=n, seconds=seconds, **full)


@dataclass(frozen=True)
class _File:
    path: str
    source: bytes | Path
    size: int
    sha256: str
    git_oid: str
    is_lfs: bool

    def read(self, start: int, stop: int, block: int) -> Iterator[bytes]:
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
class _Repo:
    name: str
    commits: dict[str, dict[str, _File]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    card: dict[str, object] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    extra: dict[str, object] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass(frozen=True)
class _Request:
    server: Server
    method: str
    target: str
    headers: Message
    form: str

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def query(self, name: str) -> str:
        return parse_qs(urlsplit(self.target).query).get(name, [""])[0]


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: Headers = field(default_factory=dict)
    body: _File = field(default_factory=lambda: _make_file("", b""))


def _make_file(path: str, source: bytes | Path) -> _File:
    if isinstance(source, Path):
        info = source.stat()
        size, (sha256, oid) = info.st_size, _digests(source, info.st_size, info.st_mtime_ns)
    else:
        size, (sha256, oid) = len(source), _hash(iter((source,)), len(source))
    is_lfs = path.lower().endswith(_LFS_SUFFIXES)
    if is_lfs:
        oid = _hash(iter((pointer := _pointer(sha256, size),)), len(pointer))[1]
    return _File(path, source, size, sha256, oid, is_lfs)


@cache
def _digests(path: Path, size: int, _mtime: int) -> tuple[str, str]:
    return _hash(_File("", path, size, "", "", False).read(0, size, _BLOCK), size)


def _hash(blocks: Iterator[bytes], size: int) -> tuple[str, str]:
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    for block in blocks:
        sha256.update(block)
        git.update(block)
    return sha256.hexdigest(), git.hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        sha256.encode(),
        size,
    )


def _json(value: object, code: int = 200, **headers: str) -> _Reply:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    body = _make_file("", json.dumps(value).encode())
    return _Reply(code, {"Content-Type": "application/json; charset=utf-8", **named}, body)


def _error(code: int, message: str, error_code: str, **headers: str) -> _Reply:
    marks = {"X_Error_Code": error_code, "X_Error_Message": message}
    return _json({"error": message}, code, **marks, **headers)


def _whoami(token: str | None) -> _Reply:
    if token is None:
        return _json({"error": "Invalid username or password."}, 401)
    return _json({"type": "user", "name": "tester", "orgs": []})


class LoopbackHub:
    """The two servers, what they hold, what goes wrong and what was asked."""

    def __init__(self, accepted_token: str = "hf_accepted", page_size: int = 1000) -> None:
        """Bind both ports; requests are answered from `with` on."""
        self.accepted_token = accepted_token  # the one that opens gated repos
        self.page_size = page_size  # of the tree listing
        self.log: list[LoggedRequest] = []
        self.closing = threading.Event()
        self._repos: dict[str, _Repo] = {}
        self._armed: list[tuple[Fault, list[None]]] = []
        self._lock = threading.Lock()
        self._servers: list[_Listener] = [_Listener(self, "hub"), _Listener(self, "cdn")]
        self.endpoint, self.cdn_endpoint = (server.url for server in self._servers)

    def __enter__(self) -> Self:
        """Start answering."""
        for server in self._servers:
            threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, let go what hangs and cut the connections clients still hold."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.cut_connections()

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path],
        *,
        sha: str = "0123456789abcdef0123456789abcdef01234567",
        revision: str = "main",
        **about: Unpack[About],
    ) -> None:
        """Publish files as one commit; names are listed as given, even hostile ones.

        Called again with another `sha` it moves `revision` on, and the old commit stays
        reachable by its own sha.
        """
        repo = self._repos.setdefault(repo_id, _Repo(repo_id))
        repo.commits[sha] = {path: _make_file(path, source) for path, source in files.items()}
        repo.refs[revision] = sha
        repo.gated, repo.extra = about.get("gated", False), dict(about.get("info", {}))
        given = {"license": about.get("license"), "base_model": about.get("base_model")}
        repo.card = {name: value for name, value in given.items() if value}
        repo.tags = ["gguf", *(f"{name}:{value}" for name, value in repo.card.items())]

    def add_fault(self, fault: Fault) -> None:
        """Arm a fault; those armed first are tried first."""
        with self._lock:
            self._armed.append((fault, []))

    def clear_faults(self) -> None:
        """Disarm all faults, for the second act of a test."""
        with self._lock:
            self._armed.clear()

    def requests(self, server: Server, method: str = "GET") -> list[LoggedRequest]:
        """Pick from the log what one server was asked by one method."""
        wanted = (server, method)
        return [entry for entry in list(self.log) if (entry.server, entry.method) == wanted]

    def take_faults(self, request: _Request, wanted: Callable[[Fault], bool]) -> list[Fault]:
        """Find the armed faults that hit this request, and count the hit."""
        target = unquote(request.target)
        hits = []
        with self._lock:
            for fault, used in self._armed:
                here = fault.server in (None, request.server) and fault.path in target
                left = fault.times is None or len(used) < fault.times
                if here and left and fault.method in (None, request.method) and wanted(fault):
                    used.append(None)
                    hits.append(fault)
        return hits

    def note(self, request: _Request, code: int) -> None:
        """Log a request, before the client can see the answer."""
        span, token = request.headers.get("Range"), request.headers.get("Authorization")
        place = (request.server, request.method, request.target)
        self.log.append(LoggedRequest(*place, span, token, code))

    def answer(self, request: _Request) -> _Reply:
        """Work out the reply that a hub or CDN in good health gives."""
        path = urlsplit(request.target).path
        if request.server == "cdn":
            return self._cdn(path)
        if path == "/api/whoami-v2":
            return _whoami(request.token)
        routes = ((_SMALL, self._small), (_API, self._api), (_RESOLVE, self._resolve))
        for pattern, handle in routes:
            if found := pattern.fullmatch(path):
                parts = {name: unquote(text or "") for name, text in found.groupdict().items()}
                return handle(request, **parts)
        return _json({"error": "Not found"}, 404)

    def _cdn(self, path: str) -> _Reply:
        for repo in self._repos.values():
            for files in repo.commits.values():
                for file in files.values():
                    if file.is_lfs and path == f"/lfs/{file.sha256}":
                        return self._blob(file, f'"{file.sha256[:32]}"')
        return _Reply(404)

    def _blob(self, file: _File, etag: str, **headers: str) -> _Reply:
        name = quote(file.path.rpartition("/")[2], safe="")
        named = {field.replace("_", "-"): text for field, text in headers.items()}
        shown = f"inline; filename*=UTF-8''{name}; filename=\"{name}\";"
        return _Reply(200, {"ETag": etag, "Content-Disposition": shown, **named}, file)

    def _open(
        self, request: _Request, repo: str, rev: str, *, listed: bool = False
    ) -> tuple[_Repo, str] | _Reply:
        """Find a repo and its commit, or the error the hub gives to this caller."""
        found = self._repos.get(repo)
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

    def _api(self, request: _Request, repo: str, verb: str, rev: str, path: str) -> _Reply:
        listed = verb in ("", "revision", "refs")
        found = self._open(request, repo, rev or "main", listed=listed)
        if isinstance(found, _Reply):
            return found
        files = list(found[0].commits[found[1]].values())
        if verb == "tree":
            return self._tree(request, files, path)
        if verb == "paths-info":
            asked = {value for name, value in parse_qsl(request.form) if name == "paths"}
            return _json([_tree_entry(file) for file in files if file.path in asked])
        if verb == "refs":
            return _json(_refs(found[0]))
        if verb == "auth-check":
            return _json({})
        return _json(_model_info(*found, files, blobs=bool(request.query("blobs"))))

    def _tree(self, request: _Request, files: list[_File], folder: str) -> _Reply:
        recursive = request.query("recursive").lower() in ("true", "1")
        entries = _tree_entries(files, folder, recursive=recursive)
        if folder and not entries:
            return _error(404, f'"{folder}" does not exist', "EntryNotFound")
        start = int(request.query("cursor") or 0)
        stop = start + self.page_size
        if stop >= len(entries):
            return _json(entries[start:])
        parts = urlsplit(request.target)
        query = urlencode({**dict(parse_qsl(parts.query)), "cursor": stop})
        link = f'<{self.endpoint}{parts.path}?{query}>; rel="next"'
        return _json(entries[start:stop], Link=link)

    def _resolve(self, request: _Request, repo: str, rev: str, path: str) -> _Reply:
        found = self._open(request, repo, rev)
        if isinstance(found, _Reply):
            return found
        commit = found[1]
        file = found[0].commits[commit].get(path)
        if file is None:
            return _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit)
        marks = {"X-Repo-Commit": commit, "X-Linked-Size": str(file.size)}
        marks["X-Linked-ETag"] = f'"{file.sha256 if file.is_lfs else file.git_oid}"'
        if not file.is_lfs:
            place = f"/api/resolve-cache/models/{repo}/{commit}/{quote(path, safe='')}"
            return _Reply(307, {**marks, "Location": place}, _make_file("", b"Temporary Redirect"))
        name = quote(path, safe="")
        signed = f"filename={name}&Expires=2000000000&Signature=fake"
        place = f"{self.cdn_endpoint}/lfs/{file.sha256}?{signed}"
        return _Reply(302, {**marks, "Location": place}, _make_file("", b"Found"))

    def _small(self, request: _Request, repo: str, rev: str, path: str) -> _Reply:
        found = self._open(request, repo, rev)
        if isinstance(found, _Reply):
            return found
        file = found[0].commits[found[1]].get(path)
        if file is None:
            return _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=rev)
        return self._blob(file, f'"{file.git_oid}"', X_Repo_Commit=rev)


def _model_info(repo: _Repo, commit: str, files: list[_File], *, blobs: bool) -> dict[str, object]:
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
        "tags": repo.tags,
        "cardData": repo.card,
        "siblings": [_sibling(file, blobs=blobs) for file in files],
        **repo.extra,
    }


def _sibling(file: _File, *, blobs: bool) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": file.path}
    if blobs:
        entry |= {"size": file.size, "blobId": file.git_oid}
    if blobs and file.is_lfs:
        entry["lfs"] = {"sha256": file.sha256, **_lfs_sizes(file)}
    return entry


def _lfs_sizes(file: _File) -> dict[str, int]:
    return {"size": file.size, "pointerSize": len(_pointer(file.sha256, file.size))}


def _tree_entry(file: _File) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "oid": file.git_oid}
    entry |= {"size": file.size, "path": file.path}
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, **_lfs_sizes(file)}
    return entry


def _tree_entries(files: list[_File], folder: str, *, recursive: bool) -> list[dict[str, object]]:
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


def _refs(repo: _Repo) -> dict[str, object]:
    branches = [
        {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
        for name, sha in repo.refs.items()
    ]
    return {"branches": branches, "tags": [], "converts": []}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub, role: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self.role: Server = role
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.open_sockets: set[socket.socket] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Keep quiet about clients that go away; anything else is a defect of this file."""
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)

    def cut_connections(self) -> None:
        """End what idle clients keep open, or they could still be answered."""
        for connection in list(self.open_sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.open_sockets.add(self.connection)

    def finish(self) -> None:
        self.server.open_sockets.discard(self.connection)
        super().finish()

    def log_message(self, *_args: object, **_named: object) -> None:
        """Say nothing: the hub's own log is what tests read."""

    def do_GET(self) -> None:
        form = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self._serve(_Request(self.server.role, self.command, self.path, self.headers, form))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def _serve(self, request: _Request) -> None:
        hub = self.server.hub
        hangs = hub.take_faults(request, lambda fault: fault.kind == "hang")
        if hangs:
            hub.note(request, 0)
            if hub.closing.wait(hangs[0].seconds):
                self.close_connection = True
                return
        reply = hub.answer(request)
        if failed := hub.take_faults(request, lambda fault: fault.kind == "status")[:1]:
            reply = _json({"error": "Armed by the test"}, failed[0].code)
            reply.headers.update(failed[0].headers)
        self._send(request, reply, quiet=bool(hangs))

    def _send(self, request: _Request, reply: _Reply, *, quiet: bool) -> None:
        hub, size = self.server.hub, reply.body.size
        kinds = ("short", "no_range") if "Range" in request.headers else ("short",)
        faults = hub.take_faults(request, lambda fault: fault.kind in kinds)
        size = max(0, size - sum(fault.n for fault in faults))
        ignore = reply.status != 200 or any(fault.kind == "no_range" for fault in faults)
        span = None if ignore else _span(request.headers, size, reply.headers.get("ETag"))
        code, headers, (start, stop) = _ranged(reply, span, size)
        if not quiet:
            hub.note(request, code)
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(stop - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            self._send_body(request, reply.body, start, stop)

    def _send_body(self, request: _Request, file: _File, start: int, stop: int) -> None:
        kinds = ("drop", "reset", "slow", "stall", "corrupt")
        faults = {
            fault.kind: fault
            for fault in self.server.hub.take_faults(
                request, lambda fault: fault.kind in kinds and _touches(fault, start, stop)
            )
        }
        cut = faults.get("reset") or faults.get("drop")
        end = stop if cut is None else start + cut.at
        pause = faults.get("stall")
        middle = start if pause is None else min(start + pause.at, end)
        self._stream(file, start, middle, faults)
        if pause:
            self.server.hub.closing.wait(pause.seconds)
        self._stream(file, middle, end, faults)
        if cut:
            self._cut(hard=cut.kind == "reset")

    def _stream(self, file: _File, start: int, stop: int, faults: Mapping[str, Fault]) -> None:
        rate = faults["slow"].n if "slow" in faults else 0
        damage = faults.get("corrupt")
        for data in file.read(start, stop, max(1, rate // 20) if rate else _BLOCK):
            self.wfile.write(_flipped(data, start, damage) if damage else data)
            start += len(data)
            if rate:
                self.server.hub.closing.wait(len(data) / rate)

    def _cut(self, *, hard: bool) -> None:
        """End the connection early; a reset waits a moment so that the bytes get there first."""
        self.close_connection = True
        if hard:
            self.server.hub.closing.wait(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(self.connection.detach())


def _touches(fault: Fault, start: int, stop: int) -> bool:
    """Tell whether a fault of the bytes lies within what is sent, so `times` counts hits only."""
    if fault.kind == "corrupt":
        return start < fault.at + fault.n and fault.at < stop
    return fault.kind == "slow" or fault.at < stop - start


def _flipped(data: bytes, start: int, damage: Fault) -> bytes:
    low, high = max(damage.at - start, 0), max(damage.at + damage.n - start, 0)
    return data[:low] + bytes(byte ^ 0xFF for byte in data[low:high]) + data[high:]


def _span(headers: Message, size: int, etag: str | None) -> tuple[int, int] | None:
    """Read a Range header as start and stop; None if the whole file is to be sent."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range") or "")
    if not found or found.groups() == ("", "") or headers.get("If-Range", etag) != etag:
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


def _ranged(
    reply: _Reply, span: tuple[int, int] | None, size: int
) -> tuple[int, Headers, tuple[int, int]]:
    """Turn a whole answer into the part that was asked for."""
    if span is None:
        ranges = {"Accept-Ranges": "bytes"} if reply.status == 200 else {}
        return reply.status, {**reply.headers, **ranges}, (0, size)
    if span[0] >= span[1]:
        return 416, {"Content-Range": f"bytes */{size}"}, (0, 0)
    place = f"bytes {span[0]}-{span[1] - 1}/{size}"
    return 206, {**reply.headers, "Content-Range": place}, span
