"""Stand-ins for llama.cpp's programs: scripts that print what real builds were seen to print."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from tests.support.command import Command

if TYPE_CHECKING:
    from pathlib import Path

#: ``--version`` as builds of 2025 and of 2026 print it.
VERSION_2025 = "version: 6795 (abc1234)\nbuilt with cc (Debian 12.2.0) for x86_64-linux-gnu"
VERSION_2026 = "version: 0.5.0-dev (build 11540, commit 0c1e570)\nbuilt with GNU 12.2.0"


def write_engine(  # noqa: PLR0913 -- what a program says, a word each
    folder: Path,
    listing: str,
    *,
    name: str = "llama-server",
    log: str = "",
    version: str = VERSION_2025,
    status: int = 0,
) -> Path:
    """Write a program that answers ``--list-devices`` on stdout and ``--version`` on stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = f"printf '%s' {shlex.quote(log)} >&2; printf '%s' {shlex.quote(listing)}"
    return write_program(
        folder,
        f'case "$1" in\n'
        f"--list-devices) {answer}; exit {status};;\n"
        f"--version) echo {shlex.quote(version)} >&2; exit 0;;\n"
        f"esac\nexit 1",
        name=name,
    )


def write_program(folder: Path, script: str, name: str = "llama-server") -> Path:
    """Write a shell script that can be run as a program."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def with_path(quantpick: Command, folder: Path) -> Command:
    """Return quantpick where a folder of programs is the first on PATH."""
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    return Command(quantpick.cwd, {**quantpick.env, "PATH": path})


def devices(*rows: str) -> str:
    """Return the list of devices as llama.cpp prints it."""
    return "\n".join(["Available devices:", *(f"  {row}" for row in rows or ("(none)",)), ""])


#: Run in place of a program: the devices of a real llama.cpp (xllamacpp), printed as one does.
REAL = f"""exec {shlex.quote(sys.executable)} -c '
import importlib.metadata, sys, xllamacpp
if sys.argv[1] == "--version":
    build = importlib.metadata.version("xllamacpp").split(".")[2]
    sys.exit(print("version:", build, "(unknown)", file=sys.stderr))
rows = [d for d in xllamacpp.get_device_info() if d["memory_total"]]
print("Available devices:")
for row in rows:
    total, free = (row[key] // 2**20 for key in ("memory_total", "memory_free"))
    print("  " + row["name"] + ": " + row["description"] + f" ({{total}} MiB, {{free}} MiB free)")
' "$@\""""
