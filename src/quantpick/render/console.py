"""Lines and tables for people; with progress.py the only door to rich.

In a pipe nothing is folded or coloured, so that needs no library: rich, which takes longer to load
than a recommendation to make, is loaded for a terminal alone.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple, Protocol

from quantpick.domain.names import printable

#: Columns of prose: they take what is left of the line, this much at least, and fold.
_FOLDED = frozenset({"why", "note", "place", "what", "detail"})
_LEAST = 12

#: Columns of names that fold where the line is too short for them.
_NAMES = frozenset({"model", "alias", "repo", "measured on"})

_GAP = "  "


class Row(NamedTuple):
    """Cells of a table, with rich's name of a style for all of them."""

    cells: tuple[str, ...]
    style: str = ""


class Table:
    """A table without rules: its columns by name, and the rows added so far."""

    def __init__(self, *columns: str) -> None:
        self.columns = columns
        self.rows: list[Row] = []

    def add_row(self, *cells: str, style: str = "") -> None:
        """Add a row with a cell for each column."""
        self.rows.append(Row(tuple(map(printable, cells)), style))

    def widths(self) -> list[int]:
        """Return the length of the longest cell of each column."""
        rows = [self.columns, *(row.cells for row in self.rows)]
        return [max(map(len, column)) for column in zip(*rows, strict=True)]


class Console(Protocol):
    """Where lines and tables are printed. What they hold says nothing to a terminal."""

    def line(self, text: str = "", *, folds: bool = True) -> None:
        """Print a line; one that is to be copied as a whole does not fold."""

    def table(self, table: Table) -> None:
        """Print a table."""


def new_console() -> Console:
    """Return a console on stdout, for a terminal or for a pipe."""
    # As rich decides: FORCE_COLOR makes a terminal of everything.
    return _Terminal() if sys.stdout.isatty() or os.environ.get("FORCE_COLOR") else _Pipe()


class _Pipe:
    def line(self, text: str = "", *, folds: bool = True) -> None:
        """Print a line as it is, however long."""
        del folds
        sys.stdout.write(f"{printable(text)}\n")

    def table(self, table: Table) -> None:
        """Print a table in columns as wide as their longest cell."""
        widths = table.widths()
        for row in (table.columns, *(row.cells for row in table.rows)):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            self.line(_GAP.join(cells).rstrip())


class _Terminal:
    def __init__(self) -> None:
        from rich.console import Console as RichConsole

        self._rich = RichConsole(highlight=False, markup=False, emoji=False)

    def line(self, text: str = "", *, folds: bool = True) -> None:
        """Print a line, folded at the terminal's width or by the terminal itself."""
        self._rich.print(printable(text), soft_wrap=not folds)

    def table(self, table: Table) -> None:
        """Print a table: its columns of prose fold, and where none can, its lines do."""
        from rich.table import Table as RichTable

        shown = RichTable(box=None, pad_edge=False, header_style="underline", show_edge=False)
        for column in table.columns:
            prose = column in _FOLDED
            shown.add_column(
                column,
                no_wrap=not (prose or column in _NAMES),
                overflow="fold",
                ratio=1 if prose else None,
                min_width=_LEAST if prose else None,
            )
        for row in table.rows:
            shown.add_row(*row.cells, style=row.style)
        if _least_width(table) > self._rich.width:
            _Pipe().table(table)
        else:
            self._rich.print(shown)


def _least_width(table: Table) -> int:
    """Return the narrowest line that holds a table of which nothing is cut.

    Rich says of every table that it fits, and cuts it.
    """
    folding = _FOLDED | _NAMES
    least = (
        min(width, _LEAST) if name in folding else width
        for name, width in zip(table.columns, table.widths(), strict=True)
    )
    return sum(least) + len(_GAP) * (len(table.columns) - 1)
