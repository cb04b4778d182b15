"""A file on the Hub as bytes from an offset on: links that expire, errors worth a further try.

The Hub answers with a signed link to another host. It is kept and used for all ranges of the file,
so that the Hub itself is asked once; when it expires a new one is fetched.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING

from quantpick import hub
from quantpick.errors import HubError, IntegrityError
from quantpick.web import WebError, with_retries

if TYPE_CHECKING:
    from quantpick.domain.listing import RemoteFile
    from quantpick.domain.policy import Policy
    from quantpick.errors import QuantpickError
    from quantpick.web import Answer, Web

_PARTIAL = 206

#: Answers of a host that the Hub redirects to which mean that the link is used up.
_EXPIRED = frozenset({400, 401, 403, 404, 410})

#: Seconds that a range of a header may take to arrive, however steadily it drips.
_RANGE_TIME = 120.0
_BLOCK = 1 << 20


class WrongLengthError(IntegrityError):
    """The server's file is not as long as the Hub lists it."""


class RemoteBytes:
    """One listed file; threads may open it at several places at once."""

    def __init__(self, web: Web, repo_id: str, revision: str, file: RemoteFile) -> None:
        self._web, self._repo_id, self._revision = web, repo_id, revision
        self.file = file
        self._address = hub.file_url(repo_id, revision, file.path)
        self._link: str | None = None
        self._lock = Lock()

    def open(self, start: int, stop: int) -> tuple[Answer, int]:
        """Return an answer with bytes from an offset on, and that offset.

        It is ``start``, or 0 where the server takes no notice of ranges. Raises WebError, and
        WrongLengthError for a file of another length.
        """
        headers = {"Range": f"bytes={start}-{stop - 1}"} if start < stop else {}
        answer = self._get(headers)
        found = _length(answer)
        if found not in {None, self.file.size}:
            # A link may lead to what was there before; a new one does not.
            answer.close()
            self._link = None
            answer = self._get(headers)
            found = _length(answer)
        if found not in {None, self.file.size}:
            answer.close()
            raise wrong_length(self.file, f"{found} bytes")
        if answer.status != _PARTIAL:
            return answer, 0
        place = answer.headers.get("Content-Range", "").partition("/")[0]
        if place != f"bytes {start}-{stop - 1}":
            answer.close()
            raise WebError("the server sent other bytes than asked for")
        return answer, start

    def refusal(self, error: WebError) -> QuantpickError:
        """Return the error to end with after a WebError that retries did not better."""
        return hub.refusal(error, self._repo_id, self._revision)

    def _get(self, headers: dict[str, str]) -> Answer:
        used = self._link
        if used is not None:
            try:
                return self._web.get(used, headers)
            except WebError as error:
                if error.status not in _EXPIRED:
                    raise
        # One thread fetches a new link, the others wait for it.
        with self._lock:
            link = self._link
            if link == used:
                answer = self._web.get(self._address, headers)
                self._link = answer.url
                return answer
        return self._web.get(link or self._address, headers)


def _length(answer: Answer) -> int | None:
    """Return how long the server says the whole file is, None where it does not say."""
    if answer.status == _PARTIAL:
        said = answer.headers.get("Content-Range", "").partition("/")[2]
    else:
        said = answer.headers.get("Content-Length", "")
    return int(said) if said.isascii() and said.isdecimal() else None


def read_range(source: RemoteBytes, start: int, length: int, policy: Policy) -> bytes:
    """Return ``length`` bytes of a listed file from ``start`` on, both within the file.

    A server that sends the whole file instead is listened to as far as needed. Raises the errors of
    hub.refusal, and WrongLengthError.
    """
    try:
        return with_retries(lambda: _read_range(source, start, length), policy)
    except WebError as error:
        raise source.refusal(error) from error


def _read_range(source: RemoteBytes, start: int, length: int) -> bytes:
    answer, at = source.open(start, start + length)
    skip, found, end = start - at, bytearray(), time.monotonic() + _RANGE_TIME
    try:
        # Read on past the last byte only where the body ends there, which keeps the connection.
        while len(found) <= length and (data := answer.read(_BLOCK)):
            found += data[skip:]
            skip = max(skip - len(data), 0)
            if time.monotonic() > end:
                raise HubError(
                    f"{source.file.path} comes too slowly: {len(found)} bytes in "
                    f"{_RANGE_TIME:.0f} s",
                    "check the network, then try again",
                )
    finally:
        answer.close(reusable=len(found) == length)
    if len(found) < length:
        raise wrong_length(source.file, "fewer bytes")
    return bytes(found[:length])


def wrong_length(file: RemoteFile, found: str) -> WrongLengthError:
    """Return the error for a server that has a file of another length."""
    return WrongLengthError(
        f"{file.path} arrived shorter or longer than the Hub lists it: {found}, expected "
        f"{file.size}",
        "run the same command again; if it repeats, the repo or a proxy is at fault",
    )
