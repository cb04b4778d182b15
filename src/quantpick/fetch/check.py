"""Checking files on disk again, whoever put them there, on all cores.

What a file should be is told by a lock or a listing that the user names, else by the receipt beside
it, else by its name in the Hub cache, which is its sha256.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock as Mutex
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.listing import RemoteFile
from quantpick.domain.names import is_sha256
from quantpick.domain.plan import Target
from quantpick.domain.progress import step
from quantpick.domain.quant import set_name
from quantpick.domain.verification import Checked, State
from quantpick.errors import IntegrityError, NotFoundError, UsageError
from quantpick.fetch.places import STAGING
from quantpick.fetch.proven import fault, read_structure
from quantpick.fetch.receipt_file import receipts_above, receipts_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from quantpick.domain.progress import Progress


class Known(NamedTuple):
    """Targets that a lock or a listing tells of, and its name.

    ``whole`` says that all of them have to be there; of a repo a folder may hold some quants.
    """

    name: str
    targets: Sequence[Target]
    whole: bool


class _Claim(NamedTuple):
    """A file, what it should be (None: nothing says) and who says so."""

    path: Path
    target: Target | None
    against: str | None


def check_paths(
    paths: Sequence[Path], known: Known | None, progress: Progress
) -> tuple[Checked, ...]:
    """Check files, and all models in folders, each once.

    Raises NotFoundError for a path that is not there, or a folder with nothing to check.
    """
    claims: dict[Path, _Claim] = {}
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"there is no {path}", "check the path")
        found = list(_in_folder(path, known) if path.is_dir() else _of_file(path, known))
        if not found:
            raise NotFoundError(f"{path} holds no GGUF file and no receipt", "name another folder")
        claims.update((claim.path, claim) for claim in found)
    return _check_all(list(claims.values()), progress)


def _in_folder(folder: Path, known: Known | None) -> Iterator[_Claim]:
    told = list(_told(folder, known))
    yield from told
    if known is not None and known.whole:
        return
    paths = {claim.path.absolute() for claim in told}
    for path in sorted(folder.rglob("*")):
        model = path.suffix.lower() == ".gguf" and STAGING not in path.parts
        if model and path.absolute() not in paths and path.is_file():
            yield _by_itself(path)


def _told(folder: Path, known: Known | None) -> Iterator[_Claim]:
    """Yield the files that should be in a folder, there or not."""
    if known is None:
        for place, receipt in (*receipts_below(folder), *receipts_above(folder)):
            for entry in receipt.entries:
                path = (place / entry.target.path).absolute()
                if path.is_relative_to(folder.absolute()):
                    shown = folder / path.relative_to(folder.absolute())
                    yield _Claim(shown, entry.target, "receipt")
        return
    # A set of which one file is there should be there whole.
    there = {
        set_name(target.path)
        for target in known.targets
        if known.whole or (folder / target.path).exists()
    }
    for target in known.targets:
        if set_name(target.path) in there:
            yield _Claim(folder / target.path, target, known.name)


def _of_file(path: Path, known: Known | None) -> Iterator[_Claim]:
    if known is not None:
        yield _Claim(path, _named(path, known), known.name)
        return
    for folder, receipt in receipts_above(path):
        for entry in receipt.entries:
            if (folder / entry.target.path) == path.absolute():
                yield _Claim(path, entry.target, "receipt")
                return
    yield _by_itself(path)


def _by_itself(path: Path) -> _Claim:
    """Return what a file's own name says of it: in the Hub cache its sha256, elsewhere nothing."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and is_sha256(blob.name):
        file = RemoteFile(path.name, blob.stat().st_size, blob.name)
        return _Claim(path, Target(path.name, (file,)), "the cache")
    return _Claim(path, None, None)


def _named(path: Path, known: Known) -> Target:
    """Return the target that a file's path ends with, or is named like."""
    found = [one for one in known.targets if one.path.rpartition("/")[2] == path.name]
    deeper = [one for one in found if path.absolute().as_posix().endswith(f"/{one.path}")]
    found = deeper or found
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{known.name} has {len(found)} files named {path.name}",
            "name the folder they were fetched into",
        )
    raise NotFoundError(f"{known.name} has no file {path.name}", "check the name")


def _check_all(claims: list[_Claim], progress: Progress) -> tuple[Checked, ...]:
    total = sum(claim.path.stat().st_size for claim in claims if claim.path.is_file())
    guard = Mutex()
    with (
        step(progress, f"check {len(claims)} file{'s' if len(claims) > 1 else ''}", total) as count,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):

        def on_bytes(size: int) -> None:
            with guard:
                count(size)

        return tuple(pool.map(lambda claim: _check(claim, on_bytes), claims))


def _check(claim: _Claim, on_bytes: Callable[[int], None]) -> Checked:
    path, target = claim.path, claim.target
    if not path.is_file():
        return Checked(str(path), State.MISSING, 0, claim.against)
    size = path.stat().st_size
    try:
        wrong = _fault(path, target, on_bytes)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror or error}"
    proven = target is not None and target.provable
    state = State.WRONG if wrong else State.OK if proven else State.UNPROVEN
    return Checked(str(path), state, size, claim.against, wrong)


def _fault(path: Path, target: Target | None, on_bytes: Callable[[int], None]) -> str | None:
    wrong = fault(path, target, on_bytes, again=True) if target else None
    if wrong is None:
        try:
            read_structure(path, target or Target(path.name, ()))
        except IntegrityError as error:
            return error.message
    return wrong
