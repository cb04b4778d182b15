"""One question to the Hub about many things: a few at once, answered in order, few in memory."""

from __future__ import annotations

from itertools import count
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from quantpick.errors import QuantpickError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_T = TypeVar("_T")
_R = TypeVar("_R")

#: Answers that may wait for a slow one before them, for each thread that asks.
_AHEAD = 4

#: Seconds after which a wait looks up, so that Ctrl-C is heard on every system.
_LOOK = 0.2


def sweep(
    items: Iterable[_T], ask: Callable[[_T], _R], workers: int
) -> Generator[tuple[_T, _R | QuantpickError], None, None]:
    """Yield each item with what ``ask`` returns for it, or with the error of ours that it raises.

    At most ``workers`` are asked at once. Ending the iteration ends the asking: what is under way
    is not waited for.
    """
    run = _Sweep(items, ask, workers)
    try:
        run.start()
        for index in count():
            found = run.answer(index)
            if found is None:
                return
            yield found
    finally:
        run.stop()


class _Sweep(Generic[_T, _R]):
    """Threads that ask, with a queue of tickets to them and a queue of news from them.

    No Condition: a Ctrl-C that comes while the main thread waits for one can lose its lock, which
    makes a RuntimeError of the interrupt. A SimpleQueue is either waited for or not.
    """

    def __init__(self, items: Iterable[_T], ask: Callable[[_T], _R], workers: int) -> None:
        self._items, self._ask, self._workers = iter(items), ask, workers
        self._given, self._giving, self._stopped = 0, Lock(), False
        self._tickets: SimpleQueue[None] = SimpleQueue()
        self._news: SimpleQueue[
            tuple[int, tuple[_T, _R | QuantpickError] | None] | BaseException
        ] = SimpleQueue()
        self._found: dict[int, tuple[_T, _R | QuantpickError] | None] = {}

    def start(self) -> None:
        """Begin to ask."""
        for _ in range(self._workers * (1 + _AHEAD)):
            self._tickets.put(None)
        for _ in range(self._workers):
            Thread(target=self._work, daemon=True).start()

    def answer(self, index: int) -> tuple[_T, _R | QuantpickError] | None:
        """Return the answer of this place once it is there, None after the last."""
        while index not in self._found:
            self._hear()
        self._tickets.put(None)
        return self._found.pop(index)

    def stop(self) -> None:
        """Give out nothing more."""
        self._stopped = True
        for _ in range(self._workers):
            self._tickets.put(None)

    def _hear(self) -> None:
        try:
            news = self._news.get(timeout=_LOOK)
        except Empty:
            return
        if isinstance(news, BaseException):
            raise news
        self._found.update([news])

    def _work(self) -> None:
        try:
            self._tickets.get()
            while not self._stopped and (task := self._next()) is not None:
                index, item = task
                self._news.put((index, (item, self._result(item))))
                self._tickets.get()
        except BaseException as error:  # noqa: BLE001 -- a thread has nobody above it to tell
            self._news.put(error)

    def _next(self) -> tuple[int, _T] | None:
        with self._giving:
            for item in self._items:
                self._given += 1
                return self._given - 1, item
            self._news.put((self._given, None))
            return None

    def _result(self, item: _T) -> _R | QuantpickError:
        try:
            return self._ask(item)
        except QuantpickError as error:
            return error
