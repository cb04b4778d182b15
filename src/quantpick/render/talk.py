"""Plain lines to stderr: errors, hints and notes. Loads nothing that is slow to import."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from quantpick.domain.names import printable
from quantpick.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from quantpick.domain.host import Caveat
    from quantpick.errors import QuantpickError


def say(text: str) -> None:
    """Print a line to stderr; nobody there to read it is no reason to stop."""
    with suppress(BrokenPipeError):
        print(printable(text), file=sys.stderr, flush=True)


def print_error(error: QuantpickError) -> None:
    """Print an error and what to do next, each hint on its own line."""
    say(error.message if isinstance(error, StoppedError) else f"error: {error.message}")
    for hint in error.hints:
        say(f"hint: {hint}")


def print_warnings(warnings: Iterable[Caveat]) -> None:
    """Print warnings, one a line."""
    for warning in warnings:
        say(f"warning: {warning.message}")
