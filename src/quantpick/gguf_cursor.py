"""A place in a GGUF header that only moves forward, over bytes that are fetched as needed.

It knows numbers and texts as they are stored, keeps one window of the file in memory, and never
asks for bytes beyond the file or beyond the limit of a header.
"""

from __future__ import annotations

from struct import Struct, error
from struct import unpack as unpack_bytes
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    Fetch = Callable[[int, int], bytes]

#: Bytes of the longest header that is read. A vocabulary of 262,144 tokens takes 7 MB, one of
#: 128,256 tokens with its merges 8 MB.
MOST_BYTES = 128 << 20

STRING = 8

_HINT = "download the file again, or choose another: this one is damaged or not what it says"


class Scalar(NamedTuple):
    """A type of value of fixed width: llama.cpp's name, struct's letter, bytes."""

    name: str
    letter: str
    width: int


SCALARS = {
    0: Scalar("u8", "B", 1),
    1: Scalar("i8", "b", 1),
    2: Scalar("u16", "H", 2),
    3: Scalar("i16", "h", 2),
    4: Scalar("u32", "I", 4),
    5: Scalar("i32", "i", 4),
    6: Scalar("f32", "f", 4),
    7: Scalar("bool", "?", 1),
    10: Scalar("u64", "Q", 8),
    11: Scalar("i64", "q", 8),
    12: Scalar("f64", "d", 8),
}

_WIDTHS = {"I": 4, "Q": 8}


class Cursor:
    """Reads forward through a file of ``size`` bytes; ``at`` is the offset of the next byte."""

    def __init__(self, fetch: Fetch, size: int, name: str) -> None:
        self.at = 0
        self.size = size
        self._name = name
        self._fetch = fetch
        self._order = "<"
        self._window = b""
        self._start = 0
        self._kept = 0

    def read_big_endian(self) -> None:
        """Take all further numbers in the other byte order."""
        self._order = ">"

    def error(self, what: str, at: int | None = None, hint: str = _HINT) -> IntegrityError:
        """Return the error for what is wrong at an offset."""
        place = self.at if at is None else at
        return IntegrityError(f"{self._name}: {what} (byte {place})", hint)

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        self._fill(size)
        start = self.at - self._start
        self.at += size
        return self._window[start : start + size]

    def number(self, letter: str) -> int:
        """Return the next u32 (``I``) or u64 (``Q``)."""
        value: int = unpack_bytes(self._order + letter, self.take(_WIDTHS[letter]))[0]
        return value

    def values(self, kind: int, count: int) -> tuple[Any, ...]:
        """Return the next values of one type of fixed width."""
        scalar = SCALARS[kind]
        return unpack_bytes(f"{self._order}{count}{scalar.letter}", self.take(count * scalar.width))

    def text(self, longest: int, what: str) -> str:
        """Return the next text, bytes that are no UTF-8 replaced."""
        at, size = self.at, self.length(what)
        if size > longest:
            raise self.error(f"{what} of {size} bytes, more than {longest}", at)
        return self.take(size).decode("utf-8", "replace")

    def length(self, what: str) -> int:
        """Return the length of the text that follows."""
        at, size = self.at, self.number("Q")
        if size > self.size - self.at:
            left = self.size - self.at
            raise self.error(f"cut short or damaged: {what} of {size} bytes, {left} are left", at)
        return size

    def check_count(self, count: int, width: int, most: int, what: str) -> None:
        """Refuse a count of things of at least ``width`` bytes that cannot all be there."""
        if count > most or count * width > self.size - self.at:
            raise self.error(f"cut short or damaged: {count} {what}, more than can be")

    def may_keep(self, size: int, most: int) -> bool:
        """Count bytes that are to be kept; False, and not counted, once there are too many."""
        if self._kept + size > most:
            return False
        self._kept += size
        return True

    def skip(self, size: int) -> None:
        """Pass over bytes without reading them."""
        self._check_end(size)
        self.at += size

    def skip_texts(self, count: int) -> None:
        """Pass over texts, reading their lengths only."""
        unpack = Struct(self._order + "Q").unpack_from
        while count:
            self._fill(8)
            window, at, left = self._window, self.at - self._start, count
            # The one loop that runs for each token of a vocabulary. The window's end shows as
            # an error, which costs less than a look at every step.
            try:
                for left in range(count, 0, -1):  # noqa: B007 -- what is left when it ends early
                    at += 8 + unpack(window, at)[0]
            except (error, OverflowError):
                count = left
            else:
                count = 0
            self.skip(self._start + at - self.at)

    def _fill(self, size: int) -> None:
        """See to it that the window holds the next bytes."""
        have = max(self._start + len(self._window) - self.at, 0)
        if have >= size:
            return
        self._check_end(size)
        rest = self._window[len(self._window) - have :] if have else b""
        limit = min(self.size, MOST_BYTES) - self.at - have
        more = self._fetch(self.at + have, size - have)[:limit]
        self._window, self._start = rest + more, self.at
        if len(self._window) < size:
            raise self._cut_short(self.at + len(self._window))

    def _check_end(self, size: int) -> None:
        if self.at + size > self.size:
            raise self._cut_short(self.size)
        if self.at + size > MOST_BYTES:
            raise self.error(f"a header of more than {MOST_BYTES >> 20} MiB")

    def _cut_short(self, end: int) -> IntegrityError:
        return self.error("cut short: it ends inside its header", end)
