"""What room there is and what would make a quant fit, in words.

Apart from the search for it, which few answers need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.units import format_gb
from quantpick.domain.verdict import Pool, ReasonCode

if TYPE_CHECKING:
    from quantpick.domain.verdict import Reason, Rule

#: What a rule does not give away of its memory.
_KEPT_FREE = {
    Pool.VRAM: "",
    Pool.RAM: ", of which 1 GB stays free",
    Pool.VRAM_AND_RAM: ", of which 1 GB of RAM and 1 GiB a GPU stay free",
}


def kept_free(rule: Rule) -> str:
    """Return what stays free under a rule, to be said behind its memory."""
    return _KEPT_FREE[rule.pool]


def advice(change: Reason) -> str:
    """Return a change as a line that says what to do and what it gives."""
    figures = change.figures
    if change.code is ReasonCode.SMALLER_CACHE:
        flags = "--cache-type-k q8_0 --cache-type-v q8_0"
        return f"with {flags} it needs {format_gb(int(figures['needs']))} and fits"
    if change.code is ReasonCode.SMALLER_QUANT:
        return f"{figures['label']} needs {format_gb(int(figures['needs']))} and fits"
    return f"it fits with --ctx-size {figures['ctx_size']}"
