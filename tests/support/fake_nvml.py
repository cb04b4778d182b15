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

#: Ways in which a device reaches the host's memory.
HMM, ATS = 1, 2

_SOURCE = Path(__file__).with_name("fake_nvml.c")


@dataclass(frozen=True)
class Gpu:
    """One card: its memory in bytes, and the statuses its handle and its memory answer with.

    ``clock`` is in MHz and ``width`` in bits. ``mig`` is None for cards that know no MIG. A card
    has a UUID and a PCI address after its number if none is given, and a dash is "not supported".
    """

    name: str
    total: int = 0
    reserved: int = 0
    free: int = 0
    handle_status: int = 0
    memory_status: int = 0
    capability: str = "8.6"
    clock: int = 0
    width: int = 0
    addressing: int = 0
    mig: bool | None = None
    slices: tuple[Gpu, ...] = ()
    uuid: str = ""
    pci: str = ""

    def row(self, number: int, parent: int = -1) -> str:
        """Return the device as the library reads it, in a table whose row ``parent`` it cuts up."""
        figures = (
            *(parent, self.handle_status, self.memory_status),
            *(-1 if self.mig is None else int(self.mig), self.capability),
            *(self.clock, self.width, self.addressing, self.total, self.reserved, self.free),
            self.uuid or f"GPU-{number:08x}-0000-0000-0000-000000000000",
            self.pci or f"00000000:{number + 1:02X}:00.0",
        )
        return " ".join(str(figure) for figure in figures) + f" {self.name};"


@dataclass(frozen=True)
class FakeNvml:
    """The compiled library, in a folder for each age of driver."""

    folder: Path

    def machine(
        self, quantpick: Command, *gpus: Gpu, init: int = 0, old: bool = False, hang: int = 0
    ) -> Command:
        """Return quantpick on a machine with these cards.

        ``init`` is how its driver starts, and ``hang`` the seconds that it takes.
        """
        says = {"FAKE_NVML_INIT": str(init), "FAKE_NVML_DEVICES": _table(gpus)}
        if hang:
            says["FAKE_NVML_HANG"] = str(hang)
        return _with_library(quantpick, self.folder / ("old" if old else "current"), says)


def _table(gpus: tuple[Gpu, ...]) -> str:
    """Return the rows of all cards, and those of the slices after them."""
    cards = [gpu.row(number) for number, gpu in enumerate(gpus)]
    slices = [
        part.row(len(cards), parent) for parent, gpu in enumerate(gpus) for part in gpu.slices
    ]
    return "".join(cards + slices)


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
