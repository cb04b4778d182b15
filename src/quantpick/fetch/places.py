"""Where the files of a Plan go: a folder with the repo's paths, or huggingface_hub's cache.

Both have a place for a file under way and one for a file that failed its proof, so that the good
name is given last.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, NamedTuple

from quantpick import hub
from quantpick.domain.names import is_sha1
from quantpick.errors import DiskError, HubError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from quantpick.domain.plan import Plan, Target

#: Folder below the target for what is under way; gone again when all is well.
STAGING = ".quantpick"

#: Bytes of a file's name on common file systems, less what is put behind it while it is under way.
_LONGEST_NAME = 255 - len(".0123456789ab.part.json.new")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Place(NamedTuple):
    """Where one target is, or will be.

    ``shown`` is the path that a user sees, ``final`` the file that holds the bytes; in the cache
    the first is a link to the second. ``lock`` is held while any of it changes.
    """

    target: Target
    shown: Path
    final: Path
    part: Path
    rejected: Path
    lock: Path


def folder_places(plan: Plan, folder: Path) -> list[Place]:
    """Return the places of a plan's files below a folder."""
    return [_folder_place(target, folder) for target in plan.targets]


def cache_places(plan: Plan) -> list[Place]:
    """Return the places of a plan's files in the Hub cache, which is known by digest.

    Raises UsageError for raw byte parts and HubError where the Hub lists no digest.
    """
    return [_cache_place(plan, target) for target in plan.targets]


def publish(plan: Plan, places: list[Place]) -> None:
    """Show what is in the cache under the repo's paths, as huggingface_hub does. Raises OSError."""
    root = hub.repo_cache(plan.repo_id)
    for place in places:
        if not place.shown.exists() or not place.shown.samefile(place.final):
            _link(place.shown, place.final)
    if is_sha1(plan.asked):
        return
    ref = root / "refs" / (plan.asked or "main")
    if not ref.exists() or ref.read_text("utf-8") != plan.revision:
        ref.parent.mkdir(parents=True, exist_ok=True)
        _replace_text(ref, plan.revision)


def tidy(folder: Path) -> None:
    """Remove the staging folder below a folder once nothing is left in it."""
    with suppress(OSError):
        (folder / STAGING).rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a small text file beside the model: the whole of it, or nothing. Raises DiskError.

    One that says the same already is left alone, also where nothing can be written.
    """
    try:
        if path.is_file() and path.read_bytes() == text.encode():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace_text(path, text)
    except OSError as error:
        raise disk_error(path.parent, error) from error


def _replace_text(path: Path, text: str) -> None:
    # A name of its own: another process or thread may write the same file now.
    written = path.with_name(f".{path.name[:200]}.{os.getpid()}.{get_ident()}.new")
    try:
        written.write_text(text, "utf-8")
        written.replace(path)
    except OSError:
        written.unlink(missing_ok=True)
        raise


def disk_error(folder: Path, error: OSError) -> DiskError:
    """Return the error for a disk that is full or cannot be written."""
    if error.errno in _FULL:
        return DiskError(
            f"the disk of {folder} is full; what has come is kept",
            "free some space and run the same command again, or choose a smaller quant",
        )
    return DiskError(
        f"cannot write {error.filename or folder}: {error.strerror or error}",
        "choose another folder with --local-dir (HF_HOME for --cache)",
    )


def _folder_place(target: Target, folder: Path) -> Place:
    staging, name = folder / STAGING, target.path.rpartition("/")[2]
    # Several folders of a repo may hold files of one name.
    mark = (target.parts[0].digest or target.path.encode().hex())[:12]
    base = name.encode()[:_LONGEST_NAME].decode("utf-8", "ignore") + f".{mark}"
    return Place(
        target=target,
        shown=folder / target.path,
        final=folder / target.path,
        part=staging / f"{base}.part",
        rejected=staging / f"{base}.rejected",
        lock=staging / f"{base}.lock",
    )


def _cache_place(plan: Plan, target: Target) -> Place:
    if len(target.parts) > 1:
        raise UsageError(
            f"{plan.label} of {plan.repo_id} has to be joined from {len(target.parts)} raw parts, "
            "and the Hub cache holds files as the Hub has them",
            "leave out --cache",
        )
    blob = target.parts[0].digest
    if blob is None:
        raise HubError(
            f"the Hub lists no sha256 of {target.path}, which the cache goes by",
            "leave out --cache",
        )
    root = hub.repo_cache(plan.repo_id)
    shown = root / "snapshots" / plan.revision / target.path
    # Where links cannot be made, the bytes themselves are in the snapshot.
    unlinked = shown.is_file() and not shown.is_symlink()
    return Place(
        target=target,
        shown=shown,
        final=shown if unlinked else root / "blobs" / blob,
        part=root / "blobs" / f"{blob}.quantpick.part",
        rejected=root / "blobs" / f"{blob}.quantpick.rejected",
        lock=hub.cache_lock(plan.repo_id, blob),
    )


def _link(shown: Path, blob: Path) -> None:
    shown.parent.mkdir(parents=True, exist_ok=True)
    shown.unlink(missing_ok=True)
    try:
        shown.symlink_to(os.path.relpath(blob, shown.parent))
    except OSError:
        # Windows without the right to make links: huggingface_hub moves the file there too.
        shutil.move(blob, shown)
