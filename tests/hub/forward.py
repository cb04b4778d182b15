"""Proxies on loopback, as offices have them: the only way to the names that they know."""

from __future__ import annotations

import base64
import socket
import struct
import threading
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = 1 << 16

#: What a proxy and each of its two sides say of themselves, and not of the request.
_OF_THE_HOP = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive"})

#: The words of SOCKS5: no login wanted, granted, a name for an address.
_SOCKS, _NO_LOGIN, _GRANTED, _NAME = 5, 0, 0, 3


class Proxy(ThreadingHTTPServer):
    """An HTTP proxy, or one of SOCKS5: what it was asked, and where its names lead.

    ``places`` has the real host and port of names that nobody else knows; ``login`` is the
    ``user:password`` that it wants.
    """

    daemon_threads = True

    def __init__(
        self, places: Mapping[str, str], *, login: str | None = None, socks: bool = False
    ) -> None:
        """Bind a port; requests are answered from `with` on."""
        super().__init__(("127.0.0.1", 0), _Socks if socks else _Http)
        self.places, self.login = places, login
        self.asked: list[str] = []

    @property
    def host(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        """Start answering."""
        threading.Thread(target=partial(self.serve_forever, 0.02), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Keep quiet about connections that end."""

    def place(self, host: str) -> str:
        """Return the host and port that a request is for, and note it."""
        self.asked.append(host)
        return self.places.get(host.partition(":")[0], host)


class _Http(BaseHTTPRequestHandler):
    """One connection of a client to an HTTP proxy; it carries one request."""

    server: Proxy

    def log_message(self, *_args: object, **_named: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Fetch what a client asks for."""
        if not self._let_in():
            return
        url = urlsplit(self.path)
        there = HTTPConnection(self.server.place(url.netloc), timeout=30)
        told = {
            name: text for name, text in self.headers.items() if name.lower() not in _OF_THE_HOP
        }
        there.request("GET", url._replace(scheme="", netloc="").geturl(), headers=told)
        answer = there.getresponse()
        self.send_response(answer.status)
        for name, text in answer.getheaders():
            self.send_header(name, text)
        self.end_headers()
        while data := answer.read(_BLOCK):
            self.wfile.write(data)
        there.close()

    def do_CONNECT(self) -> None:
        """Open a tunnel."""
        if not self._let_in():
            return
        place = self.server.place(self.path)
        self.send_response(200)
        self.end_headers()
        _tunnel(self.connection, place)

    def _let_in(self) -> bool:
        login = self.server.login
        wanted = base64.b64encode((login or "").encode()).decode()
        if login is None or self.headers.get("Proxy-Authorization") == f"Basic {wanted}":
            return True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="office"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False


class _Socks(BaseRequestHandler):
    """One connection of a client to a SOCKS5 proxy."""

    server: Proxy

    def handle(self) -> None:
        """Agree on no login, then open a tunnel."""
        _, methods = self._take(2)
        self._take(methods)
        self.request.sendall(bytes((_SOCKS, _NO_LOGIN)))
        _, _, _, kind = self._take(4)
        host = self._take(self._take(1)[0]).decode() if kind == _NAME else self._address()
        (port,) = struct.unpack(">H", self._take(2))
        place = self.server.place(f"{host}:{port}")
        self.request.sendall(bytes((_SOCKS, _GRANTED, 0, 1)) + bytes(6))
        _tunnel(self.request, place)

    def _address(self) -> str:
        return socket.inet_ntoa(self._take(4))

    def _take(self, count: int) -> bytes:
        data: bytes = self.request.recv(count, socket.MSG_WAITALL)
        return data


def _tunnel(client: socket.socket, place: str) -> None:
    """Pass bytes both ways until one side has no more."""
    host, _, port = place.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as there:
        back = threading.Thread(target=_pass_on, args=(there, client), daemon=True)
        back.start()
        _pass_on(client, there)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(_BLOCK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
