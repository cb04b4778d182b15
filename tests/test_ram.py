"""The memory that programs can have, what limits it, and the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Cpu, Cut, Ram, SourceState, State
from quantpick.probes.protocol import SYSROOT_VARIABLE, Place, here
from quantpick.probes.ram import (
    parse_features,
    parse_meminfo,
    parse_numa_status,
    parse_process_limits,
    probe_cpu,
    probe_ram,
)
from quantpick.probes.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KIB, MIB, GIB = 2**10, 2**20, 2**30
MEMINFO = (
    "MemTotal:       65842188 kB\nMemFree:  9 kB\nMemAvailable:   60000000 kB\n"
    "SwapTotal:       8388604 kB\nSwapFree:  8388604 kB\nHugePages_Total:       7\n"
)
TOTAL, AVAILABLE = 65842188 * KIB, 60000000 * KIB
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max file size             1000000              1000000              bytes
Max data size             {data:<20} unlimited            bytes
Max stack size            8388608              unlimited            bytes
Max address space         {space:<20} unlimited            bytes
"""


class Machine(NamedTuple):
    """A machine made of files."""

    root: Path

    def write(self, path: str, text: str | bytes) -> None:
        """Write a file of the machine."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def place(self, environ: Mapping[str, str] | None = None, system: str = "linux") -> Place:
        """Return where sources look."""
        return Place(self.root, environ or {}, run, system)

    def ram(self) -> Ram:
        """Read the memory."""
        return probe_ram(self.place()).ram

    @property
    def source(self) -> str:
        """The path of the kernel's table."""
        return str(self.root / "proc/meminfo")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine without files."""
    return Machine(tmp_path)


# The kernel's table


def test_ram_is_read_from_the_kernels_table_without_swap(machine: Machine) -> None:
    machine.write("/proc/meminfo", MEMINFO)
    answer = probe_ram(machine.place())
    assert answer.ram == Ram(65_842_188 * 1024, 60_000_000 * 1024, machine.source)
    assert answer.states[0] == SourceState("RAM", State.OK, "62.8 GiB")
    assert answer.caveats == ()


def test_an_old_kernels_available_ram_is_unknown(machine: Machine) -> None:
    machine.write("/proc/meminfo", "MemTotal: 1024 kB\nMemFree: 9 kB\n")
    assert machine.ram()[:2] == (1024 * 1024, None)


def test_reserved_huge_pages_are_not_available(machine: Machine) -> None:
    table = "MemTotal: 131072000 kB\nMemAvailable: 4096000 kB\nHugePages_Total: 60000\n"
    machine.write("/proc/meminfo", table + "HugePages_Free: 60000\nHugepagesize: 2048 kB\n")
    assert machine.ram()[:2] == (131072000 * KIB, 4096000 * KIB)


def test_ram_of_this_machine_is_what_psutil_reads() -> None:
    ram = probe_ram(here()).ram
    assert (ram.installed or ram.total) == psutil.virtual_memory().total
    assert ram.available is not None
    assert 0 < ram.available <= ram.total


@pytest.mark.parametrize("table", ["", "MemFree: 9 kB\n", "MemTotal: 0 kB\n"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_psutil_answers_where_there_is_no_table(table: str, system: str, machine: Machine) -> None:
    if table:
        machine.write("/proc/meminfo", table)
    ram, states, caveats = probe_ram(machine.place(system=system))
    assert (ram.total, ram.source) == (psutil.virtual_memory().total, "psutil")
    assert ram.available is not None
    assert [state.source for state in states] == ["RAM", "cgroup"][: 1 + (system == "linux")]
    assert caveats == ()


# Memory of GPUs

POWER9 = "MemTotal: 358162944 kB\nMemAvailable: 340000000 kB\n"
HOST, HBM = 263791104 * KIB, 15728640 * KIB


def add_gpu(machine: Machine, node: int, status: str = "online", *, total: int = HBM) -> None:
    """Give a machine a GPU with memory that is, or is not, a NUMA node."""
    folder = f"/proc/driver/nvidia/gpus/0004:{node % 256:02x}:00.0"
    address = "Address:   6000000000000\nSize:      3c0000000\n"
    machine.write(f"{folder}/numa_status", f"Node:      {node}\nStatus:    {status}\n{address}")
    rows = f"Node {node} MemTotal:       {total // KIB} kB\nNode {node} MemFree:  1000000 kB\n"
    machine.write(f"/sys/devices/system/node/node{node}/meminfo", rows)


def test_memory_of_gpus_is_not_ram(machine: Machine) -> None:
    machine.write("/proc/meminfo", POWER9)
    for node in range(250, 256):
        add_gpu(machine, node)
    total, available, source, installed, cuts = machine.ram()
    assert (total, available, installed) == (HOST, HOST, 358162944 * KIB)
    assert source == f"{machine.source} and numa_status"
    words = "memory of GPUs that the system counts as RAM"
    nodes = "NUMA node 250, 251, 252, 253, 254, 255"
    assert cuts == (Cut("gpu_memory", 6 * HBM, f"{words} ({nodes})"),)


def test_free_memory_of_gpus_is_not_available_ram(machine: Machine) -> None:
    machine.write("/proc/meminfo", POWER9.replace("340000000", "240000000"))
    add_gpu(machine, 1)
    add_gpu(machine, 2)
    assert machine.ram()[:2] == (358162944 * KIB - 2 * HBM, 238000000 * KIB)


@pytest.mark.parametrize("status", ["offline", "disabled", "online_in_progress", "online_failed"])
def test_memory_of_a_gpu_that_is_not_online_is_not_cut(status: str, machine: Machine) -> None:
    machine.write("/proc/meminfo", POWER9)
    add_gpu(machine, 255, status)
    assert machine.ram().total == 358162944 * KIB


@pytest.mark.parametrize(("node", "total"), [(-1, HBM), (7, 0), (0, 358162944 * KIB)])
def test_what_is_no_node_of_a_gpu_takes_nothing(node: int, total: int, machine: Machine) -> None:
    machine.write("/proc/meminfo", POWER9)
    add_gpu(machine, node, total=total)
    machine.write("/proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: A\n")
    assert machine.ram() == Ram(358162944 * KIB, 340000000 * KIB, machine.source)


# Limits of a process


@pytest.mark.parametrize(
    ("space", "data", "total", "messages"),
    [
        ("unlimited", "unlimited", TOTAL, []),
        (32 * GIB, "unlimited", 32 * GIB, ["ulimit -v"]),
        ("unlimited", 16 * GIB, 16 * GIB, ["ulimit -d"]),
        (16 * GIB, 32 * GIB, 16 * GIB, ["ulimit -d", "ulimit -v"]),
        (32 * GIB, 16 * GIB, 16 * GIB, ["ulimit -d"]),
        (TOTAL, 2**63, TOTAL, []),
    ],
)
def test_limits_of_a_process_count(
    space: int | str, data: int | str, total: int, messages: list[str], machine: Machine
) -> None:
    machine.write("/proc/meminfo", MEMINFO)
    machine.write("/proc/self/limits", LIMITS.format(space=space, data=data))
    ram = machine.ram()
    assert ram[:2] == (total, min(total, AVAILABLE))
    assert [cut.message.partition("(")[2].rstrip(")") for cut in ram.cuts] == messages
    assert {cut.code for cut in ram.cuts} <= {"rlimit"}
    assert ram.total + sum(cut.size for cut in ram.cuts) == TOTAL


def test_a_real_limit_is_seen() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells a process its limits in a file")
    limit = 2 * GIB
    line = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
    (total, _, source, _, cuts), _, _ = ask_a_child(line)
    assert (total, cuts[-1][0]) == (limit, "rlimit")
    assert source.startswith("/proc/meminfo")


def test_all_cuts_together_are_what_is_missing(machine: Machine) -> None:
    machine.write("/proc/meminfo", POWER9)
    add_gpu(machine, 255)
    machine.write("/proc/self/cgroup", "0::/a\n")
    machine.write("/proc/self/mountinfo", FILES["/proc/self/mountinfo"])
    for name, figure in (("max", 64 * GIB), ("current", GIB)):
        machine.write(f"/sys/fs/cgroup/a/memory.{name}", str(figure))
    machine.write("/sys/fs/cgroup/a/memory.stat", "")
    machine.write("/proc/self/limits", LIMITS.format(space=32 * GIB, data="unlimited"))
    ram = machine.ram()
    assert (ram.total, ram.available) == (32 * GIB, 32 * GIB)
    assert [cut.code for cut in ram.cuts] == ["gpu_memory", "cgroup", "rlimit"]
    assert ram.installed == 358162944 * KIB == ram.total + sum(cut.size for cut in ram.cuts)
    assert ram.source == f"{machine.source} and numa_status and cgroup and ulimit"
    # A group that may have more than the host's own part.
    machine.write("/sys/fs/cgroup/a/memory.max", str(330 * GIB))
    assert [cut.code for cut in machine.ram().cuts] == ["gpu_memory", "rlimit"]


# WSL


@pytest.mark.parametrize(
    ("environ", "release", "told"),
    [
        ({"WSL_DISTRO_NAME": "Ubuntu"}, None, 1),
        ({"WSL_INTEROP": "/run/WSL/8_interop"}, "6.1.0\n", 1),
        ({}, "5.15.90.1-microsoft-standard-WSL2\n", 1),
        ({}, "4.4.0-22621-Microsoft\n", 1),
        ({"WSL_DISTRO_NAME": ""}, "6.1.0-18-amd64\n", 0),
    ],
)
def test_wsl_is_known_for_half_of_the_memory(
    environ: dict[str, str], release: str | None, told: int, machine: Machine
) -> None:
    machine.write("/proc/meminfo", MEMINFO)
    if release is not None:
        machine.write("/proc/sys/kernel/osrelease", release)
    answer = probe_ram(machine.place(environ))
    state = answer.states[0]
    assert (state.source, state.state) == ("RAM", State.OK)
    assert (state.detail.count("half"), state.advice.count(".wslconfig")) == (told, told)
    assert (answer.ram.total, answer.caveats) == (TOTAL, ())


# The processor


def test_the_processor_is_named_where_the_kernel_names_it(machine: Machine) -> None:
    machine.write("/proc/cpuinfo", "processor\t: 0\nmodel name\t: A Chip @ 2 GHz \n" * 300)
    assert probe_cpu(machine.place()).name == "A Chip @ 2 GHz"
    machine.write("/proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert probe_cpu(machine.place()) == Cpu(None, os.cpu_count())


@pytest.mark.parametrize(
    ("row", "features"),
    [
        ("flags\t\t: fpu sse4_2 avx2 avx512f avx512vl amx_int8", ("avx2", "avx512f", "amx_int8")),
        ("Features\t: fp asimd asimddp", ("asimddp",)),
        ("flags\t\t: fpu", ()),
    ],
)
def test_features_are_read(row: str, features: tuple[str, ...], machine: Machine) -> None:
    machine.write("/proc/cpuinfo", f"processor\t: 0\n{row}\n")
    assert probe_cpu(machine.place()).features == features


def test_the_cores_are_known_without_the_kernels_table(machine: Machine) -> None:
    cpu = probe_cpu(machine.place())
    assert (cpu.cores, cpu.features) == (os.cpu_count(), None)


# Rows of tables


@given(st.dictionaries(st.from_regex(r"[A-Za-z_0-9]+", fullmatch=True), st.integers(0, 2**50)))
def test_every_row_of_a_table_is_read_in_bytes(rows: dict[str, int]) -> None:
    text = "".join(f"{name}:\t {kib} kB\nHugePages_{name}: {kib}\n" for name, kib in rows.items())
    assert parse_meminfo(text) == {name: kib * 1024 for name, kib in rows.items()}


@example("a:\n1k")
@given(st.text(["a", ":", "\n", "\t", "1", "९", "k"], max_size=12))
def test_no_row_of_a_table_reaches_into_the_next(text: str) -> None:
    text = text.replace("k", " kB")
    rows = [parse_meminfo(line) for line in text.split("\n")]
    assert parse_meminfo(text) == {name: size for row in rows for name, size in row.items()}


@example("MemTotal: " + "9" * 5000 + " kB")
@example("Max data size " + "1" * 2**20 + " ")
@example("flags" + "\n" * 2**20)
@example("Node:" + "\t" * 2**20)
@example("Node " * 2**18)
@example("Max data size" + " " * 2**20)
@given(st.text())
def test_parsers_take_any_text(text: str) -> None:
    assert all(size >= 0 for size in parse_meminfo(text).values())
    assert all(size >= 0 for size in parse_process_limits(text).values())
    assert (parse_numa_status(text) or 0) >= 0
    assert parse_features(text) is None or "flags" in text or "Features" in text


FILES = {
    "/proc/self/cgroup": "0::/\n",
    "/proc/self/mountinfo": "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 x rw\n",
    "/proc/self/limits": LIMITS.format(space=32 * GIB, data=16 * GIB),
    "/proc/cpuinfo": "flags : avx2\n",
    "/proc/sys/kernel/osrelease": "microsoft",
    "/proc/driver/nvidia/gpus/0/numa_status": "Node: 1\nStatus: online\n",
    "/sys/devices/system/node/node1/meminfo": "Node 1 MemTotal: 9999999 kB\n",
    "/sys/fs/cgroup/memory.max": "9999999999",
    "/sys/fs/cgroup/memory.current": "999999999",
    "/sys/fs/cgroup/memory.stat": "inactive_file 9999\nactive_file 9999999999\n",
}


@given(st.tuples(*[st.one_of(st.just(sound), st.binary(max_size=99)) for sound in FILES.values()]))
def test_garbage_in_any_file_makes_no_trouble(texts: tuple[str | bytes, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        machine.write("/proc/meminfo", MEMINFO)
        for path, text in zip(FILES, texts, strict=True):
            machine.write(path, text)
        ram = machine.ram()
        probe_cpu(machine.place())
    assert 0 < ram.total <= TOTAL
    assert ram.available is None or 0 <= ram.available <= ram.total
    assert ram.total + sum(cut.size for cut in ram.cuts) == TOTAL
    assert ram.installed == (TOTAL if ram.cuts else None)


# A real group with a limit

ASK = """
import json, sys
from quantpick.probes.protocol import here
from quantpick.probes.ram import probe_ram
answer = probe_ram(here())
states = {state.source: state.detail for state in answer.states}
print(json.dumps([answer.ram, states, "psutil" in sys.modules]))
"""


def ask_a_child(first: str) -> list[Any]:
    """Return what a new process finds after some lines: memory, states, psutil loaded."""
    env = {name: value for name, value in os.environ.items() if name != SYSROOT_VARIABLE}
    command = [sys.executable, "-c", first + ASK]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


def where_to_make_a_group() -> tuple[Path, str]:
    """Return the folder of a group that can have one of the test's, and the limit's file."""
    rows = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    groups = {controllers: path for _, controllers, path in (row.split(":", 2) for row in rows)}
    if "memory" in groups:
        return Path("/sys/fs/cgroup/memory" + groups["memory"]), "memory.limit_in_bytes"
    # Version 2 limits no group below one with processes, other than the topmost.
    return Path("/sys/fs/cgroup"), "memory.max"


@pytest.fixture
def real_group() -> Iterator[Path]:
    """Make a group with a limit of 512 MiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root of a Linux machine makes control groups")
    parent, name = where_to_make_a_group()
    group = parent / f"quantpick-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        if not (group / name).exists():
            pytest.skip("control groups are without the memory controller")
        (group / name).write_text(str(512 * MIB))
        yield group
    finally:
        group.rmdir()


def test_a_real_group_is_seen_and_its_cache_is_not_used_memory(
    real_group: Path, tmp_path: Path
) -> None:
    join = f"open({str(real_group / 'cgroup.procs')!r}, 'w').write('0')\n"
    fill = f"open({str(tmp_path / 'file')!r}, 'wb').write(bytes({128 * MIB}))\n"
    (total, available, source, installed, cuts), states, psutil_loaded = ask_a_child(join + fill)
    assert (total, source) == (536870912, "/proc/meminfo and cgroup")
    assert installed - cuts[0][1] == total
    assert states["cgroup"] == f"512.0 MiB by {real_group}"
    assert not psutil_loaded
    kind = subprocess.run(["stat", "-fc%T", tmp_path], capture_output=True, check=True).stdout
    if kind.strip() != b"tmpfs":
        assert 512 * MIB - 64 * MIB < available < 512 * MIB
