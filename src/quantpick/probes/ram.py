"""System memory and processor; the only door to psutil."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

from quantpick.domain.host import Cpu, Ram


def probe_ram() -> Ram:
    """Read installed and available memory."""
    memory = psutil.virtual_memory()
    return Ram(total=memory.total, available=memory.available, source="psutil")


def probe_cpu() -> Cpu:
    """Read the processor's name and its logical cores."""
    return Cpu(_cpu_name(Path("/proc/cpuinfo")), psutil.cpu_count())


def _cpu_name(cpuinfo: Path) -> str | None:
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)
