"""How a long transfer reports what it does; the one who shows it decides how."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ProgressKind(StrEnum):
    """How progress is shown."""

    AUTO = "auto"
    BAR = "bar"
    LINES = "lines"
    JSON = "json"
    NONE = "none"


class Progress(Protocol):
    """Receives what happens while files are fetched and checked."""

    def start(self, what: str, total_bytes: int) -> None:
        """Begin a step over this many bytes."""

    def advance(self, count: int) -> None:
        """Count bytes of the step as done; negative when some have to be fetched again."""

    def finish(self) -> None:
        """End the step."""

    def note(self, text: str) -> None:
        """Say something worth a line."""


class Silent:
    """A Progress that shows nothing."""

    def start(self, what: str, total_bytes: int) -> None:
        """Begin a step."""

    def advance(self, count: int) -> None:
        """Count bytes."""

    def finish(self) -> None:
        """End the step."""

    def note(self, text: str) -> None:
        """Say something."""


@contextmanager
def step(progress: Progress, what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Frame a step, so that its display ends however the step ends; yields the byte counter."""
    progress.start(what, total_bytes)
    try:
        yield progress.advance
    finally:
        progress.finish()
