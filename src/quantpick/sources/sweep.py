"""One question to the Hub about many things: a few at once, answered in order, few in memory."""

from __future__ import annotations

from itertools import count
from threading import Condition, Thread
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
        for index in count():
            found = run.answer(index)
            if found is None:
                return
            yield found
    finally:
        run.stop()


class _Sweep(Generic[_T, _R]):
    def __init__(self, items: Iterable[_T], ask: Callable[[_T], _R], workers: int) -> None:
        self._items, self._ask = iter(items), ask
        self._changed = Condition()
        self._found: dict[int, tuple[_T, _R | QuantpickError]] = {}
        self._given, self._taken, self._most = 0, 0, workers * (1 + _AHEAD)
        self._finished = False
        self._bug: BaseException | None = None
        for _ in range(workers):
            Thread(target=self._work, daemon=True).start()

    def answer(self, index: int) -> tuple[_T, _R | QuantpickError] | None:
        """Return the answer of this place once it is there, None after the last."""
        with self._changed:
            while index not in self._found:
                if self._bug is not None:
                    raise self._bug
                if self._finished and index >= self._given:
                    return None
                self._changed.wait(_LOOK)
            self._taken = index + 1
            self._changed.notify_all()
            return self._found.pop(index)

    def stop(self) -> None:
        """Give out nothing more."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                index, item = task
                self._note(index, item, self._result(item))
        except BaseException as error:  # noqa: BLE001 -- a thread has nobody above it to tell
            with self._changed:
                self._bug = error
                self._finished = True
                self._changed.notify_all()

    def _next(self) -> tuple[int, _T] | None:
        with self._changed:
            while not self._finished and self._given - self._taken >= self._most:
                self._changed.wait()
            if self._finished:
                return None
            for item in self._items:
                self._given += 1
                return self._given - 1, item
            self._finished = True
            self._changed.notify_all()
            return None

    def _result(self, item: _T) -> _R | QuantpickError:
        try:
            return self._ask(item)
        except QuantpickError as error:
            return error

    def _note(self, index: int, item: _T, result: _R | QuantpickError) -> None:
        with self._changed:
            self._found[index] = (item, result)
            self._changed.notify_all()
