"""Memory limits of control groups: what a container, a service or a user's slice may use.

Both versions are read, from where they are mounted: version 1 can hold the memory controller with
version 2 beside it, and in a container the mount begins at the container's own group. Page cache
counts as free: the kernel takes it back, and a model that is mapped into memory is page cache.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Caveat, SourceState, State
from quantpick.domain.units import GIB, MIB, format_gib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.probes.protocol import Place

SOURCE = "cgroup"

#: The longest path that the kernel takes (PATH_MAX).
_PATH_MAX = 4096

#: The digits of 2^64.
_DIGITS = 20

_NO_LIMIT = 2**64


class Limit(NamedTuple):
    """What a group and all below it may use, in bytes, and what they use now.

    ``path`` is its folder. ``used`` leaves out what the kernel can take back at any time, and is
    None where unknown.
    """

    path: str
    size: int
    used: int | None


class Limits(NamedTuple):
    """The limits in force, the tightest first, and how reading them went."""

    limits: tuple[Limit, ...]
    state: SourceState
    caveats: tuple[Caveat, ...] = ()


class Mount(NamedTuple):
    """Where a part of the tree of groups is seen: the group it begins at, and its folder."""

    root: str
    point: str


class _Names(NamedTuple):
    """What a version of the memory controller calls its files, and the cache in memory.stat."""

    limits: tuple[str, ...]
    usage: str
    cache: frozenset[str]


#: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst. Above memory.high a group is
#: slowed down to a crawl, so it is a limit too. The sums with the groups below are called
#: total_ in version 1, and have no prefix in version 2.
_NAMES = {
    1: _Names(
        ("memory.limit_in_bytes",),
        "memory.usage_in_bytes",
        frozenset({"total_inactive_file", "total_active_file", "slab_reclaimable"}),
    ),
    2: _Names(
        ("memory.max", "memory.high"),
        "memory.current",
        frozenset({"inactive_file", "active_file", "slab_reclaimable"}),
    ),
}


class _Files:
    """Reads files of a place, and keeps in mind which must not be read."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.denied: list[str] = []

    def read(self, path: str) -> str | None:
        try:
            return self._place.read(path)
        except PermissionError:
            self.denied.append(path)
            return None


def probe_limits(place: Place, installed: int) -> Limits:
    """Read the limits on this process's group and on all above it.

    What is not below ``installed``, the memory of the machine, is no limit.
    """
    files = _Files(place)
    groups = parse_groups(files.read("/proc/self/cgroup") or "")
    if not groups:
        return _answer(files, (), there=False)
    # One version has the memory controller: version 1, where that is listed with it.
    version = min(groups)
    names = _NAMES[version]
    mounts = parse_mounts(files.read("/proc/self/mountinfo") or "", version)
    levels = [folder for mount in mounts for folder in folders(groups[version], mount)]
    sizes = {folder: _size(files, folder, names) for folder in levels}
    limits = [
        Limit(folder, size, _used(files, folder, names))
        for folder, size in sizes.items()
        if size is not None and size < installed
    ]
    shown = any(size is not None for size in sizes.values())
    there = shown or any(_is_enabled(files, mount) for mount in mounts)
    return _answer(files, sorted(limits, key=lambda limit: limit.size), there=there)


def parse_groups(text: str) -> dict[int, str]:
    """Return the group of a process by version of the controller, from /proc/PID/cgroup.

    Version 1 is there where it has the memory controller.
    """
    groups: dict[int, str] = {}
    for line in text.split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/") or len(path) > _PATH_MAX or "\0" in path:
            continue
        if "memory" in controllers.split(","):
            groups[1] = path
        elif (number, controllers) == ("0", ""):
            groups[2] = path
    return groups


def parse_mounts(text: str, version: int) -> tuple[Mount, ...]:
    """Return where a version with the memory controller is mounted, from /proc/PID/mountinfo.

    A mount hides the one before it on the same folder.
    """
    kind = "cgroup2" if version > 1 else "cgroup"
    mounts: dict[str, Mount] = {}
    for line in text.split("\n"):
        front, found, back = line.partition(f" - {kind} ")
        fields = front.split(" ")
        if not found or len(fields) < len(("id", "parent", "device", "root", "point")):
            continue
        if version > 1 or "memory" in back.rpartition(" ")[2].split(","):
            root, point = _unescaped(fields[3]), _unescaped(fields[4])
            if "\0" not in root + point:
                mounts[point] = Mount(root, point)
    return tuple(mounts.values())


def folders(group: str, mount: Mount) -> list[str]:
    """Return the folders of a group and of all above it, as far as a mount shows them."""
    own, top = _parts(group), _parts(mount.root)
    below = own[len(top) :]
    if own[: len(top)] != top:
        # Above the root of a namespace, groups have no names: only that they are above is known.
        return [mount.point] if set(top) == {".."} else []
    if ".." in below:
        return []
    return ["/".join([mount.point, *below[:depth]]) for depth in range(len(below), -1, -1)]


def parse_number(text: str) -> int | None:
    """Return a size in bytes, None for "max" and anything else."""
    text = text.strip()
    number = text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    return int(text) if number else None


def parse_cache(text: str, names: frozenset[str]) -> int:
    """Return the sum of the named rows of memory.stat, in bytes."""
    rows = (line.partition(" ") for line in text.split("\n"))
    return sum(parse_number(figure) or 0 for name, _, figure in rows if name in names)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _unescaped(field: str) -> str:
    """Return a field of mountinfo, in which spaces and the like are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _size(files: _Files, folder: str, names: _Names) -> int | None:
    """Return the tighter of the limits that a group shows, None where it shows none."""
    texts = [files.read(f"{folder}/{name}") for name in names.limits]
    # Nothing runs in no memory at all, so a zero is not in force.
    sizes = [parse_number(text) or _NO_LIMIT for text in texts if text is not None]
    return min(sizes, default=None)


def _used(files: _Files, folder: str, names: _Names) -> int | None:
    usage = files.read(f"{folder}/{names.usage}")
    stat = files.read(f"{folder}/memory.stat")
    size = parse_number(usage or "")
    if size is None or stat is None:
        return None
    return max(0, size - parse_cache(stat, names.cache))


def _is_enabled(files: _Files, mount: Mount) -> bool:
    """Whether version 2 has the memory controller; its topmost group has no limits to show."""
    return "memory" in (files.read(f"{mount.point}/cgroup.controllers") or "").split()


def _answer(files: _Files, limits: Sequence[Limit], *, there: bool) -> Limits:
    detail = f"{_format(limits[0].size)} by {limits[0].path}" if limits else "no limit"
    if files.denied:
        return _denied(files.denied[0], limits, f"; {detail}" if limits else "")
    if not there:
        return Limits((), SourceState(SOURCE, State.NOTHING, "no memory controller"))
    return Limits(tuple(limits), SourceState(SOURCE, State.OK, detail))


def _denied(path: str, limits: Sequence[Limit], detail: str) -> Limits:
    advice = "run quantpick as a user who may read it, or state the memory with --ram"
    state = SourceState(SOURCE, State.NO_PERMISSION, f"cannot read {path}{detail}", advice)
    message = f"cgroup: cannot read {path}, so there may be less RAM than is shown"
    return Limits(tuple(limits), state, (Caveat("cgroup_unreadable", message),))


def _format(size: int) -> str:
    return format_gib(size) if size >= GIB else f"{size / MIB:.1f} MiB"
