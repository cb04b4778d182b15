"""System memory, with every limit on it, and processor; the only door to psutil.

On Linux the kernel's own table is read: it is what psutil would read, in a tenth of the time that
loading psutil takes. Everywhere else psutil answers. Swap never counts, and huge pages need no
care: what is reserved for them is not available.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import CPU_FEATURES, Caveat, Cpu, Cut, Ram, SourceState, State
from quantpick.domain.units import format_gib
from quantpick.probes.cgroup import probe_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.probes.cgroup import Limit
    from quantpick.probes.protocol import Place

SOURCE = "RAM"

_KIB = 1024

#: Bytes of cpuinfo to read: the first processor tells the name, and there can be hundreds.
_CPUINFO_HEAD = 4096

#: Rows of /proc/self/limits that keep a program from having memory.
_LIMITS = {
    "address space": "limit on the address space of a program (ulimit -v)",
    "data size": "limit on the data of a program (ulimit -d)",
}

_WSL_VARIABLES = ("WSL_DISTRO_NAME", "WSL_INTEROP")


class RamAnswer(NamedTuple):
    """The memory of the machine, how reading it went, and what the user should know."""

    ram: Ram
    states: tuple[SourceState, ...]
    caveats: tuple[Caveat, ...] = ()


class _GpuNode(NamedTuple):
    """Memory of a GPU that the kernel counts as RAM, in bytes."""

    number: int
    total: int
    free: int


def probe_ram(place: Place) -> RamAnswer:
    """Read the memory that programs can have, and what of it is available."""
    ram = _visible(place)
    if not place.system.startswith("linux"):
        return RamAnswer(_clamped(ram), (_state(ram),))
    limits = probe_limits(place, ram.total)
    ram = _without_gpus(ram, _gpu_nodes(place))
    ram = _within_groups(ram, limits.limits)
    ram = _clamped(_within_process_limits(ram, _read(place, "/proc/self/limits") or ""))
    return RamAnswer(ram, (_state(ram, wsl=_is_wsl(place)), limits.state), limits.caveats)


def probe_cpu(place: Place) -> Cpu:
    """Read the processor's name, its logical cores and the features that decide about memory."""
    head = _read(place, "/proc/cpuinfo", _CPUINFO_HEAD)
    if head is None:
        import platform

        return Cpu(platform.processor() or None, os.cpu_count())
    return Cpu(_field(head, "model name"), os.cpu_count(), parse_features(head))


def parse_features(cpuinfo: str) -> tuple[str, ...] | None:
    """Return the known features of the first processor listed, None where none are listed."""
    listed = _field(cpuinfo, "flags") or _field(cpuinfo, "Features")
    if listed is None:
        return None
    words = set(listed.split())
    return tuple(name for name in CPU_FEATURES if name in words)


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the kernel's memory table in bytes; lines without a kB figure are left out.

    The table of a NUMA node has the same rows, with ``Node 1`` before each.
    """
    pattern = r"^(?:Node \d+ )?(\w+):[ \t]+(\d{1,18}) kB$"
    rows = re.findall(pattern, text, re.MULTILINE | re.ASCII)
    return {name: int(kib) * _KIB for name, kib in rows}


def parse_numa_status(text: str) -> int | None:
    """Return the NUMA node of a GPU, None where its memory is not online as RAM.

    The rows are those of nv-procfs.c in NVIDIA's open kernel modules.
    """
    node = re.search(r"^Node:[ \t]+(\d{1,9})$", text, re.MULTILINE | re.ASCII)
    online = re.search(r"^Status:[ \t]+online$", text, re.MULTILINE)
    return int(node.group(1)) if node and online else None


def parse_process_limits(text: str) -> dict[str, int]:
    """Return the finite limits on memory in /proc/self/limits, in bytes."""
    pattern = rf"^Max ({'|'.join(_LIMITS)}) +(\d{{1,20}}) "
    rows = re.findall(pattern, text, re.MULTILINE | re.ASCII)
    return {name: int(size) for name, size in rows}


def _visible(place: Place) -> Ram:
    """Return the memory that the system shows, before any limit."""
    table = parse_meminfo(_read(place, "/proc/meminfo") or "")
    if table.get("MemTotal"):
        source = str(place.root / "proc/meminfo")
        return Ram(table["MemTotal"], table.get("MemAvailable"), source)
    import psutil

    memory = psutil.virtual_memory()
    return Ram(memory.total, memory.available, "psutil")


def _gpu_nodes(place: Place) -> tuple[_GpuNode, ...]:
    """Read the NUMA nodes that are memory of GPUs: GH200, and POWER9 with NVLink."""
    folder = "/proc/driver/nvidia/gpus"
    texts = [_read(place, f"{folder}/{gpu.name}/numa_status") for gpu in place.list(folder)]
    numbers = {parse_numa_status(text) for text in texts if text is not None}
    nodes = []
    for number in sorted(number for number in numbers if number is not None):
        table = parse_meminfo(_read(place, f"/sys/devices/system/node/node{number}/meminfo") or "")
        nodes.append(_GpuNode(number, table.get("MemTotal", 0), table.get("MemFree", 0)))
    return tuple(node for node in nodes if node.total)


def _without_gpus(ram: Ram, nodes: Sequence[_GpuNode]) -> Ram:
    size = sum(node.total for node in nodes)
    if not 0 < size < ram.total:
        return ram
    numbers = ", ".join(str(node.number) for node in nodes)
    message = f"memory of GPUs that the system counts as RAM (NUMA node {numbers})"
    if ram.available is not None:
        ram = ram._replace(available=ram.available - sum(node.free for node in nodes))
    return _with_cut(ram, Cut("gpu_memory", size, message), "numa_status")


def _within_groups(ram: Ram, limits: Sequence[Limit]) -> Ram:
    """Return what the limits of the process's group, and of those above it, leave."""
    for limit in limits:
        if ram.available is None or limit.used is None:
            ram = ram._replace(available=None)
        else:
            ram = ram._replace(available=min(ram.available, limit.size - limit.used))
    if limits and limits[0].size < ram.total:
        message = f"limit of the container or service (cgroup {limits[0].path})"
        ram = _with_cut(ram, Cut("cgroup", ram.total - limits[0].size, message), "cgroup")
    return ram


def _within_process_limits(ram: Ram, text: str) -> Ram:
    for name, size in parse_process_limits(text).items():
        if 0 < size < ram.total:
            cut = Cut("rlimit", ram.total - size, _LIMITS[name])
            ram = _with_cut(ram, cut, "ulimit")
    return ram


def _with_cut(ram: Ram, cut: Cut, source: str) -> Ram:
    return ram._replace(
        total=ram.total - cut.size,
        source=f"{ram.source} and {source}",
        installed=ram.installed or ram.total,
        cuts=(*ram.cuts, cut),
    )


def _clamped(ram: Ram) -> Ram:
    if ram.available is None:
        return ram
    return ram._replace(available=max(0, min(ram.available, ram.total)))


def _state(ram: Ram, *, wsl: bool = False) -> SourceState:
    if not wsl:
        return SourceState(SOURCE, State.OK, format_gib(ram.total))
    detail = f"{format_gib(ram.total)}; WSL 2 sees half of the machine's RAM by default"
    advice = "to give it more, set memory= under [wsl2] in .wslconfig and run: wsl --shutdown"
    return SourceState(SOURCE, State.OK, detail, advice)


def _is_wsl(place: Place) -> bool:
    release = _read(place, "/proc/sys/kernel/osrelease") or ""
    return any(map(place.environ.get, _WSL_VARIABLES)) or "microsoft" in release.lower()


def _read(place: Place, path: str, limit: int = 2**20) -> str | None:
    """Return the text of a file, None where there is none or it must not be read."""
    try:
        return place.read(path, limit)
    except PermissionError:
        return None


def _field(cpuinfo: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*: (.+)$", cpuinfo, re.MULTILINE)
    return match.group(1).strip() if match else None
