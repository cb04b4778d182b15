"""The measurements of speed: ``tests/data/speeds.csv``, read into what a fit looks at."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from quantpick.domain.host import Backend, Device, MemoryKind
from quantpick.domain.speed import SMALL, Cost, cost_of, generation_of
from quantpick.domain.units import GB

DATA = Path(__file__).parents[1] / "data" / "speeds.csv"

#: Builds of llama.cpp before this year were slower, so their rows have a factor of their own.
_NEW = "2025"


class Row(NamedTuple):
    """One measurement."""

    device: Device
    gpus: int
    small: bool
    cost: Cost
    layers: int
    read: float
    experts: bool
    speed: float
    bench: bool
    old: bool

    @property
    def backend(self) -> Backend:
        """Its backend."""
        return self.device.backend or Backend.CPU

    @property
    def generation(self) -> str:
        """The generation of its device."""
        return generation_of(self.device)

    @property
    def dense(self) -> bool:
        """Whether it is fitted: a dense model on one device."""
        return self.gpus == 1 and not self.experts


def read_rows(path: Path = DATA) -> list[Row]:
    """Return all measurements."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(fields) for fields in csv.DictReader(file)]


def _row(fields: dict[str, str]) -> Row:
    cost = cost_of(fields["quant"])
    if cost is None:
        raise ValueError(f"a label without known types: {fields['quant']}")
    return Row(
        device=device_of(fields),
        gpus=int(fields["gpus"]),
        small=float(fields["parameters_b"]) * 1e9 < SMALL,
        cost=cost,
        layers=int(fields["layers"]),
        read=float(fields["read_gb"]) * GB,
        experts=fields["moe"] == "yes",
        speed=float(fields["tokens_per_second"]),
        bench=fields["kind"] == "bench",
        old="" < fields["date"] < _NEW,
    )


def device_of(fields: dict[str, str]) -> Device:
    """Return the device of a row, with what the model looks at."""
    return Device(
        fields["device"],
        Backend(fields["backend"]),
        MemoryKind.DEDICATED,
        0,
        0,
        None,
        fields["source"],
        arch=fields["arch"] or None,
        bandwidth=round(float(fields["bandwidth_gb_s"]) * GB),
    )
