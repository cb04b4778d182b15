"""The stage of a run of the fault matrix: what is on the Hub, on its CDN, elsewhere and on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.hub import faults
from tests.hub.loopback import LoopbackHub
from tests.hub.matrix_law import (
    DOCUMENTED,
    TOKEN,
    Act,
    Promise,
    Tree,
    broken,
    false_receipts,
    talkative_files,
    tree_of,
)
from tests.hub.matrix_plan import COMMIT, foreign_bytes
from tests.hub.matrix_troubles import addressed
from tests.hub.protocol import Repo

if TYPE_CHECKING:
    from _collections_abc import dict_values
    from pathlib import Path

    from tests.hub.matrix_plan import Run

#: Seconds that one act may take; more is a hang.
PATIENCE = 60.0


class _Repos(dict[str, Repo]):
    """Repos that may be added and taken away while requests are answered."""

    def values(self) -> dict_values[str, Repo]:
        return dict(self).values()


class MatrixHub(LoopbackHub):
    """A Hub on loopback that many runs share; each repo has its own faults."""

    def __init__(self, page_size: int) -> None:
        super().__init__(TOKEN, page_size)
        self.answers.repos = _Repos()

    def publish(self, run: Run) -> None:
        """Show the repo of a run."""
        self.add_repo(
            run.shelf.repo_id,
            run.published,
            sha=COMMIT,
            gated=run.repo == "gated",
            no_blobs=run.no_blobs,
            claims=run.claims,
        )
        if run.repo == "replaced":
            self.replace_bytes(run.shelf.repo_id, run.name, run.other_bytes)

    def arm(self, run: Run, elsewhere: str) -> None:
        """Have a run meet its faults."""
        for fault in run.faults:
            self.add_fault(addressed(fault, elsewhere))
        if run.pace:
            rate = max(20_000, int(run.size / run.pace))
            self.add_fault(faults.slow(rate, path=run.shelf.mark, server=None))

    def cure(self, run: Run) -> None:
        """End all that goes wrong for a run, as far as it can be ended."""
        self._disarm(run)
        if run.repo == "replaced":
            self.replace_bytes(run.shelf.repo_id, run.name, run.shelf.wanted[run.name])

    def forget(self, run: Run) -> None:
        """Take a repo away, to have its memory back."""
        self._disarm(run)
        self.answers.repos.pop(run.shelf.repo_id, None)

    def _disarm(self, run: Run) -> None:
        mark = run.shelf.mark
        with self._lock:
            self._armed = [armed for armed in self._armed if mark not in armed.fault.path]

    def told_strangers(self, run: Run, *, all_servers: bool) -> list[str]:
        """Return where the token was sent that should not have it."""
        return [
            f"sent the token to {entry.server} for {entry.path}"
            for entry in list(self.log)
            if entry.authorization is not None
            and run.shelf.mark in unquote(entry.path)
            and (all_servers or entry.server == "cdn")
        ]


@dataclass(frozen=True)
class Room:
    """Where on the disk a run takes place: it may write to the target and to the Hub cache."""

    run: Run
    root: Path
    repo_cache: Path

    @property
    def target(self) -> Path:
        """The folder to write to."""
        return self.root / "target"

    @property
    def cache_prefix(self) -> str:
        """Where the cache of the repo is, in the words of the law."""
        return f"hf/hub/{self.repo_cache.name}/"

    def place(self, path: str) -> str:
        """Return where a file of the quant belongs, in the words of the law."""
        folder = f"{self.cache_prefix}snapshots/{COMMIT}" if self.run.cache else "target"
        return f"{folder}/{path}"

    def tree(self) -> Tree:
        """Return what is on the disk."""
        return {**tree_of(self.root), **tree_of(self.repo_cache, self.cache_prefix)}

    def prepare(self) -> None:
        """Put there what was there before: files of other owners, and what the run is to find."""
        run, right = self.run, self.run.shelf.finals[self.run.final]
        _write(self.root / "beside.txt", b"not in the target")
        _write(self.target / "notes.txt", b"a user's own file")
        _write(self.repo_cache / "blobs" / "0000", b"another program's blob")
        if not run.cache:
            found = {"right": right, "foreign": foreign_bytes(run)}.get(run.before)
            if found is not None:
                _write(self.target / run.final, found)
        elif run.before in {"right", "wrong blob", "wrong link"} and run.shelf.lfs:
            self._prepare_cache(right)

    def _prepare_cache(self, right: bytes) -> None:
        run = self.run
        blob = self.repo_cache / "blobs" / run.shelf.listed[run.final]
        shown = self.repo_cache / "snapshots" / COMMIT / run.final
        _write(blob, run.other_bytes if run.before == "wrong blob" else right)
        if run.before == "wrong link":
            # Links have been followed by whoever copied the cache, or lead to another's blob.
            blob = blob.with_name(hashlib.sha256(run.other_bytes).hexdigest())
            if run.pick % 2:
                _write(shown, run.other_bytes)
                return
            _write(blob, run.other_bytes)
        shown.parent.mkdir(parents=True)
        shown.symlink_to(blob)

    def promise(self, *, force: bool, stopped: bool) -> Promise:
        """Return what the run is held to."""
        run = self.run
        listed = {self.place(path): sha for path, sha in run.listed.items()}
        whole = len(listed) == len(run.shelf.finals)
        replaceable = {self.place(run.final)} if run.before == "wrong link" or force else set()
        if run.before == "wrong blob":
            blob = f"{self.cache_prefix}blobs/{run.shelf.listed.get(run.final)}"
            replaceable = {self.place(run.final), blob}
        usage = {2} if run.cache and not run.shelf.lfs else set()
        stop = {130} if stopped else set()
        return Promise(
            listed=listed,
            wanted=frozenset(listed) if whole else frozenset(),
            commit=COMMIT,
            replaceable=frozenset(replaceable),
            statuses=(DOCUMENTED - {2, 4, 9, 130}) | usage | stop,
        )

    def judge(
        self,
        promise: Promise,
        before: Tree,
        after: Tree,
        acts: list[Act],
        hubs: tuple[MatrixHub, MatrixHub],
    ) -> list[str]:
        """Return what acts have broken of the law: on the disk, in words, and on the network."""
        hub, stranger = hubs
        found = broken(promise, before, after, acts)
        found += talkative_files(self.root)
        found += false_receipts(self.target, self.run.digests)
        found += hub.told_strangers(self.run, all_servers=False)
        return found + stranger.told_strangers(self.run, all_servers=True)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
