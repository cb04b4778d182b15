"""What every source of devices is given, and answers.

A source is a module with a ``SOURCE`` name, the ``SYSTEMS`` it is for (prefixes of
``sys.platform``), a ``TIME_LIMIT`` in seconds, and ``probe_devices``. It reads through the place it
is given and nothing else, turns what it reads into values in pure ``parse_`` functions, and loads
the library it needs in ``probe_devices``. What it raises becomes its state: PermissionError,
TimeoutError, and "failed" for the rest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantpick.domain.host import Ram
    from quantpick.domain.sighting import Answer
    from quantpick.probes.run import Output, Runner

#: Environment variable with the folder that holds the /proc, /sys and /etc to read, for a machine
#: whose files are mounted elsewhere.
SYSROOT_VARIABLE = "QUANTPICK_SYSROOT"


class Place(NamedTuple):
    """The machine's outside: its file tree, environment, programs and kind of system."""

    root: Path
    environ: Mapping[str, str]
    run: Runner
    system: str

    def read(self, path: str, limit: int = 2**20) -> str | None:
        """Return the text of a file below the root, None where there is none.

        At most ``limit`` bytes are read. Raises PermissionError.
        """
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return file.read(limit).decode("utf-8", "replace")
        except PermissionError:
            raise
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """Return the decimal number that a file below the root holds, None for anything else."""
        text = (self.read(path, 64) or "").strip()
        return int(text) if text.isascii() and text.isdecimal() else None

    def list(self, path: str, pattern: str = "*") -> list[Path]:
        """Return what matches in a folder below the root, sorted by name; nothing without one."""
        return sorted((self.root / path.lstrip("/")).glob(pattern))


def here() -> Place:
    """Return the machine that this process runs on."""
    root = Path(os.environ.get(SYSROOT_VARIABLE) or "/")
    return Place(root, os.environ, _run, sys.platform)


def _run(words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
    # Loaded when the first program is run: most commands run none.
    from quantpick.probes.run import run

    return run(words, timeout=timeout, env=env)


class DeviceSource(Protocol):
    """A module that reads one driver, library or file tree; quiet where there is nothing to see."""

    SOURCE: str
    SYSTEMS: tuple[str, ...]
    TIME_LIMIT: float

    def probe_devices(self, place: Place, ram: Ram) -> Answer:
        """Read the devices now. ``ram`` is what unified devices share."""
