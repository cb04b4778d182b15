"""NVIDIA devices through the nvidia-smi program, where its library cannot be loaded."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from quantpick.domain.host import SourceState, State
from quantpick.domain.sighting import Answer
from quantpick.probes.nvidia_card import (
    Card,
    Memory,
    answer,
    find_trouble,
    new_sighting,
    parse_pci,
    troubled,
    with_capability,
    with_memory,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.host import Ram
    from quantpick.probes.protocol import Place
    from quantpick.probes.run import Output

SOURCE = "nvidia-smi"
SYSTEMS = ("linux", "win32")
TIME_LIMIT = 20.0

#: Two runs fit in the time limit.
_RUN_LIMIT = 9.0

#: What to ask, the name last since it alone may contain a comma; and what every driver knows.
_FIELDS = (
    *("uuid", "pci.bus_id", "memory.total", "memory.reserved", "memory.free"),
    *("compute_cap", "mig.mode.current", "name"),
)
_OLD_FIELDS = ("uuid", "pci.bus_id", "memory.total", "memory.free", "name")

#: Exit statuses; the others are NVML's.
_BAD_ARGUMENT, _NO_DEVICE = 2, 6

#: What stands for memory that a card does not have. It is there and not shown in other words.
_NOT_REPORTED = {"[n/a]", "n/a", "[not supported]", "not supported", "0"}

_MIB = 2**20
_NUMBER = re.compile(r"[0-9]{1,12}")
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")

_MIG = "MIG is on and nvidia-smi does not tell the slices' memory"


def probe_devices(place: Place, ram: Ram) -> Answer:
    """Ask the program for all devices; without it there is nothing to start."""
    program = shutil.which("nvidia-smi", path=place.environ.get("PATH", ""))
    if program is None:
        return Answer((), (SourceState(SOURCE, State.NOT_INSTALLED),))
    fields: Sequence[str] = _FIELDS
    output = _ask(place, program, fields)
    if output.status == _BAD_ARGUMENT:
        # compute_cap came with driver 495, memory.reserved with 510.
        fields = _OLD_FIELDS
        output = _ask(place, program, fields)
    if output.status not in (0, _NO_DEVICE):
        words = (output.stdout.strip() or output.stderr.strip()).partition("\n")[0]
        return troubled(SOURCE, find_trouble(output.status, words or "it failed"))
    rows = parse_rows(output.stdout, fields)
    cards = [_read_card(row, ram) for row in rows if row["name"]]
    return answer(SOURCE, cards, place.environ)


def parse_rows(text: str, fields: Sequence[str]) -> tuple[dict[str, str], ...]:
    """Return the rows of a table without header, leaving out what is none."""
    rows = [line.split(",", len(fields) - 1) for line in text.splitlines()]
    return tuple(
        dict(zip(fields, (cell.strip() for cell in row), strict=True))
        for row in rows
        if len(row) == len(fields)
    )


def parse_size(cell: str) -> int | None:
    """Return the bytes of a cell in MiB, None for one that holds no number."""
    return int(cell) * _MIB if _NUMBER.fullmatch(cell) else None


def parse_version(cell: str) -> tuple[int, int] | None:
    """Return a compute capability such as ``8.6``."""
    match = _VERSION.fullmatch(cell)
    return (int(match[1]), int(match[2])) if match else None


def _ask(place: Place, program: str, fields: Sequence[str]) -> Output:
    query = ["--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"]
    return place.run([program, *query], timeout=_RUN_LIMIT, env=place.environ)


def _read_card(row: dict[str, str], ram: Ram) -> Card:
    cell = row["memory.total"].lower()
    if "lost" in cell:
        return Card(trouble=find_trouble(15, cell))
    uuid = row["uuid"] if row["uuid"].startswith("GPU-") else None
    found = new_sighting(SOURCE, row["name"], uuid=uuid, pci=parse_pci(row["pci.bus_id"]))
    found = with_capability(found, parse_version(row.get("compute_cap", "")))
    total = parse_size(cell)
    if total or cell in _NOT_REPORTED:
        reserved = parse_size(row.get("memory.reserved", "")) or 0
        memory = Memory(total or 0, reserved, parse_size(row["memory.free"]))
        found = with_memory(found, memory, ram)
    if row.get("mig.mode.current") == "Enabled":
        found = found._replace(hidden=_MIG)
    return Card(uuid, f"{found.name} {found.total}", (found,))
