"""Runs of the fault matrix inside this process: the library is called, by many threads at once.

To be imported once HF_ENDPOINT and the other variables are set, for quantpick and huggingface_hub
read them as they are loaded.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import replace
from random import Random
from threading import Thread
from typing import TYPE_CHECKING

import quantpick
from quantpick.domain.policy import Policy
from quantpick.domain.progress import Silent
from quantpick.errors import QuantpickError
from tests.hub import faults
from tests.hub.matrix_law import Act
from tests.hub.matrix_stage import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hub.faults import Where
    from tests.hub.matrix_plan import Run
    from tests.hub.matrix_stage import Room
    from tests.hub.matrix_verdict import Outcome, Stage

    #: Does a download: the run, the folder or None, the policy, force, and whom to tell.
    Download = Callable[[Run, Path | None, Policy, bool, Silent], object]

_WAITS = (0.05, 0.1, 0.1, 0.2)

_PATIENT = 10.0


class Notes(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


def download(run: Run, folder: Path | None, policy: Policy, force: bool, notes: Silent) -> object:  # noqa: FBT001 -- as Download has it
    """Do what a run asks for."""
    return quantpick.download(
        f"{run.shelf.repo_id}:{run.shelf.label}",
        revision=run.revision,
        local_dir=folder,
        with_mmproj="auto" if run.shelf.projector else None,
        force=force,
        policy=policy,
        progress=notes,
    )


def run_inside(run: Run, stage: Stage, hf_home: Path, do: Download = download) -> Outcome:
    """Do one run: with its faults, and again without them."""
    room = stage.room(run, hf_home)
    room.prepare()
    stage.open(run)
    if run.before in {"half", "lying half"}:
        _interrupt(run, room, stage, do)
    hasty = Policy(run.connections, run.timeout, _WAITS)
    patient = Policy(run.connections, _PATIENT, _WAITS)
    try:
        return stage.play(
            room,
            lambda: [_act(do, room, hasty, force=run.force)],
            lambda: _act(do, room, patient, force=run.before == "foreign"),
        )
    finally:
        stage.close(run)


def _interrupt(run: Run, room: Room, stage: Stage, do: Download) -> None:
    """Leave a half-finished part behind, with true bytes or with others."""
    size = len(run.shelf.wanted[run.name])
    where: Where = {"path": run.name, "server": None}
    if not run.shelf.lfs:
        where["path"] = f"resolve-cache/models/{run.shelf.repo_id}"
    stage.hub.add_fault(faults.drop(int(size * run.moment), **where))
    _act(do, room, Policy(1, _PATIENT, ()), force=False)
    stage.hub.cure(run)
    if run.before == "lying half":
        folder = room.repo_cache / "blobs" if run.cache else room.target / ".quantpick"
        for part in sorted(folder.glob("*.part")):
            data = bytearray(part.read_bytes())
            data[Random(run.pick).randrange(max(1, int(len(data) * run.moment)))] ^= 0x55
            part.write_bytes(data)


def _act(do: Download, room: Room, policy: Policy, *, force: bool) -> Act:
    """Do one download in a thread of its own, for as long as patience lasts."""
    ends: list[Act] = []
    notes = Notes()

    def work() -> None:
        folder = None if room.run.cache else room.target
        try:
            do(room.run, folder, policy, force, notes)
        except QuantpickError as error:
            ends.append(Act(error.exit_status, "\n".join([error.message, *error.hints])))
        except BaseException:  # noqa: BLE001 -- a bug, for the law to see
            ends.append(Act(1, traceback.format_exc()))
        else:
            ends.append(Act(0))

    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not ends:
        return Act(None, _where(thread), hung=True)
    return replace(ends[0], said="\n".join([*notes.lines, ends[0].said]))


def _where(thread: Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 -- the only way to see it
    return "".join(traceback.format_stack(frame)).replace("Traceback", "traceback")
