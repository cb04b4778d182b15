"""A fake of the Hugging Face Hub on loopback, faithful where a download client looks.

Two listeners run, as in the real world: the hub, and a CDN of another origin to which every
large file is redirected. Both write into one log, so that a test can say which request went
where and whether the token went with it. Faults are armed by the test and hit what they match.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack
from urllib.parse import unquote

from tests.hub.protocol import (
    BLOCK,
    Answers,
    File,
    Headers,
    Reply,
    Repo,
    Request,
    json_reply,
    make_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message
    from pathlib import Path
    from types import TracebackType

    from tests.hub.faults import Fault, Server


@dataclass(frozen=True)
class LoggedRequest:
    """One request as it came in; status 0 means it was left hanging."""

    server: Server
    method: str
    path: str  # the target as sent: still quoted, with the query
    range: str | None
    authorization: str | None
    status: int


class About(TypedDict, total=False):
    """What a repo says of itself besides its files."""

    license: str | None
    base_model: str | None
    gated: bool
    info: Mapping[str, object]  # adds to, or replaces, fields of the model info


class LoopbackHub:
    """The two servers, what they hold, what goes wrong and what was asked."""

    def __init__(self, accepted_token: str = "hf_accepted", page_size: int = 1000) -> None:
        """Bind both ports; requests are answered from `with` on."""
        self.log: list[LoggedRequest] = []
        self.closing = threading.Event()
        self.answers = Answers(accepted_token, page_size)
        self._armed: list[tuple[Fault, list[None]]] = []
        self._lock = threading.Lock()
        self._servers: list[_Listener] = [_Listener(self, "hub"), _Listener(self, "cdn")]
        self.endpoint, self.cdn_endpoint = (server.url for server in self._servers)
        self.answers.endpoint, self.answers.cdn_endpoint = self.endpoint, self.cdn_endpoint

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
        repo = self.answers.repos.setdefault(repo_id, Repo(repo_id))
        repo.commits[sha] = {path: make_file(path, source) for path, source in files.items()}
        repo.refs[revision] = sha
        repo.gated, repo.extra = about.get("gated", False), dict(about.get("info", {}))
        given = {"license": about.get("license"), "base_model": about.get("base_model")}
        repo.card = {name: value for name, value in given.items() if value}

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

    def take_faults(self, request: Request, wanted: Callable[[Fault], bool]) -> list[Fault]:
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

    def note(self, request: Request, code: int) -> None:
        """Log a request, before the client can see the answer."""
        span, token = request.headers.get("Range"), request.headers.get("Authorization")
        place = (request.server, request.method, request.target)
        self.log.append(LoggedRequest(*place, span, token, code))


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
        self._serve(Request(self.server.role, self.command, self.path, self.headers))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _serve(self, request: Request) -> None:
        hub = self.server.hub
        hangs = hub.take_faults(request, lambda fault: fault.kind == "hang")
        if hangs:
            hub.note(request, 0)
            if hub.closing.wait(hangs[0].seconds):
                self.close_connection = True
                return
        reply = hub.answers.answer(request)
        if failed := hub.take_faults(request, lambda fault: fault.kind == "status")[:1]:
            reply = json_reply({"error": "Armed by the test"}, failed[0].code)
            reply.headers.update(failed[0].headers)
        self._send(request, reply, quiet=bool(hangs))

    def _send(self, request: Request, reply: Reply, *, quiet: bool) -> None:
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

    def _send_body(self, request: Request, file: File, start: int, stop: int) -> None:
        kinds = ("drop", "reset", "slow", "stall", "corrupt")
        faults = {
            fault.kind: fault
            for fault in self.server.hub.take_faults(
                request, lambda fault: fault.kind in kinds and fault.touches(start, stop)
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

    def _stream(self, file: File, start: int, stop: int, faults: Mapping[str, Fault]) -> None:
        rate = faults["slow"].n if "slow" in faults else 0
        damage = faults.get("corrupt")
        for data in file.read(start, stop, max(1, rate // 20) if rate else BLOCK):
            self.wfile.write(damage.flipped(data, start) if damage else data)
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
    reply: Reply, span: tuple[int, int] | None, size: int
) -> tuple[int, Headers, tuple[int, int]]:
    """Turn a whole answer into the part that was asked for."""
    if span is None:
        ranges = {"Accept-Ranges": "bytes"} if reply.status == 200 else {}
        return reply.status, {**reply.headers, **ranges}, (0, size)
    if span[0] >= span[1]:
        return 416, {"Content-Range": f"bytes */{size}"}, (0, 0)
    place = f"bytes {span[0]}-{span[1] - 1}/{size}"
    return 206, {**reply.headers, "Content-Range": place}, span
