"""Fit ``catalog/reference/speed.json`` to ``tests/data/speeds.csv``; print both tables.

``python -m tests.speed.fit`` prints the coefficients and the error of each backend with one device
left out in turn; ``--write`` writes the file.

Each backend is fitted on its own: an efficiency and a time a layer, both with a deviation for each
generation, a factor for each kind of type, and one for rows of old builds, which a prediction
leaves out: it is for builds of today. All are logarithms with a prior, so that a
generation with few devices stays near its backend. Rows are dense models on one device; a device
counts once, however many rows it has, and a row far off counts less.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.host import Backend
from quantpick.domain.speed import (
    OTHER,
    Band,
    Basis,
    Cost,
    Rates,
    token_time,
)
from quantpick.sources.catalog_format import dump_table
from tests.speed.rows import Row, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TARGET = Path(__file__).parents[2] / "src/quantpick/catalog/reference/speed.json"

#: Backends in the order of the file.
BACKENDS = (Backend.CUDA, Backend.METAL, Backend.ROCM, Backend.VULKAN, Backend.SYCL)

#: Middle and spread of each logarithm before any row is seen. Wide types come near the bandwidth
#: on every backend, so what 4-bit rows of a 7B lack is first put down to the time of its layers.
PRIORS = {
    "efficiency": (math.log(0.86), 0.05),
    "layer": (math.log(70e-6), 0.5),
    "efficiency/": (0.0, 0.15),
    "layer/": (0.0, 0.7),
    Cost.WIDE: (0.0, 0.1),
    Cost.K: (math.log(1.05), 0.1),
    Cost.LOW_K: (math.log(1.2), 0.1),
    Cost.IQ4: (math.log(1.05), 0.1),
    Cost.LOW_I: (math.log(1.5), 0.4),
    f"{Cost.LOW_I}/": (0.0, 0.4),
    "old": (0.0, 0.1),
}

#: Spread of a row around the model, and how many spreads off a row starts to count less.
_SPREAD, _FAR = 0.08, 1.2

#: The band of rates before they are tried on devices that they have not seen.
_UNTOLD = Band(1.0, 1.0, 1.0)

#: A backend with fewer devices than this has its band widened to that of all backends.
_FEW_DEVICES = 10

SELECTION = (
    "llama.cpp on one device or split by layers, device bandwidth, layers and weights known; left "
    "out: LocalScore and localmaxxing (medians of mixed runs, offload, speculation), MoltenVK, "
    "hosts that hold the card back, models with layers of unknown cost"
)

SOURCES = {
    "speeds": "tests/data/speeds.csv: a source and date a row",
    "form": "token time = bytes read x factor / (efficiency x bandwidth) + layers x layer_us",
    "errors": "each device left out of its fit in turn, llama-bench rows of dense models, percent",
    "bands": "measured over predicted speed: middle, 10th and 90th percentile, a device left out",
    "selection": SELECTION,
}

Theta = dict[str, float]
Residual = tuple[Row, float]


def prior(name: str) -> tuple[float, float]:
    """Return middle and spread of a parameter before any row is seen."""
    stem, slash, _ = name.partition("/")
    return PRIORS[stem + slash]


def rates(theta: Theta, backend: Backend, generation: str) -> Rates:
    """Return the rates that parameters give a generation; one not seen has no deviation."""

    def value(name: str) -> float:
        own = theta.get(name)
        return prior(name)[0] if own is None else own

    def with_own(name: str) -> float:
        return value(name) + theta.get(f"{name}/{generation}", 0.0)

    factors: dict[Cost, float] = {Cost.PLAIN: 1.0}
    for cost in (Cost.WIDE, Cost.K, Cost.LOW_K, Cost.IQ4, Cost.LOW_I):
        factors[cost] = math.exp(with_own(cost))
    efficiency, layer = math.exp(with_own("efficiency")), math.exp(with_own("layer"))
    return Rates(backend, generation, efficiency, layer, factors, _UNTOLD)


def times(theta: Theta, row: Row) -> tuple[float, float]:
    """Return the predicted seconds of a row, by a build of its age: reading, and its layers."""
    bandwidth = row.device.bandwidth or 0
    own = rates(theta, row.backend, row.generation)
    reading, layers = token_time(own, row.cost, row.read, row.layers, bandwidth)
    longer = math.exp(theta.get("old", 0.0)) if row.old else 1.0
    return reading * longer, layers * longer


def fit(rows: Sequence[Row]) -> Theta:
    """Return the most likely parameters of one backend: damped least squares on logarithms."""
    names = sorted({name for row in rows for name, _ in _slopes(row, 1.0, 1.0)})
    theta = {name: prior(name)[0] for name in names}
    counts = Counter(row.device.name for row in rows)
    for _ in range(25):
        step = _step(theta, names, rows, counts)
        for name, change in zip(names, step, strict=True):
            theta[name] += change
        if max(map(abs, step), default=0.0) < 1e-7:
            break
    return theta


def _slopes(row: Row, reading: float, layers: float) -> list[tuple[str, float]]:
    """Return the parameters of a row, and how its log time moves with each."""
    slopes = [
        ("efficiency", -reading),
        (f"efficiency/{row.generation}", -reading),
        ("layer", layers),
        (f"layer/{row.generation}", layers),
    ]
    if row.cost is not Cost.PLAIN:
        slopes.append((str(row.cost), reading))
    if row.cost is Cost.LOW_I:
        slopes.append((f"{row.cost}/{row.generation}", reading))
    if row.old:
        slopes.append(("old", reading + layers))
    return slopes


def _step(
    theta: Theta, names: Sequence[str], rows: Iterable[Row], counts: Counter[str]
) -> list[float]:
    """Return one Gauss-Newton step."""
    place = {name: index for index, name in enumerate(names)}
    matrix = [[0.0] * len(names) for _ in names]
    vector = [0.0] * len(names)
    for name, index in place.items():
        middle, spread = prior(name)
        matrix[index][index] += spread**-2
        vector[index] += (middle - theta[name]) / spread**2
    for row in rows:
        reading, layers = times(theta, row)
        total = reading + layers
        off = -math.log(row.speed * total)
        weight = min(1.0, _FAR * _SPREAD / max(abs(off), 1e-9))
        weight /= counts[row.device.name] * _SPREAD**2
        slopes = _slopes(row, reading / total, layers / total)
        for name, slope in slopes:
            vector[place[name]] += weight * slope * off
            for other, second in slopes:
                matrix[place[name]][place[other]] += weight * slope * second
    return _solved(matrix, vector)


def _solved(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """Solve a symmetric, positive system by elimination."""
    size = len(vector)
    for pivot in range(size):
        for row in range(pivot + 1, size):
            ratio = matrix[row][pivot] / matrix[pivot][pivot]
            for column in range(pivot, size):
                matrix[row][column] -= ratio * matrix[pivot][column]
            vector[row] -= ratio * vector[pivot]
    solution = [0.0] * size
    for row in reversed(range(size)):
        known = sum(matrix[row][column] * solution[column] for column in range(row + 1, size))
        solution[row] = (vector[row] - known) / matrix[row][row]
    return solution


def left_out(rows: Sequence[Row], group: Callable[[Row], str]) -> list[Residual]:
    """Return measured over predicted speed of each row, by a fit without any row of its group.

    Only dense rows on one device are fitted; all rows are predicted.
    """
    residuals = []
    for backend in BACKENDS:
        own = [row for row in rows if row.backend is backend]
        for name in sorted({group(row) for row in own}):
            theta = fit([row for row in own if row.dense and group(row) != name])
            here = (row for row in own if group(row) == name)
            residuals += [(row, row.speed * sum(times(theta, row))) for row in here]
    return residuals


def device_name(row: Row) -> str:
    """Return what a row's device is called."""
    return row.device.name


def quantile(values: Iterable[tuple[float, float]], part: float) -> float:
    """Return a quantile of values with weights."""
    ordered = sorted(values)
    left = part * sum(weight for _, weight in ordered)
    for value, weight in ordered:
        left -= weight
        if left <= 1e-9:
            return value
    return ordered[-1][0]


class Errors(NamedTuple):
    """How far off predictions were, in percent of the measured speed."""

    rows: int
    devices: int
    median: float
    p90: float


def errors_of(residuals: Sequence[Residual], *, once: bool = False) -> Errors:
    """Return the error figures, each row with the same weight, or ``once`` for each device."""
    counts = Counter((row.backend, device_name(row)) for row, _ in residuals)
    off = [
        (abs(1 / ratio - 1) * 100, 1 / counts[row.backend, device_name(row)] if once else 1.0)
        for row, ratio in residuals
    ]
    devices = len({name for _, name in counts})
    return Errors(len(off), devices, quantile(off, 0.5), quantile(off, 0.9))


def scoreboard(residuals: Iterable[Residual]) -> list[Residual]:
    """Return those of llama-bench with a dense model on one device: the figures to quote."""
    return [(row, ratio) for row, ratio in residuals if row.dense and row.bench]


def band(residuals: Sequence[Residual], *, shifted: bool = False) -> list[float]:
    """Return middle, 10th and 90th percentile of the ratios, every device with the same weight."""
    counts = Counter((row.backend, device_name(row)) for row, _ in residuals)
    ratios = [(ratio, 1 / counts[row.backend, device_name(row)]) for row, ratio in residuals]
    middle = quantile(ratios, 0.5) if shifted else 1.0
    low, high = quantile(ratios, 0.1), quantile(ratios, 0.9)
    return [middle, min(low, middle), max(high, middle)]


def bands(rows: Sequence[Row], unseen: Sequence[Residual]) -> dict[str, list[float]]:
    """Return the bands of what is known to be predicted worse."""
    strangers = left_out([row for row in rows if _usual(row)], lambda row: row.generation)
    table = {
        Basis.BACKEND: band([pair for pair in strangers if pair[0].backend != Backend.SYCL]),
        Basis.SEVERAL: band([pair for pair in unseen if pair[0].gpus > 1]),
        Basis.SMALL: band([pair for pair in unseen if pair[0].small and pair[0].dense]),
        Basis.LOW_I: band([pair for pair in unseen if pair[0].cost is Cost.LOW_I]),
        Basis.EXPERTS: band([pair for pair in unseen if pair[0].experts], shifted=True),
    }
    return {key: rounded(values) for key, values in table.items()}


def generation_band(usual: Sequence[Residual], backend: Backend, generation: str) -> list[float]:
    """Return the band of a generation: that of its backend, or its own edges where they are wider.

    A backend with few devices has that of all backends too.
    """
    own = [pair for pair in usual if pair[0].backend is backend]
    parts = [own, [pair for pair in own if pair[0].generation == generation]]
    if errors_of(own).devices < _FEW_DEVICES:
        parts.append(list(usual))
    found = [band(part) for part in parts if part]
    return [1.0, min(low for _, low, _ in found), max(high for _, _, high in found)]


def rounded(values: Iterable[float]) -> list[float]:
    """Return values as the file has them."""
    return [round(value, 3) for value in values]


def _usual(row: Row) -> bool:
    return row.dense and not row.small and row.cost is not Cost.LOW_I


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the catalog file that the rows give."""
    unseen = left_out(rows, device_name)
    usual = [pair for pair in unseen if _usual(pair[0])]
    table = []
    for backend in BACKENDS:
        own = [row for row in rows if row.backend is backend and row.dense]
        theta = fit(own)
        for generation in (*sorted({row.generation for row in own} - {OTHER}), OTHER):
            found = [pair for pair in scoreboard(unseen) if pair[0].backend is backend]
            like = [p for p in found if generation in {p[0].generation, OTHER}]
            around = rounded(generation_band(usual, backend, generation))
            own_rates = rates(theta, backend, generation)
            table.append({**_fields(own_rates, errors_of(like)), "band": around})
    return {"schema": 1, "sources": SOURCES, "bands": bands(rows, unseen), "rates": table}


def _fields(own: Rates, errors: Errors) -> dict[str, Any]:
    return {
        "backend": own.backend.value,
        "generation": own.generation,
        "efficiency": round(own.efficiency, 3),
        "layer_us": round(own.layer_seconds * 1e6, 1),
        **{cost.value: round(own.factors[cost], 3) for cost in Cost if cost is not Cost.PLAIN},
        "rows": errors.rows,
        "devices": errors.devices,
        "median_error": round(errors.median, 1),
        "p90_error": round(errors.p90, 1),
    }


def error_table(unseen: Sequence[Residual]) -> list[tuple[str, Errors]]:
    """Return the error figures to print: by backend, all, and what stands beside them."""
    board = scoreboard(unseen)
    dense = [pair for pair in unseen if pair[0].dense]
    table = [
        (backend.value, errors_of([pair for pair in board if pair[0].backend is backend]))
        for backend in BACKENDS
    ]
    table.append(("all of llama-bench", errors_of(board)))
    table.append(("chats through a server", errors_of([p for p in dense if not p[0].bench])))
    table.append(("all dense, one device", errors_of(dense)))
    table.append(("the same, a device once", errors_of(dense, once=True)))
    table.append(("of them below 1.5 B", errors_of([p for p in dense if p[0].small])))
    table.append(("of them IQ1 to IQ3", errors_of([p for p in dense if p[0].cost is Cost.LOW_I])))
    table.append(("several devices", errors_of([p for p in unseen if p[0].gpus > 1])))
    table.append(("experts, uncorrected", errors_of([p for p in unseen if p[0].experts])))
    return table


def main(words: Sequence[str]) -> None:
    """Print the tables, and write the file if told."""
    rows = read_rows()
    text = dump_table(document(rows), "rates")
    lines = [f"{'one device left out':24} {'rows':>5} {'devices':>7} {'median %':>8} {'p90 %':>6}"]
    for name, found in error_table(left_out(rows, device_name)):
        figures = f"{found.rows:5} {found.devices:7} {found.median:8.1f} {found.p90:6.1f}"
        lines.append(f"{name:24} {figures}")
    sys.stdout.write("\n".join((text, *lines, "")))
    if "--write" in words:
        TARGET.write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
