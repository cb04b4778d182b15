"""What can go wrong on the way to a file: faults that a test arms at the Hub on loopback."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

Server = Literal["hub", "cdn"]


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

    def touches(self, start: int, stop: int) -> bool:
        """Tell whether it lies within the bytes that are sent, so `times` counts hits only."""
        if self.kind == "corrupt":
            return start < self.at + self.n and self.at < stop
        return self.kind == "slow" or self.at < stop - start

    def moved(self, start: int, stop: int, size: int) -> tuple[int, int]:
        """Return a part of a file moved by this fault, as far as the file goes."""
        start = min(max(start + self.at, 0), size - 1)
        return start, min(max(stop + self.at, start + 1), size)

    def flipped(self, data: bytes, start: int) -> bytes:
        """Return data from offset `start` of a file with this fault's bytes inverted."""
        low, high = max(self.at - start, 0), max(self.at + self.n - start, 0)
        return data[:low] + bytes(byte ^ 0xFF for byte in data[low:high]) + data[high:]


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


def redirect_to(url: str, **where: Unpack[Where]) -> Fault:
    """Redirect to this address instead of the CDN, for files that there are."""
    return Fault("redirect", headers={"Location": url}, **where)


def redirect_loop(**where: Unpack[Where]) -> Fault:
    """Redirect from a file to the same address again."""
    return Fault("redirect", **where)


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


def extra(n: int, **where: Unpack[Where]) -> Fault:
    """Announce and send a file that is `n` zeros longer than listed."""
    return _body("extra", where, n=n)


def slow(bytes_per_second: int, **where: Unpack[Where]) -> Fault:
    """Send a body at a steady low speed."""
    return _body("slow", where, n=bytes_per_second)


def stall(after: int, seconds: float, **where: Unpack[Where]) -> Fault:
    """Stop sending after `after` bytes of a body, and go on later."""
    return _body("stall", where, at=after, seconds=seconds)


def no_range(**where: Unpack[Where]) -> Fault:
    """Take no notice of a Range and answer 200 with the whole file."""
    return _body("no_range", where)


def wrong_range(shift: int = 0, total: int = 0, **where: Unpack[Where]) -> Fault:
    """Answer a Range with the bytes `shift` further on, or out of `total`, and say so."""
    return _body("wrong_range", where, at=shift, n=total)


def html(**where: Unpack[Where]) -> Fault:
    """Answer 200 with a page as a captive portal does: for files, or `server=None` for all."""
    return _body("html", where)


def limit_connections(n: int, **where: Unpack[Where]) -> Fault:
    """Answer 503 to whoever asks for a file while `n` are being sent already."""
    return _body("limit", where, n=n)


def _body(kind: str, where: Where, at: int = 0, n: int = 0, seconds: float = 0) -> Fault:
    """Make a fault of the bytes: they are the CDN's unless the test names the hub."""
    full: Where = {"server": "cdn", "method": "GET", **where}
    return Fault(kind, at=at, n=n, seconds=seconds, **full)
