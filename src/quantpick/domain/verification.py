"""What a check of files on disk found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """How a file stands against what it is held against."""

    OK = "ok"
    WRONG = "wrong"
    MISSING = "missing"
    #: Nothing says what the file should be; its header is whole.
    UNPROVEN = "unproven"


class Checked(NamedTuple):
    """One file: ``against`` is what it was held against, ``fault`` how it differs."""

    path: str
    state: State
    size: int
    against: str | None = None
    fault: str | None = None


class Verification(NamedTuple):
    """All files that were checked."""

    files: tuple[Checked, ...]

    def count(self, state: State) -> int:
        """Return how many files stand so."""
        return sum(file.state is state for file in self.files)
