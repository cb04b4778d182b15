"""Progress of a transfer: a bar on a terminal, plain lines in a pipe, both on stderr."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from quantpick.domain.names import printable
from quantpick.domain.progress import ProgressKind, Silent
from quantpick.domain.units import format_gb
from quantpick.render.talk import say

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from quantpick.domain.progress import Progress

#: Seconds between two lines of one step in a pipe.
_LINE_EVERY = 10.0

#: The same for JSON lines.
_JSON_EVERY = 0.5


def progress_display(kind: ProgressKind = ProgressKind.AUTO, *, quiet: bool = False) -> Progress:
    """Return the display that was asked for, or the one that suits stderr."""
    if quiet and kind is ProgressKind.AUTO:
        kind = ProgressKind.NONE
    if kind is ProgressKind.AUTO:
        kind = ProgressKind.BAR if sys.stderr.isatty() else ProgressKind.LINES
    return _DISPLAYS[kind]()


class LineProgress:
    """Says when a step starts, and at most every ten seconds how far it is."""

    def __init__(self) -> None:
        self._what, self._total, self._done, self._said = "", 0, 0, 0.0

    def start(self, what: str, total_bytes: int) -> None:
        """Begin a step over this many bytes."""
        self._what, self._total, self._done = what, total_bytes, 0
        self._said = time.monotonic()
        say(f"{what} ({format_gb(total_bytes)})")

    def advance(self, count: int) -> None:
        """Count bytes of the step as done."""
        self._done += count
        if time.monotonic() - self._said >= _LINE_EVERY:
            self._said = time.monotonic()
            say(f"{self._what}: {format_gb(self._done)} of {format_gb(self._total)}")

    def finish(self) -> None:
        """End the step."""

    def note(self, text: str) -> None:
        """Say something worth a line."""
        say(text)


class JsonProgress:
    """Writes one JSON object a line: what starts, how far it is twice a second, what ends."""

    def __init__(self) -> None:
        self._what, self._total, self._done, self._said = "", 0, 0, 0.0

    def start(self, what: str, total_bytes: int) -> None:
        """Begin a step over this many bytes."""
        self._what, self._total, self._done = what, total_bytes, 0
        self._say("start")

    def advance(self, count: int) -> None:
        """Count bytes of the step as done."""
        self._done += count
        if time.monotonic() - self._said >= _JSON_EVERY:
            self._say("progress")

    def finish(self) -> None:
        """End the step."""
        self._say("end")

    def note(self, text: str) -> None:
        """Say something worth a line."""
        say(json.dumps({"event": "note", "text": text}))

    def _say(self, event: str) -> None:
        self._said = time.monotonic()
        fields = {"what": self._what, "done_bytes": self._done, "total_bytes": self._total}
        say(json.dumps({"event": event, **fields}))


class BarProgress:
    """Draws one bar a step, which stays when the step is done."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def start(self, what: str, total_bytes: int) -> None:
        """Begin a step over this many bytes."""
        self._bars = _bars()
        self._bars.start()
        self._task = self._bars.add_task(printable(what), total=total_bytes)

    def advance(self, count: int) -> None:
        """Count bytes of the step as done."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, count)

    def finish(self) -> None:
        """End the step."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def note(self, text: str) -> None:
        """Say something worth a line."""
        say(text)


_DISPLAYS: dict[ProgressKind, type[Progress]] = {
    ProgressKind.BAR: BarProgress,
    ProgressKind.LINES: LineProgress,
    ProgressKind.JSON: JsonProgress,
    ProgressKind.NONE: Silent,
}


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        BarColumn(bar_width=16),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        expand=True,
    )
