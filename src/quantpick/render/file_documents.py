"""Documents about files: downloads, locks, and what a check of files found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.file_record import file_record
from quantpick.domain.launch import hf_command, run_command
from quantpick.domain.lock import cache_key
from quantpick.domain.verification import State
from quantpick.render.document import Record, recommendation_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from quantpick.domain.lock import Drift, Lock, LockedQuant
    from quantpick.domain.plan import Download, Fetched, Target
    from quantpick.domain.verification import Verification


def download_record(result: Download) -> Record:
    """Return a download: the plan, and each file that is on disk (none for a dry run)."""
    plan, answer = result.plan, result.recommendation
    done = {fetched.target.path: fetched for fetched in result.files}
    return {
        "repo_id": plan.repo_id,
        "revision": plan.revision,
        "label": plan.label,
        "include": list(plan.include),
        "total_bytes": plan.total_bytes,
        "files": [_target(target, done.get(target.path)) for target in plan.targets],
        "local_dir": result.local_dir,
        "dry_run": result.dry_run,
        "license": result.licence.licence_id,
        "notice": result.notice,
        "receipt": result.receipt,
        "commands": {"hf": hf_command(plan, result.local_dir), "run": run_command(result)},
        "recommendation": recommendation_record(answer) if answer else None,
    }


def locked_record(path: Path, results: Sequence[Download]) -> Record:
    """Return the downloads of a lock as fields."""
    return {"lock": str(path), "quants": [download_record(result) for result in results]}


def verify_document(found: Verification) -> Record:
    """Return what a check of files found as fields."""
    counts = {state.value: found.count(state) for state in State}
    return {"files": [file._asdict() for file in found.files], "counts": counts}


def lock_document(path: Path, lock: Lock) -> Record:
    """Return what a lock holds as fields."""
    quants = [_locked(quant) for quant in lock.quants]
    return {"lock": str(path), "key": cache_key(lock), "quants": quants}


def drift_document(path: Path, drifts: Sequence[Drift]) -> Record:
    """Return how a lock and the Hub differ as fields."""
    return {
        "lock": str(path),
        "moved": any(drift.moved for drift in drifts),
        "quants": [
            {
                "locked": _locked(drift.locked),
                "now": _locked(drift.now) if drift.now else None,
                "gone": drift.gone,
                "moved": drift.moved,
                "same_files": drift.same,
            }
            for drift in drifts
        ],
    }


def _locked(quant: LockedQuant) -> Record:
    return {
        "repo_id": quant.repo_id,
        "revision": quant.asked,
        "commit": quant.commit,
        "label": quant.label,
        "license": quant.license,
        "total_bytes": sum(file.size for file in quant.files),
        "files": [file_record(file) for file in quant.files],
    }


def _target(target: Target, fetched: Fetched | None) -> Record:
    parts = [file_record(part) for part in target.parts]
    return {
        "path": target.path,
        "bytes": target.size,
        "sha256": target.parts[0].sha256 if len(parts) == 1 else None,
        "parts": parts if len(parts) > 1 else [],
        "verified": fetched is not None and fetched.verified,
        "local_path": fetched.local_path if fetched else None,
        "reused": fetched is not None and fetched.reused,
    }
