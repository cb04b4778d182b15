"""The use cases, one short function each: what the command line does, and Python code can.

A SPEC names a repo (``OWNER/REPO`` or a catalog alias, ``@REVISION`` after it) and a quant
(``:LABEL``, or ``:PATH.gguf`` for a file); a label alone means the default repo. Errors are
QuantpickError and its kinds. Each part is loaded when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantpick.api.bring import (
        check_lock,
        download,
        download_locked,
        lock,
        lock_key,
        plan,
        verify,
    )
    from quantpick.api.choose import (
        REPO_VARIABLE,
        Explanation,
        explain,
        inspect,
        is_spec,
        list_models,
        load,
        nothing_fits,
        qualities,
        recommend,
        reference,
    )
    from quantpick.api.machine import probe

#: What each module brings; it is loaded when a name of it is first used.
_HOMES = {
    "machine": ("probe",),
    "bring": ("check_lock", "download", "download_locked", "lock", "lock_key", "plan", "verify"),
}

__all__ = [
    "REPO_VARIABLE",
    "Explanation",
    "check_lock",
    "download",
    "download_locked",
    "explain",
    "inspect",
    "is_spec",
    "list_models",
    "load",
    "lock",
    "lock_key",
    "nothing_fits",
    "plan",
    "probe",
    "qualities",
    "recommend",
    "reference",
    "verify",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- whatever the name stands for
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "choose")
    return getattr(import_module(f"quantpick.api.{home}"), name)
