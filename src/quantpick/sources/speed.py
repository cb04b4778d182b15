"""The door to the fitted speeds: read, checked row by row, turned into a table."""

from __future__ import annotations

from typing import Any

from quantpick.domain.host import Backend
from quantpick.domain.speed import OTHER, Band, Basis, Cost, Rates, SpeedTable
from quantpick.sources.rows import broken, read_document, rows_of, text_of

#: The file inside the catalog.
NAME = "reference/speed.json"

#: Between these lie a share of the bandwidth, a layer's microseconds, and a factor of a type.
_EFFICIENCY, _LAYER, _FACTOR = (0.05, 1.2), (1, 5_000), (0.3, 10)


def load_speeds() -> SpeedTable:
    """Read the fitted speeds. Raises IntegrityError on a broken file or row."""
    document = read_document(NAME)
    rates: dict[tuple[Backend, str], Rates] = {}
    for where, row in rows_of(document, NAME, "rates"):
        own = _rates(row, where)
        if (own.backend, own.generation) in rates:
            broken(where, f"{own.backend} {own.generation} is there already")
        rates[own.backend, own.generation] = own
    backends = {backend for backend, _ in rates}
    for backend in sorted(backends):
        if (backend, OTHER) not in rates:
            broken(NAME, f"{backend} has no row for other generations")
    return SpeedTable(rates, _bands(document))


def _rates(row: dict[str, Any], where: str) -> Rates:
    backend = text_of(row, "backend", where)
    if backend not in set(Backend) - {Backend.CPU}:
        broken(where, f"backend is {backend!r}, which is not one of devices")
    factors: dict[Cost, float] = {Cost.PLAIN: 1.0}
    for cost in (Cost.WIDE, Cost.K, Cost.LOW_K, Cost.IQ4, Cost.LOW_I):
        factors[cost] = _number(row, cost, _FACTOR, where)
    return Rates(
        Backend(backend),
        text_of(row, "generation", where),
        _number(row, "efficiency", _EFFICIENCY, where),
        _number(row, "layer_us", _LAYER, where) / 1e6,
        factors,
        _band(row.get("band"), where),
    )


def _number(row: dict[str, Any], field: str, limits: tuple[float, float], where: str) -> float:
    value: object = row.get(field)
    least, most = limits
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        broken(where, f"{field} is not a number from {least} to {most}")
    return float(value)


def _bands(document: dict[str, Any]) -> dict[Basis, Band]:
    """Return the bands, one for each thing predicted worse."""
    bands, needed = document.get("bands"), set(Basis) - {Basis.GENERATION}
    if not isinstance(bands, dict) or set(bands) != needed:
        broken(NAME, f"bands are not those of {', '.join(sorted(needed))}")
    return {Basis(key): _band(values, f"{NAME}, band {key}") for key, values in bands.items()}


def _band(values: object, where: str) -> Band:
    numbers = values if isinstance(values, list) else []
    found = [float(number) for number in numbers if type(number) in {int, float}]
    if len(found) != len(numbers) or len(found) != len(Band._fields):
        broken(where, "not three numbers: middle, low, high")
    band = Band(*found)
    if not 0 < band.low <= band.middle <= band.high:
        broken(where, "the middle is not between low and high")
    return band
