"""Asks the engine and every source of devices at once, each on its own.

No source can make the tool fail or wait for ever: each is asked in a thread with a time limit, and
what it raises is its state.
"""

from __future__ import annotations

import time
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from quantpick.domain.host import Caveat, SourceState, State
from quantpick.domain.picture import picture
from quantpick.domain.sighting import Answer
from quantpick.errors import QuantpickError
from quantpick.probes.engine import EngineAnswer, probe_engine, unusable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quantpick.domain.host import Host, Ram
    from quantpick.probes.protocol import DeviceSource, Place

_T = TypeVar("_T")

#: Modules with a source of devices. Where two know a figure of one device the first one's counts.
DEVICE_SOURCES = ("nvidia", "amd", "intel", "apple", "windows", "vulkan")

#: Sources that are asked only where another one is not there or does not work.
_FALLBACKS = {"NVML": "nvidia_smi"}

_UNANSWERED = frozenset({State.NOT_INSTALLED, State.FAILED, State.TIMED_OUT})

#: Seconds for the engine in all, above the limits of its single calls.
_ENGINE_LIMIT = 300.0


def with_devices(host: Host, place: Place, stated: Path | None) -> Host:
    """Return the host with its devices: ask the engine and all sources at once.

    Raises UsageError where ``stated`` is no program of llama.cpp.
    """
    engine = _Call(lambda: probe_engine(place, stated))
    waiting = [(source, _start(source, place, host.ram)) for source in _sources()]
    answers = [
        part
        for source, call in waiting
        for part in _with_fallback(_answer(source, call), place, host.ram)
    ]
    told = _told(engine)
    caveats = [caveat for answer in answers for caveat in answer.caveats]
    host = host._replace(
        engine=told.engine,
        warnings=tuple(dict.fromkeys((*host.warnings, *told.caveats, *caveats))),
        sources=(*told.states, *(s for a in answers for s in a.states), *host.sources),
    )
    sightings = [sighting for answer in answers for sighting in answer.sightings]
    return picture(host, sightings, told.listed)


def _told(engine: _Call[EngineAnswer]) -> EngineAnswer:
    """Return what the engine answers, its state where looking for it or asking it goes wrong."""
    try:
        return engine.result(_ENGINE_LIMIT)
    except QuantpickError:
        # The user named a program that is none.
        raise
    except Exception as error:  # noqa: BLE001 -- a broken installation must not stop the answer
        state = State.TIMED_OUT if isinstance(error, TimeoutError) else State.FAILED
        return EngineAnswer(None, None, *unusable(str(error), state))


def _with_fallback(answer: Answer, place: Place, ram: Ram) -> list[Answer]:
    """Return a source's answer, and that of the one to ask where it could not answer."""
    first = answer.states[0]
    if first.source not in _FALLBACKS or first.state not in _UNANSWERED:
        return [answer]
    source = _module(_FALLBACKS[first.source])
    return [answer, _answer(source, _start(source, place, ram))]


def _sources() -> list[DeviceSource]:
    return [_module(name) for name in DEVICE_SOURCES]


def _module(name: str) -> DeviceSource:
    module: DeviceSource = import_module(f"quantpick.probes.{name}")
    return module


def _start(source: DeviceSource, place: Place, ram: Ram) -> _Call[Answer] | None:
    """Start asking a source, None where it is for another system."""
    if not place.system.startswith(source.SYSTEMS):
        return None
    return _Call(lambda: source.probe_devices(place, ram))


def _answer(source: DeviceSource, call: _Call[Answer] | None) -> Answer:
    """Return what a source answers; whatever goes wrong is its state."""
    if call is None:
        return Answer(states=(SourceState(source.SOURCE, State.OTHER_SYSTEM),))
    try:
        return call.result(source.TIME_LIMIT)
    except TimeoutError as error:
        state, detail = State.TIMED_OUT, str(error) or "no answer in time"
    except PermissionError as error:
        state, detail = State.NO_PERMISSION, f"cannot read {error.filename}"
    except Exception as error:  # noqa: BLE001 -- a broken driver must not stop the answer
        state, detail = State.FAILED, f"{type(error).__name__}: {error}"
    caveat = Caveat("source_failed", f"{source.SOURCE}: {detail}")
    return Answer(states=(SourceState(source.SOURCE, state, detail),), caveats=(caveat,))


class _Call(Thread, Generic[_T]):
    """A function that runs in a thread of its own, which a hung driver may keep for ever."""

    def __init__(self, function: Callable[[], _T]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._value: list[_T] = []
        self._error: BaseException | None = None
        self._since = time.monotonic()
        self.start()

    def run(self) -> None:
        """Run the function and keep what came of it."""
        try:
            self._value.append(self._function())
        except BaseException as error:  # noqa: BLE001 -- raised where the result is asked for
            self._error = error

    def result(self, limit: float) -> _T:
        """Return what the function returned, or raise what it raised.

        Raises TimeoutError ``limit`` seconds after the start.
        """
        self.join(max(0.0, self._since + limit - time.monotonic()))
        if self._error is not None:
            raise self._error
        if not self._value:
            raise TimeoutError(f"no answer within {limit:g} s")
        return self._value[0]
