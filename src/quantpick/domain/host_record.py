"""A Host as plain data: what `quantpick hardware --json` writes and `--host FILE` reads back."""

from __future__ import annotations

from typing import Any

from quantpick.domain.host import Backend, Caveat, Cpu, Device, Engine, Host, MemoryKind, Ram
from quantpick.errors import UsageError

#: No machine has more bytes; beyond it figures could not be printed.
_LIMIT = 2**63


def host_record(host: Host) -> dict[str, Any]:
    """Return a host as dictionaries and lists; sizes in bytes."""
    return {
        "ram": host.ram._asdict(),
        "cpu": host.cpu._asdict(),
        "devices": [device._asdict() for device in host.devices],
        "engine": host.engine._asdict() if host.engine else None,
        "warnings": [caveat._asdict() for caveat in host.warnings],
    }


def host_from_record(record: object, name: str) -> Host:
    """Return the host a record describes. Raises UsageError that names the file and the field."""
    try:
        return _host(_fields(record))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{name} does not describe a machine: {type(error).__name__}: {error}",
            "write one with: quantpick hardware --json > host.json",
        ) from error


def _host(record: dict[str, Any]) -> Host:
    ram, cpu = _fields(record["ram"]), _fields(record.get("cpu") or {})
    engine = record.get("engine")
    return Host(
        ram=Ram(_size(ram["total"]), _count(ram.get("available")), str(ram.get("source", "file"))),
        cpu=Cpu(_text(cpu.get("name")), _count(cpu.get("cores")), _texts(cpu.get("features"))),
        devices=tuple(_device(_fields(row)) for row in record.get("devices") or ()),
        engine=Engine(_size(engine["build"]), str(engine.get("source", "file")))
        if engine
        else None,
        warnings=tuple(
            Caveat(str(row["code"]), str(row["message"])) for row in record.get("warnings") or ()
        ),
    )


def _device(row: dict[str, Any]) -> Device:
    total = _size(row["total"])
    backend = row.get("backend")
    return Device(
        name=str(row["name"]),
        backend=None if backend is None else Backend(backend),
        memory_kind=MemoryKind(row.get("memory_kind", MemoryKind.DEDICATED)),
        total=total,
        usable=min(_size(row.get("usable", total)), total),
        free=_count(row.get("free")),
        source=str(row.get("source", "file")),
    )


def _fields(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    return value


def _size(value: object) -> int:
    size = _count(value)
    if not size:
        raise ValueError(f"expected a number above zero, found {value!r}")
    return size


def _count(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise ValueError(f"expected a number, found {value!r}")
    return value


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected a text, found {type(value).__name__}")
    return value


def _texts(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError("expected a list of texts")
    return tuple(value)
