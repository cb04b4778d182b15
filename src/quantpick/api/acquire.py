"""The steps of the use cases in `bring`: from what is wanted to a plan, to files, to a lock."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.licence import notice_name, notice_text
from quantpick.domain.listing import find_file, find_quant, quant_sets
from quantpick.domain.lock import Drift, LockedQuant, find_locked
from quantpick.domain.offer import check_offered, find_projector
from quantpick.domain.plan import Download, Target, literal_pattern, plan_download
from quantpick.domain.receipt import Entry
from quantpick.domain.spec import AUTO
from quantpick.errors import IntegrityError, LockError, NotFoundError, UsageError
from quantpick.fetch import check, receipt_file, transfer
from quantpick.fetch.lock_file import read_lock
from quantpick.fetch.places import write_text
from quantpick.sources import catalog
from quantpick.sources.listing_cache import load_listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from quantpick.domain.listing import Listing, QuantSet
    from quantpick.domain.plan import Plan
    from quantpick.domain.policy import Policy
    from quantpick.domain.progress import Progress
    from quantpick.domain.spec import Spec
    from quantpick.domain.verdict import Recommendation
    from quantpick.fetch.way import Way


class Want(NamedTuple):
    """What to bring: a quant by label or by the path of a file, and a projector's type if any."""

    repo_id: str
    revision: str | None
    label: str | None
    file: str | None = None
    mmproj: str | None = None


def want_of(spec: Spec, repo_id: str, text: str, mmproj: str | None) -> Want:
    """Return what a SPEC asks to bring. Raises UsageError where it names no quant."""
    if spec.label is None and spec.file is None:
        raise UsageError(
            f"{text} names no quant", f"write {text}:LABEL, or {text}:auto for the recommended one"
        )
    return Want(repo_id, spec.revision, spec.label, spec.file, mmproj)


def plan_want(
    want: Want, policy: Policy, progress: Progress, pick: Callable[[Listing], Recommendation]
) -> Download:
    """Return the download that brings it, not begun; ``pick`` judges a listing for ``auto``."""
    listing = load_listing(want.repo_id, want.revision, policy)
    answer = None
    if want.file is not None:
        quant = find_file(listing, want.file)
    elif want.label is not None and want.label.lower() == AUTO:
        answer = pick(listing)
        label = answer.pick.file.label if answer.pick else ""
        progress.note(f"recommended for this machine: {label}")
        quant = find_quant(listing, label)
    else:
        quant = find_quant(listing, want.label or "")
        check_offered(listing, quant, catalog.load_reference())
    plan = plan_download(listing, quant)
    if want.mmproj is not None:
        plan = _with_projector(plan, listing, quant, want.mmproj)
    known = catalog.find_repo_id(want.repo_id)
    terms = listing.license or (catalog.load_model(known).license if known else None)
    return Download(
        plan._replace(asked=want.revision),
        None,
        catalog.load_licence(terms),
        dry_run=True,
        base_model=listing.base_model,
        recommendation=answer,
    )


def fetch(planned: Download, way: Way) -> Download:
    """Do a planned download, and write down what came. Raises LockError for what is frozen."""
    plan = planned.plan
    files = transfer.fetch_plan(plan, way)
    if way.local_dir is None:
        return planned._replace(files=files, dry_run=False)
    notice = Path(files[0].local_path).parent / notice_name(plan.repo_id)
    write_text(notice, notice_text(plan, planned.base_model, planned.licence))
    receipt = receipt_file.write_receipt(
        way.local_dir, plan.repo_id, planned.licence.licence_id, _entries(plan)
    )
    return planned._replace(
        local_dir=str(way.local_dir),
        files=files,
        dry_run=False,
        notice=str(notice),
        receipt=str(receipt),
    )


def planned_of(locked: LockedQuant) -> Download:
    """Return the download of a locked quant, not begun; asks nobody."""
    return Download(
        locked.plan(),
        None,
        catalog.load_licence(locked.license),
        dry_run=True,
        base_model=locked.base_model,
    )


def fetch_locked(path: Path, spec: Spec | None, repo_id: str, way: Way) -> tuple[Download, ...]:
    """Fetch exactly what a lock says: all of it, or the quant of a SPEC.

    Raises LockError where that cannot be had, and the errors of the network and the disk.
    """
    lock = read_lock(path)
    wanted = find_locked(lock, spec, repo_id, str(path)) if spec else lock.quants
    done = []
    for locked in wanted:
        try:
            done.append(fetch(planned_of(locked), way))
        except (NotFoundError, IntegrityError) as error:
            raise LockError(error.message, *error.hints) from error
    return tuple(done)


def locked_of(planned: Download, want: Want) -> LockedQuant:
    """Return what a lock says of a planned download. Raises LockError for what nothing proves."""
    plan = planned.plan
    unproven = next((file.path for file in plan.files if file.digest is None), None)
    if unproven is not None:
        raise LockError(
            f"the Hub lists no sha256 of {unproven}, so it cannot be locked",
            "fetch it without a lock, or choose another repo of the model",
        )
    return LockedQuant(
        repo_id=plan.repo_id,
        commit=plan.revision,
        label=plan.label,
        files=plan.files,
        asked=plan.asked,
        path=want.file,
        mmproj=want.mmproj,
        license=planned.licence.licence_id,
        base_model=planned.base_model,
    )


def drift_of(locked: LockedQuant, policy: Policy, progress: Progress) -> Drift:
    """Return how a locked quant and the Hub differ today. Raises the errors of the network."""
    want = want_locked(locked)
    try:
        return Drift(locked, locked_of(plan_want(want, policy, progress, _no_pick), want))
    except (NotFoundError, IntegrityError) as error:
        return Drift(locked, None, error.message)


def want_locked(locked: LockedQuant) -> Want:
    """Return what to ask for to lock a quant anew."""
    return Want(locked.repo_id, locked.asked, locked.label, locked.path, locked.mmproj)


def known_by_lock(path: Path) -> check.Known:
    """Return what a lock tells of files. Raises LockError."""
    quants = read_lock(path).quants
    targets = [target for quant in quants for target in quant.plan().targets]
    return check.Known(str(path), targets, whole=True)


def known_by_hub(repo_id: str, revision: str | None, policy: Policy) -> check.Known:
    """Return what the Hub lists of a repo's files. Raises the errors of hub.list_repo."""
    listing = load_listing(repo_id, revision, policy)
    targets = [Target(file.path, (file,)) for file in listing.files if file.digest is not None]
    for quant in (quant for sets in quant_sets(listing).values() for quant in sets):
        targets += [one for one in plan_download(listing, quant).targets if len(one.parts) > 1]
    return check.Known(f"{repo_id} at {listing.revision[:12]}", targets, whole=False)


def _with_projector(plan: Plan, listing: Listing, quant: QuantSet, wanted: str) -> Plan:
    file = find_projector(listing, quant, wanted)
    return plan._replace(
        files=(*plan.files, file), include=(*plan.include, literal_pattern(file.path))
    )


def _entries(plan: Plan) -> list[Entry]:
    now, by = datetime.now(UTC).isoformat(timespec="seconds"), version("quantpick")
    return [Entry(target, plan.label, plan.revision, now, by) for target in plan.targets]


def _no_pick(listing: Listing) -> Recommendation:
    raise NotFoundError(f"{listing.repo_id} was locked by a label", "lock it anew")
