"""How a long transfer reports what it does; the one who shows it decides how."""

from __future__ import annotations

from typing import Protocol


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
