"""Fetching by Xet: huggingface_hub does it, in a process of its own that can be ended.

Xet's transfer runs in threads that nothing stops from within, may stall for ever, and proves
nothing. So it is watched from outside: when nothing has come for a while the process is ended, and
what it leaves is hashed like everything else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from quantpick.domain.units import parse_seconds
from quantpick.fetch.part import adopt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from quantpick.domain.listing import RemoteFile
    from quantpick.domain.plan import Plan

#: Environment variable for the seconds without a further byte after which a transfer counts as
#: stalled, and what they are without it.
STALL_VARIABLE = "QUANTPICK_XET_STALL"
_STALL = 30.0

_LOOK = 0.2

_SCRIPT = """
import sys
from huggingface_hub import hf_hub_download
repo_id, revision, path, folder = sys.argv[1:]
hf_hub_download(repo_id, path, revision=revision, local_dir=folder, library_name="quantpick")
"""


def fetch_by_xet(plan: Plan, file: RemoteFile, part: Path, on_bytes: Callable[[int], None]) -> bool:
    """Fetch one file by Xet into its part file; return whether it came.

    ``on_bytes`` receives byte counts as they arrive.
    """
    named = os.environ.get(STALL_VARIABLE)
    stall = parse_seconds(named, STALL_VARIABLE) if named else _STALL
    folder = part.with_name(f"{part.name}.xet")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Its own store of shared blobs would keep a second copy of what nobody has checked.
    settings = {"HF_HUB_DISABLE_XET": "0", "HF_HUB_DISABLE_SHARED_BLOBS": "1"}
    settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_XET_CACHE": str(folder / "cache")}
    words = [plan.repo_id, plan.revision, file.path, str(folder)]
    try:
        with subprocess.Popen(  # noqa: S603 -- our own interpreter; the words are arguments
            [sys.executable, "-c", _SCRIPT, *words],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                _watch(process, folder, on_bytes, stall)
            finally:
                process.kill()
        whole = folder / file.path
        if process.returncode != 0 or not whole.is_file() or whole.stat().st_size != file.size:
            return False
        adopt(whole, part)
        return True
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(
    process: subprocess.Popen[bytes], folder: Path, on_bytes: Callable[[int], None], stall: float
) -> None:
    """Wait until a process ends, or until it has brought nothing for too long."""
    told, since = 0, time.monotonic()
    while process.poll() is None and time.monotonic() - since < stall:
        time.sleep(_LOOK)
        there = _bytes_in(folder)
        if there > told:
            on_bytes(there - told)
            told, since = there, time.monotonic()


def _bytes_in(folder: Path) -> int:
    """Return the bytes on the disk below a folder, without the holes of what is under way."""
    total = 0.0
    for path in folder.rglob("*"):
        with suppress(OSError):
            info = path.stat()
            total += getattr(info, "st_blocks", info.st_size / 512) * 512
    return int(total)
