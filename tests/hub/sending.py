"""How the Hub on loopback sends its answers, with what tests let go wrong on the way."""

from __future__ import annotations

import re
import socket
import struct
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from tests.hub.protocol import BLOCK, File, Headers, Reply, Request, json_reply, make_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

    from tests.hub.faults import Fault
    from tests.hub.loopback import Listener, LoopbackHub

_PORTAL = b"<!DOCTYPE html><html><body><h1>Sign in to the guest network</h1></body></html>\n"

#: Faults that need a Range to show.
_OF_RANGES = ("no_range", "wrong_range")


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        """Keep the socket in view, so that the hub can cut it when it stops."""
        super().setup()
        self.server.open_sockets.add(self.connection)

    def finish(self) -> None:
        """Let go of the socket."""
        self.server.open_sockets.discard(self.connection)
        super().finish()

    def log_message(self, *_args: object, **_named: object) -> None:
        """Say nothing: the hub's own log is what tests read."""

    def do_GET(self) -> None:
        """Answer a request."""
        self._serve(Request(self.server.role, self.command, self.path, self.headers))

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self.do_GET()

    def _serve(self, request: Request) -> None:
        hub = self.server.hub
        hangs = hub.take_faults(request, lambda fault: fault.kind == "hang")
        if hangs:
            hub.note(request, 0)
            if hub.closing.wait(hangs[0].seconds):
                self.close_connection = True
                return
        reply = _reply(hub, request)
        slots = hub.admit(request) if reply.is_file else ExitStack()
        if slots is None:
            reply, slots = Reply(503), ExitStack()
        with slots:
            self._send(request, reply, slots, quiet=bool(hangs))

    def _send(self, request: Request, reply: Reply, slots: ExitStack, *, quiet: bool) -> None:
        ranged = reply.is_file and "Range" in request.headers
        kinds = ("short", "extra", *(_OF_RANGES if ranged else ()))
        hits = self.server.hub.take_faults(request, lambda fault: fault.kind in kinds)
        faults = {fault.kind: fault for fault in hits}
        size = max(0, reply.body.size + _growth(faults))
        whole = not ranged or "no_range" in faults
        span = None if whole else _span(request.headers, size, reply.headers.get("ETag"))
        code, headers, (start, stop) = _ranged(reply, span, size, faults.get("wrong_range"))
        if not quiet:
            self.server.hub.note(request, code)
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(stop - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            self._send_body(request, reply.body, (start, stop), slots)

    def _send_body(
        self, request: Request, file: File, span: tuple[int, int], slots: ExitStack
    ) -> None:
        start, stop = span
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
        # The slot is free before the last byte is out: a client that has it may come again at once.
        last = max(middle, end - 1)
        self._stream(file, middle, last, faults)
        slots.close()
        self._stream(file, last, end, faults)
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


def _reply(hub: LoopbackHub, request: Request) -> Reply:
    """Return the answer of a hub in good health, or what an armed fault puts in its place."""
    reply = hub.answers.answer(request)
    kinds = ("status", "html", *(("redirect",) if "Location" in reply.headers else ()))
    hits = hub.take_faults(request, lambda fault: fault.kind in kinds)
    return _instead(hits[0], request, reply) if hits else reply


def _instead(fault: Fault, request: Request, reply: Reply) -> Reply:
    if fault.kind == "redirect":
        place = {"Location": request.target, **fault.headers}
        return replace(reply, status=302, headers={**reply.headers, **place})
    if fault.kind == "html":
        return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, make_file("", _PORTAL))
    failed = json_reply({"error": "Armed by the test"}, fault.code)
    return replace(failed, headers={**failed.headers, **fault.headers})


def _growth(faults: Mapping[str, Fault]) -> int:
    """Return by how many bytes the file is longer than it should be."""
    longer, shorter = (faults.get(kind) for kind in ("extra", "short"))
    return (longer.n if longer else 0) - (shorter.n if shorter else 0)


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
    reply: Reply, span: tuple[int, int] | None, size: int, wrong: Fault | None
) -> tuple[int, Headers, tuple[int, int]]:
    """Turn a whole answer into the part that was asked for, or into another one."""
    if span is None:
        ranges = {"Accept-Ranges": "bytes"} if reply.is_file else {}
        return reply.status, {**reply.headers, **ranges}, (0, size)
    if span[0] >= span[1]:
        return 416, {"Content-Range": f"bytes */{size}"}, (0, 0)
    total = size
    if wrong:
        span, total = (wrong.moved(*span, size)), wrong.n or size
    place = f"bytes {span[0]}-{span[1] - 1}/{total}"
    return 206, {**reply.headers, "Content-Range": place}, span
