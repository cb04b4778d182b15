"""Text about files: what a check found, what a lock holds, and how it differs from the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantpick.domain.names import printable
from quantpick.domain.units import format_gb
from quantpick.domain.verification import State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from quantpick.domain.lock import Drift, Lock
    from quantpick.domain.plan import Download
    from quantpick.domain.verification import Checked, Verification


def print_paths(results: Iterable[Download]) -> None:
    """Print the file to run of each download: the first shard of a set."""
    for result in results:
        print(result.files[0].local_path if result.files else result.plan.targets[0].path)


def print_verification(found: Verification) -> None:
    """Print one line a file."""
    for file in found.files:
        print(printable(_checked(file)))


def print_lock(path: Path, lock: Lock) -> None:
    """Print what a lock holds now."""
    for quant in lock.quants:
        total = sum(file.size for file in quant.files)
        count = f"{len(quant.files)} file{'s' if len(quant.files) > 1 else ''}"
        print(f"{quant.spec}  commit {quant.commit[:12]}  {count}  {format_gb(total)}")
    print(f"written: {path}")


def print_drifts(drifts: Iterable[Drift]) -> None:
    """Print one line a locked quant: whether the Hub still has it, and has it like that."""
    for drift in drifts:
        print(printable(f"{drift.locked.spec}  {_drift(drift)}"))


def _checked(file: Checked) -> str:
    if file.state is State.OK:
        return f"{file.path}  ok: {format_gb(file.size)} as in {file.against}"
    if file.state is State.MISSING:
        return f"{file.path}  missing, though in {file.against}"
    if file.state is State.UNPROVEN:
        return f"{file.path}  unproven: whole by its header, but nothing says what it should be"
    against = f" (against {file.against})" if file.against else ""
    return f"{file.path}  WRONG: {file.fault}{against}"


def _drift(drift: Drift) -> str:
    if drift.now is None:
        return f"GONE: {drift.gone}"
    if not drift.moved:
        return "unchanged"
    commits = f"from {drift.locked.commit[:12]} to {drift.now.commit[:12]}"
    if drift.same:
        return f"moved {commits}, with the same files"
    return f"CHANGED {commits}"
