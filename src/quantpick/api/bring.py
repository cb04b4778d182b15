"""The use cases that bring files, or answer for them: plan, download, lock and verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantpick.api import acquire
from quantpick.api.choose import pick_listed, repo_id_of
from quantpick.api.machine import probe
from quantpick.domain.lock import Lock, cache_key
from quantpick.domain.need import Need, check_need
from quantpick.domain.policy import Policy
from quantpick.domain.progress import Silent
from quantpick.domain.spec import is_revision, parse_spec
from quantpick.domain.verification import Verification
from quantpick.errors import UsageError
from quantpick.fetch.check import check_paths
from quantpick.fetch.lock_file import read_lock, write_lock
from quantpick.fetch.way import Way

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quantpick.domain.host import Host
    from quantpick.domain.lock import Drift
    from quantpick.domain.plan import Download, Plan
    from quantpick.domain.progress import Progress
    from quantpick.domain.spec import Spec


def plan(
    spec: str,
    *,
    revision: str | None = None,
    need: Need | None = None,
    with_mmproj: str | None = None,
) -> Plan:
    """Return what `download` would fetch for a SPEC, from the repo's real listing."""
    return download(spec, revision=revision, need=need, with_mmproj=with_mmproj, dry_run=True).plan


def download(  # noqa: PLR0913 -- each is a flag of its own
    spec: str,
    *,
    revision: str | None = None,
    local_dir: Path | None = Path(),
    host: Callable[[], Host] = probe,
    need: Need | None = None,
    with_mmproj: str | None = None,
    dry_run: bool = False,
    force: bool = False,
    xet: bool = False,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Download:
    """Fetch one quant, every shard of it, and prove it; ``local_dir`` None means the cache.

    ``revision`` overrides one in the SPEC. The label ``auto`` is the recommendation for the
    machine that ``host`` returns; it is called for that label only. ``with_mmproj`` brings the
    projector of that type too, ``auto`` the usual one. ``xet`` tries Xet before HTTP.
    """
    need, policy, progress = check_need(need or Need()), policy or Policy(), progress or Silent()
    if revision is not None and not is_revision(revision):
        raise UsageError(f"{revision!r} names no branch, tag or commit", "check --revision")
    want = _want(spec, progress, with_mmproj)
    want = want._replace(revision=revision or want.revision)
    planned = acquire.plan_want(
        want, policy, progress, lambda listing: pick_listed(listing, host(), need)
    )
    if dry_run:
        return planned._replace(local_dir=None if local_dir is None else str(local_dir))
    return acquire.fetch(planned, Way(local_dir, policy, progress, force=force, xet=xet))


def download_locked(  # noqa: PLR0913 -- likewise
    lock_file: Path,
    spec: str | None = None,
    *,
    local_dir: Path | None = Path(),
    force: bool = False,
    frozen: bool = False,
    xet: bool = False,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> tuple[Download, ...]:
    """Fetch exactly what a lock says, all of it or the quant of a SPEC, and prove it.

    What is there already needs no network; ``frozen`` forbids the rest to use it. Raises LockError
    where it cannot be had as locked.
    """
    progress = progress or Silent()
    parsed = None if spec is None else _parse(spec, progress)
    way = Way(local_dir, policy or Policy(), progress, force=force, frozen=frozen, xet=xet)
    return acquire.fetch_locked(lock_file, parsed, repo_id_of(parsed) if parsed else "", way)


def lock(  # noqa: PLR0913 -- likewise
    specs: Sequence[str],
    lock_file: Path,
    *,
    with_mmproj: str | None = None,
    host: Callable[[], Host] = probe,
    need: Need | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Lock:
    """Write down commit, files and sha256 of quants; without SPECs of those locked before."""
    need, policy, progress = check_need(need or Need()), policy or Policy(), progress or Silent()
    wants = [_want(spec, progress, with_mmproj) for spec in specs]
    if not wants:
        known = [acquire.want_locked(one) for one in read_lock(lock_file).quants]
        wants = [want._replace(mmproj=with_mmproj or want.mmproj) for want in known]
    quants = [
        acquire.locked_of(
            acquire.plan_want(
                want, policy, progress, lambda listing: pick_listed(listing, host(), need)
            ),
            want,
        )
        for want in wants
    ]
    written = Lock(tuple(quants))
    write_lock(lock_file, written)
    return written


def check_lock(
    lock_file: Path, *, policy: Policy | None = None, progress: Progress | None = None
) -> tuple[Drift, ...]:
    """Return how each locked quant and the Hub differ today."""
    policy, progress = policy or Policy(), progress or Silent()
    locked = read_lock(lock_file).quants
    return tuple(acquire.drift_of(one, policy, progress) for one in locked)


def lock_key(lock_file: Path) -> str:
    """Return a key for a cache of the locked files: the same for the same bytes and names."""
    return cache_key(read_lock(lock_file))


def verify(
    paths: Sequence[Path],
    *,
    lock_file: Path | None = None,
    repo: str | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check files and folders again, by default against what lies beside them.

    ``repo`` (``OWNER/REPO[@REVISION]``) has them held against the Hub's listing instead. Raises
    NotFoundError for a path that is not there, LockError for a lock that cannot be read.
    """
    known = None
    if lock_file is not None:
        known = acquire.known_by_lock(lock_file)
    elif repo is not None:
        parsed = parse_spec(repo)
        known = acquire.known_by_hub(repo_id_of(parsed), parsed.revision, policy or Policy())
    return Verification(check_paths(paths, known, progress or Silent()))


def _want(text: str, progress: Progress, with_mmproj: str | None) -> acquire.Want:
    spec = _parse(text, progress)
    return acquire.want_of(spec, repo_id_of(spec), text, with_mmproj)


def _parse(text: str, progress: Progress) -> Spec:
    spec = parse_spec(text)
    if spec.path is not None:
        raise UsageError(f"{text} is a path, not a repo", "write OWNER/REPO:LABEL")
    if spec.repo is None:
        progress.note(f"{spec.label} of the default repo {repo_id_of(spec)}")
    return spec
