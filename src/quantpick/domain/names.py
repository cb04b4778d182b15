"""Names from outside: which are safe to write to disk, and which one a user may have meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"^[A-Za-z]:")

#: Names in a hint: more than a repo has quants, and no page full.
_SHOWN = 30


def unsafe_path(path: str) -> bool:
    """Whether a path from the Hub could leave its folder or play tricks on a terminal."""
    parts = path.split("/")
    return (
        not path
        or "\\" in path
        or _DRIVE.match(path) is not None
        or any(part in {"", ".", ".."} or part.endswith((" ", ".")) for part in parts)
        or not path.isprintable()
    )


def is_sha1(value: object) -> TypeGuard[str]:
    """Whether a value from outside is a sha1 as git writes it: of a file, or of a commit."""
    return isinstance(value, str) and _SHA1.fullmatch(value) is not None


def is_sha256(value: object) -> TypeGuard[str]:
    """Whether a value from outside is a sha256 as the Hub writes it."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def near_hint(name: str, known: Iterable[str]) -> str:
    """Return a hint with the names a user may have meant, or with the first when none is near."""
    # Loaded here: only an error needs it.
    from difflib import get_close_matches

    names = list(known)
    upper = {known_name.upper(): known_name for known_name in names}
    close = get_close_matches(name.upper(), upper, n=4, cutoff=0.6)
    if close:
        return f"did you mean {', '.join(upper[match] for match in close)}?"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there are {', '.join(names[:_SHOWN])}{more}"


def printable(text: str) -> str:
    """Return a text without characters that a terminal would obey, line breaks among them."""
    return "".join(char if char.isprintable() else "?" for char in text)
