"""Fetching a Plan: into a staging folder first, checked there, then moved to its name.

A file that fails its check is removed and never stands under the good name; a file already there
that differs from the listing is left alone unless the user says otherwise.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from quantpick import hub
from quantpick.domain.plan import Fetched
from quantpick.domain.units import format_gb
from quantpick.errors import DiskError, IntegrityError
from quantpick.fetch.verify import difference

if TYPE_CHECKING:
    from quantpick.domain.listing import Listing, RemoteFile
    from quantpick.domain.plan import Plan
    from quantpick.domain.progress import Progress

#: Folder below the target for what is being fetched; gone again when all is well.
STAGING = ".quantpick"


def fetch_to_folder(
    plan: Plan, listing: Listing, local_dir: Path, progress: Progress, *, force: bool
) -> tuple[Fetched, ...]:
    """Fetch what is missing below ``local_dir`` and prove all of it.

    A run that another process is doing already is waited for. Raises DiskError before anything is
    fetched when the disk is too small, IntegrityError for a wrong file (a wrong file already
    there is replaced only with ``force``), and the errors of hub.fetch_file.
    """
    staging = local_dir / STAGING / f"{plan.repo_id.replace('/', '--')}-{plan.revision[:12]}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        lock = staging.with_suffix(".lock")
        with FileLock(lock):
            present = _present(plan, local_dir, progress, force=force)
            missing = [file for file in plan.files if file.path not in present]
            _check_disk(missing, staging, local_dir)
            try:
                fetched = {
                    f.path: _fetch(f, listing, staging, local_dir, progress) for f in missing
                }
            finally:
                _tidy(staging, plan, lock)
    except OSError as error:
        raise DiskError(
            f"cannot write below {local_dir}: {error.strerror or error}",
            "choose another folder with --local-dir",
        ) from error
    return tuple((present | fetched)[file.path] for file in plan.files)


def fetch_to_cache(plan: Plan, listing: Listing, progress: Progress) -> tuple[Fetched, ...]:
    """Fetch into huggingface_hub's cache, where llama.cpp looks too, and prove all of it."""
    return tuple(_fetch_cached(file, listing, progress) for file in plan.files)


def _present(plan: Plan, local_dir: Path, progress: Progress, *, force: bool) -> dict[str, Fetched]:
    """Return the files that are there and right. Raises IntegrityError for one that is wrong."""
    present = {}
    for file in plan.files:
        path = local_dir / file.path
        if not path.exists():
            continue
        wrong = _check(path, file, progress)
        if wrong is None:
            present[file.path] = Fetched(file, str(path), file.sha256 is not None, reused=True)
        elif not force:
            raise IntegrityError(
                f"{path} is there already and is not the file that the Hub lists: {wrong}",
                "move it away, choose another --local-dir, or replace it with --force",
            )
    return present


def _check_disk(missing: list[RemoteFile], staging: Path, local_dir: Path) -> None:
    staged = sum((staging / f.path).stat().st_size for f in missing if (staging / f.path).exists())
    needed = sum(file.size for file in missing) - staged
    free = shutil.disk_usage(local_dir).free
    if needed > free:
        raise DiskError(
            f"{format_gb(needed)} to fetch, but only {format_gb(free)} free in {local_dir}",
            "free some space, choose another --local-dir, or choose a smaller quant",
        )


def _fetch(
    file: RemoteFile, listing: Listing, staging: Path, local_dir: Path, progress: Progress
) -> Fetched:
    progress.start(f"fetch {file.path}", file.size)
    staged = Path(hub.fetch_file(listing, file.path, staging, progress.advance))
    progress.finish()
    wrong = _check(staged, file, progress)
    if wrong is not None:
        staged.unlink(missing_ok=True)
        raise _wrong_bytes(listing, file, wrong)
    target = local_dir / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.replace(target)
    return Fetched(file, str(target), file.sha256 is not None, reused=False)


def _fetch_cached(file: RemoteFile, listing: Listing, progress: Progress) -> Fetched:
    progress.start(f"fetch {file.path}", file.size)
    arrived = 0

    def count(size: int) -> None:
        nonlocal arrived
        arrived += size
        progress.advance(size)

    path = Path(hub.fetch_file(listing, file.path, None, count))
    progress.finish()
    wrong = _check(path, file, progress)
    if wrong is not None:
        # The cache keeps bytes under their expected sha256 and would offer them again.
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise _wrong_bytes(listing, file, wrong)
    return Fetched(file, str(path), file.sha256 is not None, reused=arrived == 0)


def _check(path: Path, file: RemoteFile, progress: Progress) -> str | None:
    progress.start(f"check {file.path}", file.size)
    try:
        return difference(path, file, progress.advance)
    finally:
        progress.finish()


def _wrong_bytes(listing: Listing, file: RemoteFile, wrong: str) -> IntegrityError:
    return IntegrityError(
        f"{file.path} of {listing.repo_id} did not arrive intact: {wrong}; it was removed",
        "run the same command again; if it repeats, the repo or a proxy is at fault",
    )


def _tidy(staging: Path, plan: Plan, lock: Path) -> None:
    """Remove the staging folder unless it holds whole files that a next run can use.

    The lock file goes while it is held, so that nobody can hold a file that is no longer there.
    """
    if any((staging / file.path).exists() for file in plan.files):
        return
    shutil.rmtree(staging, ignore_errors=True)
    try:
        lock.unlink()
        lock.parent.rmdir()
    except OSError:
        # Windows does not delete an open file, and another quant may be under way beside it.
        return
