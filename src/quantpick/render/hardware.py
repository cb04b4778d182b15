"""The machine in words: what it has, what a model can use of it, and why that is less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.host import MemoryKind, State
from quantpick.domain.names import printable
from quantpick.domain.units import GB, format_gib
from quantpick.render.console import Table, new_console
from quantpick.render.talk import print_warnings
from quantpick.render.words import backend_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from quantpick.domain.host import Cut, Device, Host
    from quantpick.render.console import Console

#: States that need no line: nothing is wrong and nothing was found.
_QUIET = frozenset({State.OTHER_SYSTEM})

_KINDS = {
    MemoryKind.DEDICATED: "dedicated",
    MemoryKind.UNIFIED: "shares RAM",
    MemoryKind.CARVE_OUT_GTT: "carve-out and RAM",
}


def print_hardware(host: Host, *, doctor: bool = False) -> None:
    """Print what was found, each figure with its source; with ``doctor`` who was asked, too."""
    console = new_console()
    table = Table("", "total", "usable", "free", "what")
    ram = host.ram
    installed = ram.total if ram.installed is None else ram.installed
    cells = (format_gib(installed), format_gib(ram.total), _size(ram.available))
    table.add_row("RAM", *cells, printable(ram.source))
    for index, device in enumerate(host.devices):
        table.add_row(f"GPU {index}", *_device_cells(device))
    console.table(table)
    for line in (*_ram_lines(host), *_device_lines(host), *_software_lines(host)):
        console.line(line)
    if doctor:
        _print_sources(console, host)
    print_warnings(host.warnings)


def _device_cells(device: Device) -> tuple[str, ...]:
    sources = (device.source, device.usable_source, device.free_source)
    named = ", ".join(dict.fromkeys(source for source in sources if source))
    kind = f"{backend_name(device.backend)}, {_KINDS[device.memory_kind]}"
    return (
        format_gib(device.total),
        format_gib(device.usable),
        _size(device.free),
        printable(f"{device.name} ({kind}): {named}"),
    )


def _ram_lines(host: Host) -> Iterator[str]:
    yield from _cut_lines("RAM", host.ram.cuts)
    cores = "unknown cores" if host.cpu.cores is None else f"{host.cpu.cores} cores"
    yield f"CPU: {host.cpu.name or 'unknown'}, {cores}"


def _device_lines(host: Host) -> Iterator[str]:
    for index, device in enumerate(host.devices):
        yield from _cut_lines(f"GPU {index}", device.cuts)
        if device.gtt:
            yield f"GPU {index}: {format_gib(device.gtt)} of it are RAM, counted once"
        facts = list(_facts(device))
        if facts:
            yield f"GPU {index}: {', '.join(facts)}"
    for item in host.set_aside:
        yield f"not used: {item.device.name} ({format_gib(item.device.usable)}): {item.why}"
    if not host.devices and not host.set_aside:
        yield "GPU: none found (who was asked: quantpick hardware --doctor)"


def _cut_lines(name: str, cuts: Iterable[Cut]) -> Iterator[str]:
    for cut in cuts:
        yield f"{name}: {format_gib(cut.size)} less: {cut.message}"


def _facts(device: Device) -> Iterator[str]:
    if device.engine_id:
        yield f"{device.engine_id} in llama.cpp"
    if device.arch:
        name = "" if device.arch.startswith("gfx") else "compute capability "
        yield f"{name}{device.arch}"
    for name, has in (("FP16", device.fp16), ("BF16", device.bf16)):
        if has is not None:
            yield name if has else f"no {name}"
    if device.bandwidth:
        by_name = " by its name" if device.bandwidth_source else ""
        yield f"{device.bandwidth / GB:.0f} GB/s{by_name}"
    if device.pci:
        yield f"PCI {device.pci}"
    if len(device.backends) > 1:
        yield f"can run {', '.join(backend_name(backend) for backend in device.backends)}"


def _software_lines(host: Host) -> Iterator[str]:
    yield f"backend: {backend_name(host.backend, 'not stated')}"
    engine = host.engine
    build = "build unknown" if engine is None or engine.build is None else f"b{engine.build}"
    where = f" at {engine.path}" if engine and engine.path else ""
    yield f"llama.cpp: {build}{where}"


def _print_sources(console: Console, host: Host) -> None:
    """Print who was asked and how that went, what to do, and what bends the answer."""
    console.line()
    table = Table("source", "state", "detail")
    for source in host.sources:
        if source.state not in _QUIET:
            table.add_row(printable(source.source), source.state, printable(source.detail))
    console.table(table)
    quiet = [source.source for source in host.sources if source.state in _QUIET]
    if quiet:
        console.line(f"for other systems: {', '.join(quiet)}")
    for source in host.sources:
        if source.advice:
            console.line(f"to do: {source.source}: {source.advice}")
    for name, value in host.environment:
        console.line(f"set: {name}={value}")


def _size(size: int | None) -> str:
    return "unknown" if size is None else format_gib(size)
