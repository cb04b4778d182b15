"""What would make a quant fit, in words: apart from the search for it, which few answers need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.units import format_gb
from quantpick.domain.verdict import ReasonCode

if TYPE_CHECKING:
    from quantpick.domain.verdict import Reason


def advice(change: Reason) -> str:
    """Return a change as a line that says what to do and what it gives."""
    figures = change.figures
    if change.code is ReasonCode.SMALLER_CACHE:
        flags = "--cache-type-k q8_0 --cache-type-v q8_0"
        return f"with {flags} it needs {format_gb(int(figures['needs']))} and fits"
    if change.code is ReasonCode.SMALLER_QUANT:
        return f"{figures['label']} needs {format_gb(int(figures['needs']))} and fits"
    return f"it fits with --ctx-size {figures['ctx_size']}"
