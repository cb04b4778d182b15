"""A fake of the Hugging Face Hub on loopback, faithful where a download client looks.

Two listeners run, as in the real world: the hub, and a CDN of another origin to which every
large file is redirected. Both write into one log, so that a test can say which request went
where and whether the token went with it. Faults are armed by the test and hit what they match.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack
from urllib.parse import unquote

from tests.hub import xet
from tests.hub.answers import Answers
from tests.hub.limits import RequestWindow
from tests.hub.protocol import Repo, Request, make_file
from tests.hub.sending import Handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
    no_blobs: bool  # tells no sizes in the model info, whatever is asked, as some mirrors do
    claims: Mapping[str, str]  # the sha256 that listings tell of a large file, not the true one
    xet: bool  # keeps the large files in a Xet storage as well, and announces it


@dataclass
class _Armed:
    """A fault, how often it hit, and the transfers that a connection limit has room for."""

    fault: Fault
    hits: int = 0
    room: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.room = threading.Semaphore(self.fault.n if self.fault.kind == "limit" else 0)


class LoopbackHub:
    """The two servers, what they hold, what goes wrong and what was asked."""

    def __init__(self, accepted_token: str = "hf_accepted", page_size: int = 1000) -> None:
        """Bind both ports; requests are answered from `with` on."""
        self.log: list[LoggedRequest] = []
        self.closing = threading.Event()
        self.answers = Answers(accepted_token, page_size)
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self._cleanup = ExitStack()
        self._xet_folder: Path | None = None
        self._servers: list[Listener] = [Listener(self, "hub"), Listener(self, "cdn")]
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
        self._cleanup.close()

    # What it holds

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
        made = {path: make_file(path, source) for path, source in files.items()}
        large = {path: file.source for path, file in made.items() if file.is_lfs}
        repo.xet = about.get("xet", False)
        claims, hashes = about.get("claims", {}), self._seed(large) if repo.xet else {}
        repo.contents[sha] = made
        repo.commits[sha] = {
            path: file.listed(claims.get(path), hashes.get(path)) for path, file in made.items()
        }
        repo.refs[revision] = sha
        repo.no_blobs = about.get("no_blobs", False)
        repo.gated, repo.extra = about.get("gated", False), dict(about.get("info", {}))
        given = {"license": about.get("license"), "base_model": about.get("base_model")}
        repo.card = {name: value for name, value in given.items() if value}

    def replace_bytes(self, repo_id: str, path: str, data: bytes) -> None:
        """Serve other bytes for a file of all commits, while listings stay as they are.

        A Xet storage keeps what it has.
        """
        contents = self.answers.repos[repo_id].contents.values()
        for files in [files for files in contents if path in files]:
            files[path] = make_file(path, data)

    @property
    def xet_folder(self) -> Path:
        """Where the Xet storage is, for tests that spoil it; made at the first use."""
        if self._xet_folder is None:
            self._xet_folder = Path(self._cleanup.enter_context(TemporaryDirectory()))
            self.answers.cas_url = xet.cas_url(self._xet_folder)
        return self._xet_folder

    def _seed(self, files: Mapping[str, bytes | Path]) -> dict[str, str]:
        return xet.seed(self.xet_folder, files)

    # What runs out

    @property
    def link_lifetime(self) -> float | None:
        """Seconds for which a link to the CDN holds from when it is given; None is for ever."""
        return self.answers.links.lifetime

    @link_lifetime.setter
    def link_lifetime(self, seconds: float | None) -> None:
        self.answers.links.lifetime = seconds

    def expire_links(self) -> None:
        """End all links to the CDN that were given so far."""
        self.answers.links.expire()

    @property
    def api_limit(self) -> int | None:
        """The requests to /api that are answered; then a second of 429s. Setting it starts anew."""
        return self.answers.window.limit

    @api_limit.setter
    def api_limit(self, limit: int | None) -> None:
        self.answers.window = RequestWindow(limit)

    # What goes wrong, and what was asked

    def add_fault(self, fault: Fault) -> None:
        """Arm a fault; those armed first are tried first."""
        with self._lock:
            self._armed.append(_Armed(fault))

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
        return self._take(request, lambda armed: wanted(armed.fault))

    def admit(self, request: Request) -> ExitStack | None:
        """Count a transfer in, until what is returned is closed; None if a limit has no room."""
        slots = ExitStack()

        def full(armed: _Armed) -> bool:
            if armed.fault.kind != "limit":
                return False
            if not armed.room.acquire(blocking=False):
                return True
            slots.callback(armed.room.release)
            return False

        if not self._take(request, full):
            return slots
        slots.close()
        return None

    def _take(self, request: Request, wanted: Callable[[_Armed], bool]) -> list[Fault]:
        target = unquote(request.target)
        hits = []
        with self._lock:
            for armed in self._armed:
                fault = armed.fault
                here = fault.server in (None, request.server) and fault.path in target
                left = fault.times is None or armed.hits < fault.times
                if here and left and fault.method in (None, request.method) and wanted(armed):
                    armed.hits += 1
                    hits.append(fault)
        return hits

    def note(self, request: Request, code: int) -> None:
        """Log a request, before the client can see the answer."""
        span, token = request.headers.get("Range"), request.headers.get("Authorization")
        place = (request.server, request.method, request.target)
        self.log.append(LoggedRequest(*place, span, token, code))


class Listener(ThreadingHTTPServer):
    """One of the two servers, with the connections that it holds."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub, role: Server) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
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
