"""How hard a transfer tries: connections, time limits and waits."""

from __future__ import annotations

from typing import NamedTuple

#: Bytes of one range request, at most and, where the file is large enough, at least. Large ones
#: save requests; small ones at the end keep all connections busy to the last.
LARGEST_RANGE = 32 << 20
SMALLEST_RANGE = 4 << 20

#: The longest wait that a server may ask for, in seconds: the Hub counts requests in windows of
#: five minutes.
LONGEST_WAIT = 300.0


class Policy(NamedTuple):
    """``connections`` is the budget for all files of a run together.

    ``timeout`` is the seconds without a byte after which a connection counts as dead, and ``waits``
    the seconds before each further try that follows a try without progress: so many such tries in
    a row are made.
    """

    connections: int = 8
    timeout: float = 10.0
    waits: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)


def waits_of(retries: int) -> tuple[float, ...]:
    """Return the seconds before each of so many tries in a row: 1, 2, 4, and 8 at the most."""
    return tuple(float(min(1 << number, 8)) for number in range(retries))


def range_length(missing: int, connections: int) -> int:
    """Return how many bytes the next request asks for when ``missing`` are left in all."""
    return max(SMALLEST_RANGE, min(LARGEST_RANGE, missing // (2 * connections)))


def asked_wait(retry_after: str, rate_limit: str) -> float | None:
    """Return the seconds that a server asks to wait, None where it does not ask.

    ``Retry-After`` in seconds comes first, then ``t`` of the Hub's ``RateLimit`` where nothing is
    left in the window (``"api";r=0;t=55``).
    """
    if retry_after.strip().isdecimal() and retry_after.isascii():
        return float(retry_after)
    fields = dict(field.strip().partition("=")[::2] for field in rate_limit.split(";"))
    left, reset = fields.get("r", ""), fields.get("t", "")
    if left == "0" and reset.isdecimal() and reset.isascii():
        return float(reset)
    return None
