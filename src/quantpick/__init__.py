"""Pick the GGUF quant that fits a machine, and fetch it, proven intact.

The public functions are loaded when they are first used, so that importing the package is free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantpick.api import download, explain, inspect, plan, probe, recommend
    from quantpick.domain.quant import parse_filename

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "download",
    "explain",
    "inspect",
    "parse_filename",
    "plan",
    "probe",
    "recommend",
]

_HOMES = {
    "download": "quantpick.api",
    "explain": "quantpick.api",
    "inspect": "quantpick.api",
    "plan": "quantpick.api",
    "probe": "quantpick.api",
    "recommend": "quantpick.api",
    "parse_filename": "quantpick.domain.quant",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- the protocol of module attributes
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
