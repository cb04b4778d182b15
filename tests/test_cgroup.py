"""What control groups leave of a machine's memory: containers, services and users' slices."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Cut, State
from quantpick.probes import cgroup
from quantpick.probes.cgroup import Mount, folders
from quantpick.probes.protocol import Place
from quantpick.probes.ram import RamAnswer, probe_ram
from quantpick.probes.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB, GIB = 2**20, 2**30
TOTAL, AVAILABLE = 64 * GIB, 60 * GIB

V1_NONE = 9223372036854771712
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V1_OTHERS = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
)
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"


class Tree(NamedTuple):
    """A machine with 64 GiB of memory, 60 of it available, and 8 GiB of swap."""

    root: Path

    def write(self, path: str, text: str | bytes) -> None:
        """Write a file of the machine."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def process(self, group: str | bytes, mountinfo: str | bytes) -> None:
        """Write what tells a process of its group and of mounts."""
        self.write("/proc/self/cgroup", group)
        self.write("/proc/self/mountinfo", mountinfo)

    def v1(self, path: str, limit: int, usage: int = 0, stat: str = "") -> None:
        """Make a group of version 1."""
        folder = f"/sys/fs/cgroup/memory{path}"
        self.write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        self.write(f"{folder}/memory.usage_in_bytes", f"{usage}\n")
        self.write(f"{folder}/memory.stat", stat)

    def v2(self, path: str, limit: int | str, usage: int = 0, **stat: int) -> None:
        """Make a group of version 2."""
        folder = f"/sys/fs/cgroup{path}"
        self.write(f"{folder}/memory.max", f"{limit}\n")
        self.write(f"{folder}/memory.high", "max\n")
        self.write(f"{folder}/memory.current", f"{usage}\n")
        self.write(f"{folder}/memory.stat", "".join(f"{k} {v}\n" for k, v in stat.items()))

    def probe(self) -> RamAnswer:
        """Read the machine's memory."""
        return probe_ram(Place(self.root, {}, run, "linux"))

    def sizes(self) -> tuple[int, int | None]:
        """Return the memory that programs can have, and have now."""
        return self.probe().ram[:2]


def tree_in(root: Path) -> Tree:
    """Return a machine without control groups."""
    tree = Tree(root)
    table = {"MemTotal": TOTAL, "MemFree": GIB, "MemAvailable": AVAILABLE}
    table |= {"SwapTotal": 8 * GIB, "SwapFree": 8 * GIB}
    rows = [f"{name}: {size // 1024} kB\n" for name, size in table.items()]
    tree.write("/proc/meminfo", "".join(rows))
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a machine without control groups."""
    return tree_in(tmp_path)


def states(answer: RamAnswer) -> dict[str, tuple[State, str]]:
    """Return how each source answered."""
    return {state.source: (state.state, state.detail) for state in answer.states}


# Where the limit is


def test_a_limit_of_version_1_is_all_there_is(tree: Tree) -> None:
    tree.process("4:memory:/docker/1\n3:cpuset:/\n0::/\n", V1_OTHERS + V1 + V2_UNIFIED)
    tree.v1("", V1_NONE)
    tree.v1("/docker/1", 512 * MIB, 100 * MIB)
    tree.write("/sys/fs/cgroup/cpu/docker/1/memory.limit_in_bytes", "1000000")
    answer = tree.probe()
    path = "/sys/fs/cgroup/memory/docker/1"
    cut = Cut("cgroup", TOTAL - 512 * MIB, f"limit of the container or service (cgroup {path})")
    source = f"{tree.root / 'proc/meminfo'} and cgroup"
    assert answer.ram == (512 * MIB, 412 * MIB, source, TOTAL, (cut,))
    assert states(answer)["cgroup"] == (State.OK, f"512.0 MiB by {path}")
    assert answer.caveats == ()


def test_a_limit_of_version_2_is_all_there_is(tree: Tree) -> None:
    tree.process("0::/system.slice/llama.service\n", V2)
    tree.v2("/system.slice/llama.service", 8 * GIB, 3 * GIB)
    answer = tree.probe()
    assert answer.ram[:2] == (8 * GIB, 5 * GIB)
    path = "/sys/fs/cgroup/system.slice/llama.service"
    assert states(answer)["cgroup"] == (State.OK, f"8.0 GiB by {path}")


@pytest.mark.parametrize(
    ("most", "high", "total"),
    [
        (8 * GIB, 6 * GIB, 6 * GIB),
        ("max", 6 * GIB, 6 * GIB),
        (5 * GIB, 6 * GIB, 5 * GIB),
        (5 * GIB, "max", 5 * GIB),
    ],
)
def test_the_tighter_of_max_and_high_counts(
    most: int | str, high: int | str, total: int, tree: Tree
) -> None:
    tree.process("0::/a\n", V2)
    tree.v2("/a", most, GIB)
    tree.write("/sys/fs/cgroup/a/memory.high", f"{high}\n")
    assert tree.sizes() == (total, total - GIB)


@pytest.mark.parametrize("tight", ["", "/user.slice", "/user.slice/user-1000.slice"])
def test_the_limit_of_any_group_above_counts(tight: str, tree: Tree) -> None:
    own = "/user.slice/user-1000.slice"
    tree.process(f"0::{own}\n", V2)
    for path in ("", "/user.slice", own):
        tree.v2(path, 4 * GIB if path == tight else 16 * GIB, GIB)
    answer = tree.probe()
    assert answer.ram[:2] == (4 * GIB, 3 * GIB)
    assert states(answer)["cgroup"] == (State.OK, f"4.0 GiB by /sys/fs/cgroup{tight}")


def test_a_wide_group_above_that_is_nearly_full_leaves_little(tree: Tree) -> None:
    tree.process("7:memory:/a/b\n", V1)
    tree.v1("/a", 32 * GIB, 31 * GIB)
    tree.v1("/a/b", 8 * GIB, 2 * GIB)
    assert tree.sizes() == (8 * GIB, GIB)


def test_groups_beside_the_own_do_not_count(tree: Tree) -> None:
    tree.process("0::/a/b\n", V2)
    tree.v2("/a", 32 * GIB)
    for path in ("/a/b/c", "/a/c", "/b"):
        tree.v2(path, GIB)
    assert tree.sizes() == (32 * GIB, 32 * GIB)


def test_the_controller_can_be_on_version_1_with_version_2_beside_it(tree: Tree) -> None:
    tree.process("4:cpu,memory:/a\n0::/b\n", V2_UNIFIED + V1.replace("memory\n", "cpu,memory\n"))
    tree.v1("/a", GIB)
    tree.v2("/unified/b", 2 * GIB)
    assert tree.sizes() == (GIB, GIB)


@pytest.mark.parametrize(
    ("group", "root"),
    [("/", "/"), ("/docker/1", "/docker/1"), ("/", "/.."), ("/../1", "/..")],
    ids=["own namespace", "the host's names", "mounted from above", "moved beside"],
)
def test_in_a_container_the_mount_begins_at_its_group(group: str, root: str, tree: Tree) -> None:
    tree.process(f"9:memory:{group}\n", V1.replace(" / ", f" {root} "))
    tree.v1("", GIB, 256 * MIB)
    assert tree.sizes() == (GIB, 768 * MIB)


def test_a_group_in_a_container_is_found_below_the_mount(tree: Tree) -> None:
    tree.process("0::/kubepods/pod1/c1/worker\n", V2.replace(" / ", " /kubepods/pod1/c1 "))
    tree.v2("", 16 * GIB)
    tree.v2("/worker", 2 * GIB)
    assert tree.sizes() == (2 * GIB, 2 * GIB)


def test_the_mount_can_be_anywhere(tree: Tree) -> None:
    tree.process("3:memory:/my group\n", V1.replace("/sys/fs/cgroup/memory", r"/mnt/a\040b"))
    tree.write("/mnt/a b/my group/memory.limit_in_bytes", f"{GIB}")
    assert tree.sizes() == (GIB, None)


@pytest.mark.parametrize(
    ("group", "root"),
    [("/../../other", "/"), ("/docker/2", "/docker/1"), ("/docker/10", "/docker/1")],
)
def test_a_mount_of_other_groups_tells_nothing(group: str, root: str, tree: Tree) -> None:
    tree.process(f"4:memory:{group}\n", V1.replace(" / ", f" {root} "))
    tree.v1("", GIB)
    tree.write("/sys/fs/other/memory.limit_in_bytes", "1000000")
    answer = tree.probe()
    assert answer.ram[:2] == (TOTAL, AVAILABLE)
    assert states(answer)["cgroup"] == (State.NOTHING, "no memory controller")


def test_a_mount_hides_the_one_below_it(tree: Tree) -> None:
    tree.process("4:memory:/a/b\n", V1.replace(" / ", " /a ") + V1)
    tree.v1("/b", GIB)
    tree.v1("/a/b", 2 * GIB)
    assert tree.sizes() == (2 * GIB, 2 * GIB)


# What is used


def test_page_cache_is_not_used_memory_in_version_2(tree: Tree) -> None:
    tree.process("0::/a\n", V2)
    cache = {"inactive_file": 4 * GIB, "active_file": 2 * GIB, "slab_reclaimable": GIB}
    tree.v2("/a", 8 * GIB, 8 * GIB, anon=GIB, shmem=GIB, file=6 * GIB, **cache)
    assert tree.sizes() == (8 * GIB, 7 * GIB)


def test_page_cache_is_not_used_memory_in_version_1(tree: Tree) -> None:
    tree.process("4:memory:/a\n", V1)
    own = f"inactive_file {GIB}\nactive_file {GIB}\n"
    sums = f"total_inactive_file {4 * GIB}\ntotal_active_file {2 * GIB}\nslab_reclaimable {GIB}\n"
    tree.v1("/a", 8 * GIB, 8 * GIB, f"cache 5\n{own}total_cache {7 * GIB}\n{sums}")
    assert tree.sizes() == (8 * GIB, 7 * GIB)


def test_swap_and_its_limits_do_not_count(tree: Tree) -> None:
    tree.process("0::/a\n", V2)
    tree.v2("/a", 8 * GIB, GIB, anon=GIB, swapcached=GIB)
    tree.write("/sys/fs/cgroup/a/memory.swap.max", f"{4 * GIB}\n")
    tree.write("/sys/fs/cgroup/a/memory.swap.current", f"{GIB}\n")
    assert tree.sizes() == (8 * GIB, 7 * GIB)


def test_what_the_machine_has_left_bounds_what_the_group_has_left(tree: Tree) -> None:
    tree.process("0::/a\n", V2)
    tree.v2("/a", 62 * GIB, 0)
    assert tree.sizes() == (62 * GIB, AVAILABLE)


@pytest.mark.parametrize(("usage", "available"), [(9 * GIB, 0), (GIB, 8 * GIB)])
def test_available_memory_is_between_nothing_and_all(
    usage: int, available: int, tree: Tree
) -> None:
    tree.process("0::/a\n", V2)
    tree.v2("/a", 8 * GIB, usage, inactive_file=2 * GIB if usage == GIB else 0)
    assert tree.sizes() == (8 * GIB, available)


@pytest.mark.parametrize("name", ["memory.current", "memory.stat"])
def test_available_memory_is_unknown_where_the_used_is(name: str, tree: Tree) -> None:
    tree.process("0::/a\n", V2)
    tree.v2("/a", 8 * GIB)
    (tree.root / "sys/fs/cgroup/a" / name).unlink()
    assert tree.sizes() == (8 * GIB, None)


# No limit, no figure


@pytest.mark.parametrize("limit", [V1_NONE, 9223372036854710272, TOTAL, 10**30, 0])
def test_a_figure_that_limits_nothing_is_no_limit(limit: int, tree: Tree) -> None:
    tree.process("4:memory:/a\n", V1)
    tree.v1("/a", limit, 70 * GIB)
    answer = tree.probe()
    assert answer.ram == (TOTAL, AVAILABLE, str(tree.root / "proc/meminfo"), None, ())
    assert states(answer)["cgroup"] == (State.OK, "no limit")


@pytest.mark.parametrize("text", ["max\n", "", "-1\n", "1e9\n", "0x10\n", "٤٢\n", "9" * 5000])
def test_a_limit_that_is_no_number_is_no_limit(text: str, tree: Tree) -> None:
    tree.process("0::/a\n", V2)
    tree.v2("/a", text, GIB)
    assert tree.sizes() == (TOTAL, AVAILABLE)


@pytest.mark.parametrize(
    ("controllers", "expected"),
    [
        ("cpu io memory pids\n", (State.OK, "no limit")),
        ("cpu io pids\n", (State.NOTHING, "no memory controller")),
        (None, (State.NOTHING, "no memory controller")),
    ],
)
def test_the_topmost_group_of_version_2_has_no_limit(
    controllers: str | None, expected: tuple[State, str], tree: Tree
) -> None:
    tree.process("0::/\n", V2)
    if controllers is not None:
        tree.write("/sys/fs/cgroup/cgroup.controllers", controllers)
    answer = tree.probe()
    assert answer.ram[:2] == (TOTAL, AVAILABLE)
    assert states(answer)["cgroup"] == expected


@pytest.mark.parametrize(
    ("group", "mounts"),
    [("", V2), ("0::/a\n", ""), ("0::/a\0\n", V2), ("0::/a\n", V2.replace("/sys", r"\000"))],
)
def test_without_control_groups_there_is_none_to_tell(group: str, mounts: str, tree: Tree) -> None:
    tree.v2("/a", GIB)
    tree.process(group, mounts)
    answer = tree.probe()
    assert answer.ram == (TOTAL, AVAILABLE, str(tree.root / "proc/meminfo"), None, ())
    assert states(answer)["cgroup"] == (State.NOTHING, "no memory controller")


@contextmanager
def nobody(root: Path) -> Iterator[None]:
    """Be a user who may not read everything, and who owns a folder."""
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    for path in (root, *root.rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="files have POSIX permissions elsewhere")
@pytest.mark.parametrize(
    ("secret", "total"),
    [
        ("/sys/fs/cgroup/a/memory.max", 8 * GIB),
        ("/sys/fs/cgroup/a/memory.stat", 4 * GIB),
        ("/proc/self/cgroup", TOTAL),
        ("/proc/self/mountinfo", TOTAL),
    ],
)
def test_a_file_that_must_not_be_read_is_told_and_skipped(secret: str, total: int) -> None:
    # Not below the folder of other tests, which only the user who runs them may enter.
    with tempfile.TemporaryDirectory() as folder:
        tree = tree_in(Path(folder))
        tree.process("0::/a\n", V2)
        tree.v2("", 8 * GIB)
        tree.v2("/a", 4 * GIB)
        tree.write("/proc/sys/kernel/osrelease", "6.1.0")
        for path in (secret, "/proc/sys/kernel/osrelease"):
            (tree.root / path.lstrip("/")).chmod(0)
        with nobody(tree.root):
            answer = tree.probe()
    assert answer.ram.total == total
    state = answer.states[1]
    assert (state.source, state.state) == ("cgroup", State.NO_PERMISSION)
    assert state.detail.startswith(f"cannot read {secret}")
    assert ("GiB by" in state.detail) == (total < TOTAL)
    assert "--ram" in state.advice
    (caveat,) = answer.caveats
    assert caveat.code == "cgroup_unreadable"
    assert secret in caveat.message


# Garbage

LINES = ["0::", "4:memory:", " - cgroup ", " - cgroup2 ", "memory", "\n", " ", "inactive_file"]
WORDS = ["/", "/..", "/a", "\\000", "\\777", "\\040", "\0", "max", "1", "9" * 30, "-", "é"]


@example("/" * 2**20)
@example("4:memory:/a/b\n1 2 3 / /c rw - cgroup none rw,memory")
@example("4:memory:/" + "a/" * 2**19)
@example("1" * 2**20)
@example(" - cgroup2 " * 2**16)
@example("\\040" * 2**18)
@given(st.one_of(st.text(), st.lists(st.sampled_from(LINES + WORDS)).map("".join)))
def test_parsers_take_any_text(text: str) -> None:
    groups = cgroup.parse_groups(text)
    assert set(groups) <= {1, 2}
    assert all(len(path) <= 4096 for path in groups.values())
    mounts = [*cgroup.parse_mounts(text, 1), *cgroup.parse_mounts(text, 2), Mount(text, "/m")]
    for group in groups.values():
        for mount in mounts:
            assert all(folder.startswith(mount.point) for folder in folders(group, mount))
    assert (cgroup.parse_number(text) or 0) >= 0
    assert cgroup.parse_cache(text, frozenset({"inactive_file"})) >= 0


@given(st.lists(st.from_regex(r"[a-z.\- ]*[a-z]", fullmatch=True)), st.integers(0, 5))
def test_the_folders_go_from_the_own_group_up_to_the_mount(names: list[str], cut: int) -> None:
    root, below = names[:cut], names[cut:]
    found = folders("/" + "/".join(names), Mount("/" + "/".join(root), "/m"))
    assert found[0] == "/".join(["/m", *below])
    assert found[-1] == "/m"
    assert [folder.count("/") for folder in found] == list(range(len(below) + 1, 0, -1))
