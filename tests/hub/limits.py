"""What a Hub gives out for a while only: links to its CDN, and requests in a window of time."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hub.protocol import Request

_FAR_AHEAD = 2_000_000_000  # in 2033

#: Seconds for which requests are refused once the limit is spent.
_WINDOW = 1.0


class SignedLinks:
    """The signatures of links to the CDN; each holds for one repo."""

    def __init__(self) -> None:
        self.lifetime: float | None = None  # seconds
        self._round = 0

    def query(self, repo: str) -> str:
        """Return the part of a link that tells how long it holds, and that proves it."""
        expires = _FAR_AHEAD if self.lifetime is None else f"{time.time() + self.lifetime:.6f}"
        return f"Expires={expires}&Signature={self._signature(repo)}"

    def belongs(self, request: Request, repo: str) -> bool:
        """Tell whether a link was ever signed for this repo."""
        return request.query("Signature").startswith(_key(repo))

    def holds(self, request: Request, repo: str) -> bool:
        """Tell whether a link may be used still."""
        in_time = float(request.query("Expires")) > time.time()
        return in_time and request.query("Signature") == self._signature(repo)

    def expire(self) -> None:
        """End all links that are out."""
        self._round += 1

    def _signature(self, repo: str) -> str:
        return f"{_key(repo)}{self._round}"


def _key(repo: str) -> str:
    # Not the name: faults are armed by what an address holds, and it may be a repo's name.
    return f"{hashlib.sha1(repo.encode()).hexdigest()}-"


class RequestWindow:
    """So many requests, then none until a second after the first that was refused."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._used = 0
        self._refused_at: float | None = None
        self._lock = threading.Lock()

    def admits(self) -> bool:
        """Count a request and tell whether it may be answered."""
        with self._lock:
            if self._refused_at is not None and time.monotonic() >= self._refused_at + _WINDOW:
                self._used, self._refused_at = 0, None
            self._used += 1
            if self.limit is None or self._used <= self.limit:
                return True
            self._refused_at = self._refused_at or time.monotonic()
            return False
