"""The law of the fault matrix: what has to hold after every run, whatever went wrong.

It looks at the disk before and after, at the exit status and at what was said, and knows nothing of
how the run was done.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quantpick.errors import EXIT_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: What is on a disk: the sha256 of each file by its path, or what else it is.
Tree = dict[str, str]

TOKEN = "hf_accepted"

DANGLING = "a link to nothing"

#: Exit statuses that a download may end with. A bug is none of them, and nor is a usage error where
#: the words are right.
DOCUMENTED = frozenset(EXIT_STATUSES) - {1}

#: Where a run may write besides the names of its files: below the folder for what is under way, its
#: notices and receipts, its own cache and its locks.
_WORKING = re.compile(
    r"target/\.quantpick/.*"
    r"|target/(?:.*/)?NOTICE-[^/]+\.txt(?:\.new)?"
    r"|target/[^/]+\.quantpick\.json(?:\.new)?"
    r"|keep/(?:listings|proofs)/.*"
    r"|hf/hub/\.locks/.*"
    r"|hf/hub/[^/]+/blobs/[0-9a-f]{40,64}\.quantpick\..*"
)
_BLOB = re.compile(r"hf/hub/[^/]+/blobs/([0-9a-f]{64})")
_REF = re.compile(r"hf/hub/[^/]+/refs/.+")
_LEFT = re.compile(r"target/\.quantpick/.*|.*\.new|.*\.quantpick\.(?:part|rejected).*")


@dataclass(frozen=True)
class Act:
    """One run of a download: how it ended and what it said; no status is one that was killed."""

    status: int | None
    said: str = ""
    hung: bool = False


@dataclass(frozen=True)
class Promise:
    """What a run is held to.

    ``listed`` has the sha256 of every file of the quant by its place on the disk, ``wanted`` the
    places that a good end has to fill, and ``replaceable`` those that held something wrong before.
    """

    listed: Mapping[str, str]
    wanted: frozenset[str]
    commit: str
    replaceable: frozenset[str] = field(default_factory=frozenset)
    statuses: frozenset[int] = DOCUMENTED


def broken(promise: Promise, before: Tree, after: Tree, acts: list[Act]) -> list[str]:
    """Return what acts that went on at the same time have broken of the law, in words."""
    found = [text for act in acts for text in _badly_ended(promise, act)]
    found += _lost(promise, before, after)
    found += _bad(promise, before, after)
    if any(act.status == 0 for act in acts):
        found += _unkept(promise, after)
    if all(act.status == 0 for act in acts):
        found += [f"left behind: {path}" for path in after if _LEFT.fullmatch(path)]
    return found


def tree_of(root: Path, prefix: str = "") -> Tree:
    """Return what is below a folder, links followed."""
    tree: Tree = {}
    for path in sorted(root.rglob("*")):
        name = prefix + path.relative_to(root).as_posix()
        if path.is_file():
            tree[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_symlink():
            tree[name] = DANGLING
    return tree


def talkative_files(root: Path) -> Iterator[str]:
    """Yield the small files below a folder that hold the token."""
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 16 and TOKEN.encode() in path.read_bytes():
            yield f"the token is in {path.name}"


def false_receipts(root: Path, digests: frozenset[str]) -> Iterator[str]:
    """Yield the receipts in a folder that cannot be read, or tell of files that nobody listed."""
    for path in root.glob("*.quantpick.json"):
        try:
            rows = [
                part for file in json.loads(path.read_text())["files"] for part in file["parts"]
            ]
        except (ValueError, LookupError):
            yield f"{path.name} cannot be read"
            continue
        told = {part.get("sha256") or part.get("git_sha1") for part in rows}
        if not told <= digests:
            yield f"{path.name} tells of {sorted(map(str, told - digests))}"


def _badly_ended(promise: Promise, act: Act) -> Iterator[str]:
    if act.hung:
        yield "hangs"
    elif act.status is not None and act.status not in promise.statuses:
        yield f"ended with {act.status}: {act.said[-2000:]}"
    if "Traceback" in act.said:
        yield f"printed a traceback: {act.said[-2000:]}"
    if TOKEN in act.said:
        yield f"told the token: {act.said[-2000:]}"


def _lost(promise: Promise, before: Tree, after: Tree) -> Iterator[str]:
    """Yield what was good and is not as it was; bytes under way are not promised to stay."""
    for path, digest in before.items():
        if path in promise.replaceable or _WORKING.fullmatch(path):
            continue
        if after.get(path) != digest:
            yield f"lost: {path} was {digest[:12]}, is {after.get(path, 'gone')[:12]}"


def _bad(promise: Promise, before: Tree, after: Tree) -> Iterator[str]:
    """Yield what is under a name that it should not have."""
    for path, digest in after.items():
        if _WORKING.fullmatch(path) or before.get(path) == digest:
            continue
        blob = _BLOB.fullmatch(path)
        if _REF.fullmatch(path):
            expected = hashlib.sha256(promise.commit.encode()).hexdigest()
        else:
            expected = blob.group(1) if blob else promise.listed.get(path, "nothing")
        if digest != expected:
            yield f"bad under a good name: {path} is {digest[:12]}, should be {expected[:12]}"


def _unkept(promise: Promise, after: Tree) -> Iterator[str]:
    if not promise.wanted:
        yield "ended with 0, and nothing could be right"
    for path in promise.wanted:
        if after.get(path) != promise.listed.get(path, "nothing"):
            yield f"ended with 0, and {path} is {after.get(path, 'missing')[:12]}"
