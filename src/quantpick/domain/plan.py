"""What a download will do, described before it is done: which files, how many bytes, from where."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from quantpick.domain.licence import Licence
    from quantpick.domain.listing import Listing, QuantSet, RemoteFile
    from quantpick.domain.verdict import Recommendation


class Plan(NamedTuple):
    """The files of one quant at one commit, and the patterns that match them and nothing else."""

    repo_id: str
    revision: str
    label: str
    files: tuple[RemoteFile, ...]
    include: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)


class Fetched(NamedTuple):
    """One file on disk. ``verified`` is False only where the Hub lists no sha256 for it.

    ``reused`` marks a file that was there already and needed no transfer.
    """

    file: RemoteFile
    local_path: str
    verified: bool
    reused: bool


class Download(NamedTuple):
    """What a download did, or would do: ``files`` is empty for a dry run.

    ``local_dir`` is None for a download into the cache. ``notice`` is the path of the licence
    notice. ``recommendation`` is set where the quant was picked (``:auto``).
    """

    plan: Plan
    local_dir: str | None
    licence: Licence
    dry_run: bool
    files: tuple[Fetched, ...] = ()
    notice: str | None = None
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
    pattern = f"{_literal(folder)}/*"
    if folder and {path for path in listed if fnmatchcase(path, pattern)} == wanted:
        return (pattern,)
    return tuple(_literal(file.path) for file in quant.files)


def _literal(path: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)
