"""What a download will do, described before it is done: which files, how many bytes, from where."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.quant import parse_filename, whole_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.licence import Licence
    from quantpick.domain.listing import Listing, QuantSet, RemoteFile
    from quantpick.domain.verdict import Recommendation


class Target(NamedTuple):
    """A file on disk, and the files of the repo that make it up: one, or raw byte parts in order.

    ``path`` is relative, with the repo's folders.
    """

    path: str
    parts: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return sum(part.size for part in self.parts)

    @property
    def provable(self) -> bool:
        """Whether something is listed to prove its bytes with."""
        return all(part.digest for part in self.parts)


def targets_of(files: Sequence[RemoteFile]) -> tuple[Target, ...]:
    """Return the files on disk of one quant: raw byte parts make one, others are themselves."""
    raw = tuple(file for file in files if parse_filename(file.path).raw_part)
    joined = (Target(whole_path(raw[0].path), raw),) if raw else ()
    others = (Target(file.path, (file,)) for file in files if file not in raw)
    return (*joined, *others)


class Plan(NamedTuple):
    """The files of one quant at one commit, and the patterns that match them and nothing else.

    ``asked`` is the revision that was asked for, None for the default branch. ``files`` may end
    with a projector.
    """

    repo_id: str
    revision: str
    label: str
    files: tuple[RemoteFile, ...]
    include: tuple[str, ...]
    asked: str | None = None

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The files on disk, those of the model first."""
        return targets_of(self.files)


class Fetched(NamedTuple):
    """One file on disk. ``verified`` is False only where nothing is listed to prove it with.

    ``reused`` marks a file that was there already and needed no transfer.
    """

    target: Target
    local_path: str
    verified: bool
    reused: bool


class Download(NamedTuple):
    """What a download did, or would do: ``files`` is empty for a dry run.

    ``local_dir`` is None for a download into the cache. ``notice`` and ``receipt`` are the paths of
    what is written beside the files. ``recommendation`` is set where the quant was picked
    (``:auto``).
    """

    plan: Plan
    local_dir: str | None
    licence: Licence
    dry_run: bool
    files: tuple[Fetched, ...] = ()
    notice: str | None = None
    receipt: str | None = None
    base_model: str | None = None
    recommendation: Recommendation | None = None


def plan_download(listing: Listing, quant: QuantSet) -> Plan:
    """Describe the download of one quant of a listing."""
    return Plan(
        repo_id=listing.repo_id,
        revision=listing.revision,
        label=quant.label,
        files=quant.files,
        include=include_patterns(quant, [file.path for file in listing.files]),
    )


def include_patterns(quant: QuantSet, listed: list[str]) -> tuple[str, ...]:
    """Return the shortest patterns that match the quant's files and no other listed file.

    Patterns are those of `hf download --include`: fnmatch, case-sensitive, ``*`` crosses ``/``.
    The shards of a folder of their own need one pattern; otherwise each file is named.
    """
    wanted = {file.path for file in quant.files}
    folder = quant.files[0].path.rpartition("/")[0]
    pattern = f"{literal_pattern(folder)}/*"
    if folder and {path for path in listed if fnmatchcase(path, pattern)} == wanted:
        return (pattern,)
    return tuple(literal_pattern(file.path) for file in quant.files)


def literal_pattern(path: str) -> str:
    """Return the pattern that matches a path and nothing else."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)
