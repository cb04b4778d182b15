"""A fake NVIDIA driver: a C library that the unmodified nvidia-ml-py loads as the real one.

The library is found through LD_LIBRARY_PATH and answers what environment variables say, so that
every run of quantpick can sit in a machine of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.command import Command

LIBRARY_NAME = "libnvidia-ml.so.1"

#: Statuses that NVML answers with.
NOT_SUPPORTED, NO_PERMISSION, NOT_LOADED, LOST, MISMATCH, UNKNOWN = 3, 4, 9, 15, 18, 999

_SOURCE = Path(__file__).with_name("fake_nvml.c")


@dataclass(frozen=True)
class Gpu:
    """One card: its memory in bytes, and the statuses its handle and its memory answer with."""

    name: str
    total: int = 0
    reserved: int = 0
    free: int = 0
    handle_status: int = 0
    memory_status: int = 0

    @property
    def row(self) -> str:
        """The card as the library reads it."""
        figures = (self.handle_status, self.memory_status, self.total, self.reserved, self.free)
        return " ".join(str(figure) for figure in figures) + f" {self.name};"


@dataclass(frozen=True)
class FakeNvml:
    """The compiled library, in a folder for each age of driver."""

    folder: Path

    def machine(self, quantpick: Command, *gpus: Gpu, init: int = 0, old: bool = False) -> Command:
        """Return quantpick on a machine with these cards; ``init`` is how its driver starts."""
        says = {
            "FAKE_NVML_INIT": str(init),
            "FAKE_NVML_DEVICES": "".join(gpu.row for gpu in gpus),
        }
        return _with_library(quantpick, self.folder / ("old" if old else "current"), says)


def compiler() -> str | None:
    """Return the C compiler of this machine."""
    return shutil.which("cc")


def build_fake_nvml(folder: Path) -> FakeNvml:
    """Compile the library, once as today's drivers have it and once as old ones did."""
    for age, flags in {"current": [], "old": ["-DOLD_DRIVER"]}.items():
        (folder / age).mkdir()
        target = folder / age / LIBRARY_NAME
        command = [compiler() or "cc", "-shared", "-fPIC", "-Wall", *flags]
        subprocess.run([*command, "-o", str(target), str(_SOURCE)], check=True)
    return FakeNvml(folder)


def without_driver(quantpick: Command, folder: Path) -> Command:
    """Return quantpick on a machine without an NVIDIA driver, also where there is one.

    What stands in the place of the library cannot be loaded, which to programs is the same.
    """
    (folder / LIBRARY_NAME).write_text("not a library")
    return _with_library(quantpick, folder, {})


def _with_library(quantpick: Command, folder: Path, says: dict[str, str]) -> Command:
    inherited = os.environ.get("LD_LIBRARY_PATH")
    path = f"{folder}:{inherited}" if inherited else str(folder)
    return Command(quantpick.cwd, {**quantpick.env, **says, "LD_LIBRARY_PATH": path})
