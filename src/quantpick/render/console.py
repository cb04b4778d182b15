"""Tables and lines on a terminal and in a pipe; with progress.py the only door to rich."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantpick.domain.names import printable

__all__ = ["Console", "Table", "new_console", "new_table", "plain", "print_table"]

#: Columns of prose: they take what is left of the line, and fold.
_FOLDED = frozenset({"why", "note", "place", "what", "detail"})

#: Width of lines in a pipe, where nothing needs to be folded.
_PIPE_WIDTH = 240


def new_console() -> Console:
    """Return a console on stdout that prints text as it is, and in a pipe does not fold it."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def print_table(console: Console, table: Table) -> None:
    """Print a table; in a pipe without the blanks that fill its last column."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        console.print(plain(line.rstrip()), soft_wrap=True)


def new_table(*columns: str) -> Table:
    """Return a table without rules; columns of prose fold."""
    table = Table(box=None, pad_edge=False, header_style="underline", show_edge=False)
    for column in columns:
        folds = column in _FOLDED
        table.add_column(column, no_wrap=not folds, overflow="fold", ratio=1 if folds else None)
    return table


def plain(text: str) -> Text:
    """Return a line that says nothing to the terminal but its characters."""
    return Text(printable(text))
