"""Sizes: parsed once at the border, kept as whole bytes, printed under their true name.

GB is 10^9 bytes (what model cards print), GiB and MiB are 2^30 and 2^20 bytes (what drivers print).
"""

from __future__ import annotations

import re

from quantpick.errors import UsageError

MB = 10**6
GB = 10**9
MIB = 2**20
GIB = 2**30

_UNITS = {"": GIB, "GIB": GIB, "GB": GB, "MIB": MIB, "MB": MB, "TIB": 2**40, "TB": 10**12}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)

#: A bare number above this many GiB was meant as MiB, the unit that nvidia-smi prints.
_MOST_BARE = 4096

_BUILD = re.compile(r"b?(\d{1,6})", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``24GiB``, ``24GB`` or ``24`` (a bare number is GiB).

    Raises UsageError for anything else, for a unit without its ``B`` (``24G`` could mean either),
    for a bare number that can only be MiB, and for a size of zero.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = match.group(2).upper() if match else None
    if match is None or unit not in _UNITS:
        raise UsageError(
            f"cannot read the size {text!r}",
            "write a number and GB (10^9 bytes) or GiB (2^30 bytes), for example 24GiB",
        )
    size = round(float(match.group(1)) * _UNITS[unit])
    if not unit and size > _MOST_BARE * GIB:
        raise UsageError(
            f"the size {text!r} has no unit, and would be GiB",
            f"write {text.strip()}MiB if that is meant, or the unit GiB or GB",
        )
    if size <= 0:
        raise UsageError(f"the size {text!r} is zero", "give a size above zero, for example 24GiB")
    return size


def parse_build(text: str) -> int:
    """Build number of a llama.cpp release: ``b3472`` or ``3472``. Raises UsageError."""
    match = _BUILD.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"cannot read the llama.cpp build {text!r}",
            "write it as llama.cpp prints it, for example b3472",
        )
    return int(match.group(1))


def format_gb(size: int) -> str:
    """Return a size in GB with two digits, as model cards print it; in MB below a tenth of one."""
    return f"{size / GB:.2f} GB" if abs(size) >= GB // 10 else f"{size / MB:.2f} MB"


def format_gib(size: int) -> str:
    """Return a size in GiB with one digit, as drivers print it."""
    return f"{size / GIB:.1f} GiB"


def parse_seconds(text: str, name: str) -> float:
    """Read a number of seconds; ``name`` is the variable it stands in. Raises UsageError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"{name} is {text!r}, which is no number of seconds",
            "set it to some seconds, such as 30, or unset it",
        )
    return seconds
