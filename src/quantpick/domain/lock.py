"""What a project has settled on: quants at one commit with the digest of every file.

A Lock says all that a download has to know, so that nobody need ask the Hub what a branch means
today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from quantpick.domain.file_record import file_of, file_record, text
from quantpick.domain.names import is_sha1, printable
from quantpick.domain.plan import Plan, literal_pattern
from quantpick.domain.quant import matching_labels
from quantpick.domain.spec import is_repo_id, is_revision
from quantpick.errors import LockError

if TYPE_CHECKING:
    from quantpick.domain.listing import RemoteFile
    from quantpick.domain.spec import Spec

#: Raised when a lock that is read today would mean something else.
VERSION = 1

#: The lock's usual name.
LOCK_NAME = "quantpick.lock"

_OPTIONS = ("path", "mmproj", "license", "base_model")


class LockedQuant(NamedTuple):
    """One quant as it was when it was locked.

    ``asked`` is the revision that was asked for (None: the default branch), ``path`` the file
    (None: it was asked for by label) and ``mmproj`` the projector (None: none), so that the same
    can be asked for again.
    """

    repo_id: str
    commit: str
    label: str
    files: tuple[RemoteFile, ...]
    asked: str | None = None
    path: str | None = None
    mmproj: str | None = None
    license: str | None = None
    base_model: str | None = None

    @property
    def spec(self) -> str:
        """What to ask for to lock it anew."""
        revision = f"@{self.asked}" if self.asked else ""
        return f"{self.repo_id}{revision}:{self.path or self.label}"

    def plan(self) -> Plan:
        """Describe its download."""
        include = tuple(literal_pattern(file.path) for file in self.files)
        # Asked for by its commit: what a branch means today is none of a lock's business.
        return Plan(self.repo_id, self.commit, self.label, self.files, include, self.commit)


class Lock(NamedTuple):
    """The locked quants, in the order they were asked for."""

    quants: tuple[LockedQuant, ...]


class Drift(NamedTuple):
    """How a locked quant and the Hub differ today.

    ``now`` is None where the Hub has the quant no more, and ``gone`` then says why. The files may
    be ``same`` although the commit is another.
    """

    locked: LockedQuant
    now: LockedQuant | None
    gone: str | None = None

    @property
    def same(self) -> bool:
        """Whether the files are the locked ones."""
        return self.now is not None and self.now.files == self.locked.files

    @property
    def moved(self) -> bool:
        """Whether locking anew would write something else."""
        return not self.same or self.now is None or self.now.commit != self.locked.commit


def cache_key(lock: Lock) -> str:
    """Return a key for a cache of the locked files: the same for the same bytes and names."""
    # Loaded here: the other commands, and help, do without it.
    import hashlib

    lines = sorted(
        f"{quant.repo_id} {file.path} {file.size} {file.digest}"
        for quant in lock.quants
        for file in quant.files
    )
    return f"quantpick-{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:32]}"


def lock_record(lock: Lock) -> dict[str, Any]:
    """Return a lock as the tables of its TOML file."""
    return {"version": VERSION, "quant": [_quant_record(quant) for quant in lock.quants]}


def lock_of(record: dict[str, Any], name: str) -> Lock:
    """Return the lock of a TOML file's tables; ``name`` is for messages. Raises LockError."""
    if record.get("version") != VERSION:
        raise LockError(
            f"{name} has version {record.get('version')!r}, where {VERSION} is known",
            "move it away, then write it anew: quantpick lock SPEC",
        )
    try:
        quants = tuple(_quant_of(entry) for entry in record["quant"])
    except (TypeError, LookupError, ValueError) as error:
        raise LockError(
            f"{name} is no lock that can be trusted: {printable(str(error))}",
            "move it away, then write it anew: quantpick lock SPEC",
        ) from error
    return Lock(quants)


def find_locked(lock: Lock, spec: Spec, repo_id: str, name: str) -> list[LockedQuant]:
    """Return the locked quants that a SPEC stands for; ``repo_id`` is its repo.

    Raises LockError where there is none.
    """
    mine = [quant for quant in lock.quants if quant.repo_id == repo_id]
    if spec.revision is not None:
        mine = [quant for quant in mine if spec.revision in {quant.asked, quant.commit}]
    if spec.file is not None:
        mine = [quant for quant in mine if any(file.path == spec.file for file in quant.files)]
    elif spec.label is not None:
        labels = matching_labels(spec.label, [quant.label for quant in mine])
        mine = [quant for quant in mine if quant.label in labels]
    if not mine:
        raise LockError(
            f"{name} does not lock {repo_id}:{spec.file or spec.label}",
            f"it locks {', '.join(quant.spec for quant in lock.quants) or 'nothing'}",
        )
    return mine


def _quant_record(quant: LockedQuant) -> dict[str, Any]:
    about = {
        "repo": quant.repo_id,
        "revision": quant.asked,
        "commit": quant.commit,
        "label": quant.label,
        **{key: getattr(quant, key) for key in _OPTIONS},
    }
    known = {key: value for key, value in about.items() if value is not None}
    return {**known, "file": [file_record(file) for file in quant.files]}


def _quant_of(entry: dict[str, Any]) -> LockedQuant:
    repo_id, commit = entry["repo"], entry["commit"]
    if not is_repo_id(repo_id):
        raise ValueError(f"{repo_id!r} is no OWNER/REPO")
    if not is_sha1(commit):
        raise ValueError(f"{commit!r} is no commit")
    files = tuple(file_of(row) for row in entry["file"])
    if not files or not all(file.digest for file in files):
        raise ValueError(f"{repo_id} has a file without a digest, or none")
    if len({file.path for file in files}) < len(files):
        raise ValueError(f"{repo_id} has a file twice")
    given = {key: text(entry[key]) for key in ("revision", *_OPTIONS) if key in entry}
    asked = given.pop("revision", None)
    if asked is not None and not is_revision(asked):
        raise ValueError(f"{asked!r} is no revision")
    return LockedQuant(repo_id, commit, text(entry["label"]), files, asked, **given)
