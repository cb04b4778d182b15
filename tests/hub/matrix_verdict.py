"""How a run of the fault matrix comes out: its two acts held to the law; the summary of all."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.hub.matrix_stage import MatrixHub, Room

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.hub.matrix_law import Act
    from tests.hub.matrix_plan import Run


class Outcome(NamedTuple):
    """What came of a run.

    ``first`` has the exit statuses of the act with the faults, None for one that was killed, and
    ``second`` that of the act without; ``broken`` is what was broken of the law.
    """

    number: int
    way: str
    first: list[int | None]
    second: int | None
    broken: list[str]
    said: list[str]
    seconds: float
    skipped: str | None = None


@dataclass(frozen=True)
class Stage:
    """What a run is done on: the Hub, another host, and a folder on the disk."""

    hub: MatrixHub
    stranger: MatrixHub
    base: Path

    def open(self, run: Run) -> None:
        """Show the run's repo on the hosts that it meets."""
        self.hub.publish(run)
        if run.goes_elsewhere:
            self.stranger.publish(run)

    def close(self, run: Run) -> None:
        """Take it away again."""
        self.hub.forget(run)
        self.stranger.forget(run)

    def room(self, run: Run, hf_home: Path | None = None) -> Room:
        """Return the run's place on the disk; it has an HF_HOME of its own or shares one."""
        root = self.base / "rooms" / f"{run.number:04d}"
        hub_cache = (hf_home or root / "hf") / "hub"
        return Room(run, root, hub_cache / f"models--{run.shelf.repo_id.replace('/', '--')}")

    def play(
        self, room: Room, first: Callable[[], list[Act]], second: Callable[[], Act]
    ) -> Outcome:
        """Do both acts and hold each to the law; the second without anything going wrong."""
        run, since, hubs = room.run, time.monotonic(), (self.hub, self.stranger)
        stopped = run.way == "stopped"
        before = room.tree()
        self.hub.arm(run, self.stranger.endpoint)
        acts = first()
        after = room.tree()
        promise = room.promise(force=run.force, stopped=stopped)
        found = [f"first act: {text}" for text in room.judge(promise, before, after, acts, hubs)]
        self.hub.cure(run)
        last = second()
        promise = room.promise(force=run.before == "foreign", stopped=False)
        held = room.judge(promise, after, room.tree(), [last], hubs)
        if run.curable and last.status != 0:
            held.append(f"ended with {last.status} though nothing went wrong: {last.said[-2000:]}")
        return Outcome(
            number=run.number,
            way=run.way,
            first=[act.status for act in acts],
            second=last.status,
            broken=[*found, *(f"second act: {text}" for text in held)],
            said=[act.said for act in (*acts, last)],
            seconds=time.monotonic() - since,
        )


def summary(seed: str, outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the size of the matrix and what came of it, in one line, and why runs were skipped."""
    done = [one for one in outcomes if one.skipped is None]
    ends = Counter(status for one in done for status in one.first[:1] if None not in one.first)
    killed = sum(1 for one in done if None in one.first)
    resumed = sum(1 for one in done if None in one.first and one.second == 0)
    refused = sorted((status, n) for status, n in ends.items() if status)
    by_status = ", ".join(f"{status}: {count}" for status, count in refused)
    ways = ", ".join(f"{count} {way}" for way, count in Counter(one.way for one in done).items())
    said = (
        f"fault matrix: seed {seed}, {len(done)} runs ({ways}) in {seconds:.0f} s: {ends[0]} right "
        f"bytes, {sum(n for _, n in refused)} refused ({by_status}), {killed} killed, {resumed} of "
        f"them resumed; without the faults {sum(one.second == 0 for one in done)} right bytes; "
        f"{sum(bool(one.broken) for one in done)} broke the law"
    )
    skipped = Counter(one.skipped for one in outcomes if one.skipped)
    return said + "".join(f"; {count} skipped: {reason}" for reason, count in skipped.items())
