"""A Host as plain data: what `quantpick hardware --json` writes and `--host FILE` reads back."""

from __future__ import annotations

from typing import Any

from quantpick.domain.host import (
    Backend,
    Caveat,
    Cpu,
    Cut,
    Device,
    Engine,
    Host,
    MemoryKind,
    Ram,
    SetAside,
    SourceState,
    State,
)
from quantpick.errors import UsageError

#: No machine has more bytes; beyond it figures could not be printed.
_LIMIT = 2**63


def host_record(host: Host) -> dict[str, Any]:
    """Return a host as dictionaries and lists; sizes in bytes."""
    return {
        "ram": {**host.ram._asdict(), "cuts": [cut._asdict() for cut in host.ram.cuts]},
        "cpu": host.cpu._asdict(),
        "devices": [_device_record(device) for device in host.devices],
        "device_flag": host.device_flag,
        "set_aside": [
            {**_device_record(item.device), "code": item.code, "why": item.why}
            for item in host.set_aside
        ],
        "engine": host.engine._asdict() if host.engine else None,
        "sources": [source._asdict() for source in host.sources],
        "environment": dict(host.environment),
        "warnings": [caveat._asdict() for caveat in host.warnings],
    }


def host_from_record(record: object, name: str) -> Host:
    """Return the host a record describes. Raises UsageError that names the file and the field."""
    try:
        return _host(_fields(record))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{name} does not describe a machine: {_fault(error)}",
            "write one with: quantpick hardware --json > host.json",
        ) from error


def _fault(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _device_record(device: Device) -> dict[str, Any]:
    return {**device._asdict(), "cuts": [cut._asdict() for cut in device.cuts]}


def _host(record: dict[str, Any]) -> Host:
    cpu, engine = _fields(record.get("cpu") or {}), record.get("engine")
    variables = _fields(record.get("environment") or {})
    return Host(
        ram=_ram(_fields(record["ram"])),
        cpu=Cpu(_text(cpu.get("name")), _count(cpu.get("cores")), _texts(cpu.get("features"))),
        devices=tuple(_device(row) for row in _rows(record, "devices")),
        engine=_engine(_fields(engine)) if engine else None,
        warnings=tuple(
            Caveat(_word(row, "code"), _word(row, "message")) for row in _rows(record, "warnings")
        ),
        set_aside=tuple(
            SetAside(_device(row), _word(row, "code"), _word(row, "why"))
            for row in _rows(record, "set_aside")
        ),
        sources=tuple(_source(row) for row in _rows(record, "sources")),
        environment=tuple((name, _word(variables, name)) for name in variables),
        device_flag=bool(record.get("device_flag")),
    )


def _ram(row: dict[str, Any]) -> Ram:
    return Ram(
        total=_size(row["total"]),
        available=_count(row.get("available")),
        source=_word(row, "source", "file"),
        installed=_count(row.get("installed")),
        cuts=_cuts(row),
    )


def _engine(row: dict[str, Any]) -> Engine:
    return Engine(
        build=_count(row.get("build")),
        source=_word(row, "source", "file"),
        path=_text(row.get("path")),
        version=_text(row.get("version")),
    )


def _source(row: dict[str, Any]) -> SourceState:
    return SourceState(
        source=_word(row, "source"),
        state=State(row["state"]),
        detail=_word(row, "detail", ""),
        advice=_word(row, "advice", ""),
    )


def _device(row: dict[str, Any]) -> Device:
    total = _size(row["total"])
    usable = min(_size(row.get("usable", total)), total)
    backend, free = row.get("backend"), _count(row.get("free"))
    return Device(
        name=_word(row, "name"),
        backend=None if backend is None else Backend(backend),
        memory_kind=MemoryKind(row.get("memory_kind", MemoryKind.DEDICATED)),
        total=total,
        usable=usable,
        free=None if free is None else min(free, usable),
        source=_word(row, "source", "file"),
        usable_source=_text(row.get("usable_source")),
        free_source=_text(row.get("free_source")),
        cuts=_cuts(row),
        gtt=min(_count(row.get("gtt")) or 0, usable),
        backends=tuple(Backend(name) for name in _texts(row.get("backends")) or ()),
        arch=_text(row.get("arch")),
        fp16=_flag(row.get("fp16")),
        bf16=_flag(row.get("bf16")),
        bandwidth=_count(row.get("bandwidth")),
        bandwidth_source=_text(row.get("bandwidth_source")),
        integrated=bool(_flag(row.get("integrated"))),
        pci=_text(row.get("pci")),
        uuid=_text(row.get("uuid")),
        engine_id=_text(row.get("engine_id")),
    )


def _cuts(row: dict[str, Any]) -> tuple[Cut, ...]:
    return tuple(
        Cut(_word(cut, "code"), _size(cut["size"]), _word(cut, "message"))
        for cut in _rows(row, "cuts")
    )


def _rows(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = record.get(name) or []
    if not isinstance(rows, list):
        raise TypeError(f"expected a list of {name}")
    return [_fields(row) for row in rows]


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


def _flag(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"expected true or false, found {type(value).__name__}")
    return value


def _word(row: dict[str, Any], name: str, default: str | None = None) -> str:
    text = _text(row[name] if default is None else row.get(name, default))
    if text is None:
        raise TypeError(f"expected a text as {name}")
    return text


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
