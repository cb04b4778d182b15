"""Pick the GGUF quant that fits a machine, and fetch it, proven intact.

The public functions are loaded when they are first used, so that importing the package is free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantpick.api import (
        check_lock,
        download,
        download_locked,
        explain,
        inspect,
        lock,
        lock_key,
        plan,
        probe,
        recommend,
        verify,
    )
    from quantpick.domain.quant import parse_filename

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "check_lock",
    "download",
    "download_locked",
    "explain",
    "inspect",
    "lock",
    "lock_key",
    "parse_filename",
    "plan",
    "probe",
    "recommend",
    "verify",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- the protocol of module attributes
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "quantpick.domain.quant" if name == "parse_filename" else "quantpick.api"
    return getattr(import_module(home), name)
