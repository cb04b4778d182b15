"""Which bytes of a file are there: sorted, disjoint, half-open spans that never touch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Span = tuple[int, int]
Spans = tuple[Span, ...]


def add_span(spans: Spans, start: int, stop: int) -> Spans:
    """Return the spans with ``[start, stop)`` among them; touching ones become one."""
    if start >= stop:
        return spans
    first = bisect_left(spans, start, key=lambda span: span[1])
    last = bisect_right(spans, stop, key=lambda span: span[0])
    if first < last:
        start, stop = min(start, spans[first][0]), max(stop, spans[last - 1][1])
    return (*spans[:first], (start, stop), *spans[last:])


def covered(spans: Spans) -> int:
    """Return how many bytes the spans hold."""
    return sum(stop - start for start, stop in spans)


def front(spans: Spans, at: int) -> int:
    """Return where the span that holds byte ``at`` ends; ``at`` itself where none does."""
    place = bisect_right(spans, at, key=lambda span: span[0]) - 1
    return max(at, spans[place][1]) if place >= 0 else at


def gaps(spans: Spans, start: int, stop: int) -> Iterator[Span]:
    """Yield what is missing of ``[start, stop)``, in order."""
    for low, high in spans:
        if low >= stop:
            break
        if start < low:
            yield start, low
        start = max(start, high)
    if start < stop:
        yield start, stop
