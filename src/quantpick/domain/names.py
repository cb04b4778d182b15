"""Names from outside: which are safe to write to disk, and which one a user may have meant."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"^[A-Za-z]:")

#: Names that a hint tells at most: of those that are near, and of all where none is (more than a
#: repo has quants, and no page full).
_MOST_NEAR, _MOST = 4, 30


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


def near_hint(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return a hint with the names a user may have meant.

    When none is near it is ``otherwise``, or the first of all.
    """
    names = list(known)
    close = near_names(name, names)
    if close:
        return f"did you mean {', '.join(close)}?"
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return otherwise or f"there are {', '.join(names[:_MOST])}{more}"


def near_names(name: str, known: Iterable[str], likeness: float = 0.6) -> list[str]:
    """Return the few names that are most like one, where any is as like as ``likeness`` of 1."""
    # Loaded here: only an error needs it.
    from difflib import get_close_matches

    upper = {known_name.upper(): known_name for known_name in known}
    close = get_close_matches(name.upper(), upper, n=_MOST_NEAR, cutoff=likeness)
    return [upper[match] for match in close]


def part_hint(name: str, known: Mapping[str, str], command: str) -> str | None:
    """Return a hint with the names in whose text a word is, or the command that shows many."""
    found = [each for each, text in known.items() if name and name.lower() in text.lower()]
    if len(found) > _MOST_NEAR:
        return f"{len(found)} models have it in their names: {command} {shlex.quote(name)}"
    return f"did you mean {', '.join(found)}?" if found else None


def printable(text: str) -> str:
    """Return a text without characters that a terminal would obey, line breaks among them."""
    return "".join(char if char.isprintable() else "?" for char in text)
