"""Fetching a Plan: into a staging folder first, checked there, then moved to its name.

A file that fails its check is removed and never stands under the good name; a file already there
that differs from the listing is left alone unless the user says otherwise.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from quantpick import hub
from quantpick.domain.plan import Fetched
from quantpick.domain.progress import step
from quantpick.domain.units import format_gb
from quantpick.errors import DiskError, IntegrityError
from quantpick.fetch.verify import difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantpick.domain.listing import RemoteFile
    from quantpick.domain.plan import Plan
    from quantpick.domain.progress import Progress

#: Folder below the target for what is being fetched; gone again when all is well.
STAGING = ".quantpick"


def fetch_to_folder(
    plan: Plan, local_dir: Path, progress: Progress, *, force: bool
) -> tuple[Fetched, ...]:
    """Fetch what is missing below ``local_dir`` and prove all of it.

    A run that another process is doing already is waited for. Raises DiskError before anything is
    fetched when the disk is too small, IntegrityError for a wrong file (a wrong file already
    there is replaced only with ``force``), and the errors of hub.fetch_file.
    """
    staging = local_dir / STAGING / f"{plan.repo_id.replace('/', '--')}-{plan.revision[:12]}"
    try:
        with _only_one(staging, progress):
            staging.mkdir(parents=True, exist_ok=True)
            try:
                return _fetch_missing(plan, staging, local_dir, progress, force=force)
            finally:
                _tidy(staging, plan)
    except OSError as error:
        raise _unwritable(local_dir, error) from error


def fetch_to_cache(plan: Plan, progress: Progress) -> tuple[Fetched, ...]:
    """Fetch into huggingface_hub's cache, where llama.cpp looks too, and prove all of it."""
    missing = [file for file in plan.files if hub.cached_path(plan, file.path) is None]
    _check_disk(sum(file.size for file in missing), hub.cache_folder())
    return tuple(_fetch_cached(plan, file, progress) for file in plan.files)


def write_text(path: Path, text: str) -> None:
    """Write a small text file beside the model. Raises DiskError."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _fetch_missing(
    plan: Plan, staging: Path, local_dir: Path, progress: Progress, *, force: bool
) -> tuple[Fetched, ...]:
    present = _present(plan, local_dir, progress, force=force)
    missing = [file for file in plan.files if file.path not in present]
    staged = _staged_bytes(missing, staging)
    _check_disk(sum(file.size for file in missing) - staged, local_dir)
    fetched = {f.path: _fetch(plan, f, staging, local_dir, progress) for f in missing}
    return tuple((present | fetched)[file.path] for file in plan.files)


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


def _staged_bytes(files: list[RemoteFile], staging: Path) -> int:
    paths = [staging / file.path for file in files]
    return sum(path.stat().st_size for path in paths if path.exists())


def _check_disk(needed: int, folder: Path) -> None:
    """Raise DiskError when a folder, which need not exist yet, has less than ``needed`` free."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DiskError(
            f"{format_gb(needed)} to fetch, but only {format_gb(free)} free in {folder}",
            "free some space, choose another --local-dir, or choose a smaller quant",
        )


def _fetch(
    plan: Plan, file: RemoteFile, staging: Path, local_dir: Path, progress: Progress
) -> Fetched:
    with step(progress, f"fetch {_name(file)}", file.size) as on_bytes:
        staged = Path(hub.fetch_file(plan, file.path, staging, on_bytes))
    wrong = _check(staged, file, progress)
    if wrong is not None:
        staged.unlink(missing_ok=True)
        raise _wrong_bytes(plan, file, wrong)
    target = local_dir / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.replace(target)
    return Fetched(file, str(target), file.sha256 is not None, reused=False)


def _fetch_cached(plan: Plan, file: RemoteFile, progress: Progress) -> Fetched:
    cached = hub.cached_path(plan, file.path)
    with step(progress, f"fetch {_name(file)}", file.size) as on_bytes:
        path = Path(hub.fetch_file(plan, file.path, None, on_bytes))
    wrong = _check(path, file, progress)
    if wrong is not None:
        # The cache keeps bytes under their expected sha256 and would offer them again.
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise _wrong_bytes(plan, file, wrong)
    return Fetched(file, str(path), file.sha256 is not None, reused=cached is not None)


def _check(path: Path, file: RemoteFile, progress: Progress) -> str | None:
    with step(progress, f"check {_name(file)}", file.size) as on_bytes:
        return difference(path, file, on_bytes)


@contextmanager
def _only_one(staging: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock beside a staging folder; wait for another process that holds it, and say so."""
    lock = staging.with_name(f"{staging.name}.lock")
    guard = FileLock(lock)
    _acquire(guard, lock.parent, progress)
    try:
        yield
    finally:
        # Removed while it is held: who opens it later opens another, who waits for it notices.
        with suppress(OSError):
            lock.unlink()
        guard.release()
        with suppress(OSError):  # another quant may be under way beside it
            lock.parent.rmdir()


def _acquire(guard: FileLock, folder: Path, progress: Progress) -> None:
    said = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=1)
        except Timeout:
            if not said:
                progress.note("another quantpick fetches the same files; waiting for it")
            said = True
        except FileNotFoundError:
            # The other process is done and has removed the folder: make it again.
            continue
        else:
            return


def _unwritable(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"cannot write {path}: {error.strerror or error}", "choose another folder with --local-dir"
    )


def _wrong_bytes(plan: Plan, file: RemoteFile, wrong: str) -> IntegrityError:
    return IntegrityError(
        f"{file.path} of {plan.repo_id} is not intact: {wrong}; it was removed",
        "run the same command again; if it repeats, the repo or a proxy is at fault",
    )


def _tidy(staging: Path, plan: Plan) -> None:
    """Remove the staging folder unless it holds whole files that a next run can use."""
    with suppress(OSError):  # a name too long for this disk
        if any((staging / file.path).exists() for file in plan.files):
            return
    shutil.rmtree(staging, ignore_errors=True)


def _name(file: RemoteFile) -> str:
    return file.path.rpartition("/")[2]
