"""Fetching a Plan: what is missing, proven, and only then under its name.

What has come of a file stays beside its place when a run ends early, and the next run goes on from
there. A file that fails its proof is set aside and fetched once more from its first byte; a file
already there that differs from the listing is left alone unless the user says otherwise.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

from quantpick import hub
from quantpick.domain.plan import Fetched
from quantpick.domain.progress import step
from quantpick.domain.units import format_gb
from quantpick.errors import DiskError, IntegrityError, LockError, StoppedError
from quantpick.fetch.digest import wrong_digest
from quantpick.fetch.engine import fetch_all
from quantpick.fetch.part import PartFile, bytes_there, discard
from quantpick.fetch.places import (
    cache_places,
    disk_error,
    folder_places,
    publish,
    tidy,
)
from quantpick.fetch.proven import check_set, fault, note_proof, read_structure
from quantpick.fetch.queue import Job
from quantpick.fetch.xet import fetch_by_xet
from quantpick.locks import hold
from quantpick.remote import RemoteBytes

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from quantpick.domain.header import Header
    from quantpick.domain.listing import RemoteFile
    from quantpick.domain.plan import Plan
    from quantpick.fetch.places import Place
    from quantpick.fetch.way import Way


def fetch_plan(plan: Plan, way: Way) -> tuple[Fetched, ...]:
    """Fetch what is missing and prove all of it.

    A run that another process is doing already is waited for. Raises DiskError before anything is
    fetched when the disk is too small, IntegrityError for a wrong file (a wrong file already in a
    folder is replaced only with ``force``), LockError for a missing file when ``frozen``, and the
    errors of the Hub.
    """
    folder = way.local_dir
    places = cache_places(plan) if folder is None else folder_places(plan, folder)
    try:
        missing = [place for place in places if not _present(place, way)]
        # What is there already needs no lock, nor a folder that can be written.
        if missing:
            with hold({place.lock for place in places}, way.progress.note):
                # Another process may have brought some while this one waited.
                missing = [place for place in missing if not _present(place, way)]
                _fetch_missing(plan, places, missing, way)
        if folder is None:
            publish(plan, places)
    except OSError as error:
        raise disk_error(folder or hub.cache_folder(), error) from error
    finally:
        if folder is not None:
            tidy(folder)
    return tuple(
        Fetched(place.target, str(place.shown), place.target.provable, reused=place not in missing)
        for place in places
    )


def _fetch_missing(plan: Plan, places: Sequence[Place], missing: Sequence[Place], way: Way) -> None:
    if missing and way.frozen:
        raise LockError(
            f"{missing[0].target.path} of {plan.repo_id} is not there, and --frozen forbids to "
            "fetch it",
            "fetch it first, with --locked",
        )
    if missing:
        _check_disk(missing)
        if way.xet:
            _try_xet(plan, missing, way)
        run = _Run(plan, places, way)
        wrong = run.fetch(missing)
        for place, what in wrong.items():
            way.progress.note(f"{_name(place)} is not intact: {what}; fetching it once more")
        for place, what in (run.fetch(list(wrong)) if wrong else {}).items():
            raise _not_intact(plan, place, what, same=what == wrong[place])


def _try_xet(plan: Plan, places: Sequence[Place], way: Way) -> None:
    """Fetch files by Xet as far as that goes; what does not come is left for HTTP."""
    for place in places:
        file, *more = place.target.parts
        if more or place.part.exists():
            continue
        with step(way.progress, f"fetch {_name(place)} by Xet", file.size) as on_bytes:
            came = fetch_by_xet(plan, file, place.part, on_bytes)
        if not came:
            way.progress.note(f"Xet does not bring {_name(place)}; fetching it over HTTP")


def _present(place: Place, way: Way) -> bool:
    """Whether a file is there and right. Raises IntegrityError for one that is wrong."""
    if not place.final.exists():
        return False
    with step(way.progress, f"check {_name(place)}", place.target.size) as on_bytes:
        wrong = fault(place.final, place.target, on_bytes)
    # A wrong blob in the cache is nobody's own file: its name promises the right bytes.
    if wrong is not None and not way.force and way.local_dir is not None:
        raise IntegrityError(
            f"{place.final} is there already and is not the file that the Hub lists: {wrong}",
            "move it away, choose another --local-dir, or replace it with --force",
        )
    return wrong is None


def _check_disk(places: Sequence[Place]) -> None:
    """Raise DiskError when there is less free than what is still to come."""
    needed = sum(place.target.size - bytes_there(place.part, place.target.size) for place in places)
    there = next(path for path in places[0].part.absolute().parents if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DiskError(
            f"{format_gb(needed)} to fetch, but only {format_gb(free)} free in {there}",
            "free some space, choose another --local-dir, or choose a smaller quant",
        )


class _Run:
    """One Plan under way: what its tries have in common."""

    def __init__(self, plan: Plan, places: Sequence[Place], way: Way) -> None:
        self._plan, self._places, self._way = plan, places, way

    def fetch(self, missing: Sequence[Place]) -> dict[Place, str]:
        """Fetch files and give those that are proven their names; return the others and why."""
        with ExitStack() as stack:
            parts = {
                place: stack.enter_context(PartFile(place.part, place.target.size))
                for place in missing
            }
            wrong = self._bring(parts)
            if wrong:
                self._check([place for place in missing if place not in wrong], parts)
            else:
                check_set(self._check(self._places, parts))
            for place, part in parts.items():
                if place not in wrong:
                    _accept(place, part)
        for place in wrong:
            _set_aside(place)
        return wrong

    def _bring(self, parts: dict[Place, PartFile]) -> dict[Place, str]:
        """Fetch files into their part files; return those with wrong bytes, and why."""
        web = hub.connect(self._way.policy)
        jobs = [
            (place, Job(RemoteBytes(web, self._plan.repo_id, self._plan.revision, file), part, at))
            for place, part in parts.items()
            for file, at in _offsets(place)
        ]
        try:
            digests = self._watch([job for _, job in jobs])
        finally:
            web.close()
        wrong = {}
        for (place, job), digest in zip(jobs, digests, strict=True):
            what = wrong_digest(job.source.file, digest)
            if what is not None:
                several = len(place.target.parts) > 1
                wrong[place] = f"{job.source.file.path}: {what}" if several else what
        return wrong

    def _watch(self, jobs: list[Job]) -> list[str]:
        total = sum(job.size for job in jobs)
        try:
            with step(self._way.progress, _title(self._plan, jobs), total) as on_bytes:
                return fetch_all(jobs, self._way.policy, on_bytes)
        except KeyboardInterrupt:
            kept = sum(job.arrived() for job in jobs)
            raise StoppedError(
                f"interrupted with {format_gb(kept)} of {format_gb(total)} there",
                "run the same command again to go on from there",
            ) from None

    def _check(self, places: Sequence[Place], parts: Container[Place]) -> dict[str, Header]:
        """Return the headers of GGUF files whose bytes are right, by path in the repo.

        Raises IntegrityError for one that is not whole: the Hub has it like that.
        """
        found = {}
        for place in places:
            path = place.part if place in parts else place.final
            try:
                header = read_structure(path, place.target)
            except IntegrityError as error:
                raise IntegrityError(
                    f"{error.message}; the file is like that on the Hub",
                    f"choose another quant; what came is kept in {path}",
                ) from error
            if header is not None:
                found[place.target.path] = header
        return found


def _accept(place: Place, part: PartFile) -> None:
    part.finish(place.final)
    place.rejected.unlink(missing_ok=True)
    if place.target.provable:
        note_proof(place.final, place.target)


def _set_aside(place: Place) -> None:
    """Keep a wrong file for a look at it, unless that leaves no room for another try."""
    if place.target.size <= shutil.disk_usage(place.part.parent).free:
        place.part.replace(place.rejected)
    discard(place.part)


def _offsets(place: Place) -> Iterator[tuple[RemoteFile, int]]:
    at = 0
    for file in place.target.parts:
        yield file, at
        at += file.size


def _not_intact(plan: Plan, place: Place, what: str, *, same: bool) -> IntegrityError:
    kept = f"; it is set aside as {place.rejected}" if place.rejected.exists() else ""
    if same:
        hint = "twice the same wrong bytes: the repo or a mirror is at fault; choose another"
    else:
        hint = "twice other wrong bytes: a proxy, the network or the disk is at fault; try again"
    return IntegrityError(
        f"{place.target.path} of {plan.repo_id} is not intact: {what}{kept}", hint
    )


def _title(plan: Plan, jobs: Sequence[Job]) -> str:
    if len(jobs) == 1:
        return f"fetch {jobs[0].source.file.path.rpartition('/')[2]}"
    return f"fetch {plan.label}, {len(jobs)} files"


def _name(place: Place) -> str:
    return place.target.path.rpartition("/")[2]
