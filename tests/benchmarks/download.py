"""Times whole downloads side by side: `python -m tests.benchmarks.download [--help]`.

Our Hub on loopback answers the API and the redirects; nginx sends the file, first as fast as it
can, then with a limit on each connection, as users meet it. Clients take turns, so that a slow
moment of the machine hits all. Whatever a client checks itself, every file is also checked here,
outside the time taken.

Exit status: 0 if all limits are kept, 1 if one is missed or a client fails, 2 if nginx or curl is
not installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, NamedTuple

import psutil

from tests.benchmarks.nginx import find_nginx, serving, version_of
from tests.engine.hollow import Blueprint, hollow_header, write_hollow
from tests.hub.loopback import LoopbackHub
from tests.hub.protocol import make_file
from tests.support.command import Command

if TYPE_CHECKING:
    from quantpick.domain.header import Scalar

_MIB, _GIB = 1 << 20, 1 << 30
_REPO = "someone/benchmark-GGUF"
_SHARED_MEMORY = Path("/dev/shm")  # so that no disk is measured
_LIMITED_GIB = 2.0
_TIMEOUT = 1800

_CURL, _CURL_SUM, _HF, _OURS = "curl", "curl, then hashlib", "hf download (HTTP)", "quantpick"
_CHECKED = {_CURL: "no", _CURL_SUM: "afterwards", _HF: "no", _OURS: "yes"}

# Starts the client from a small process: the kernel counts the memory of the process that starts
# another into the peak of the other.
_LAUNCHER = """\
import os, sys, time
start = time.perf_counter()
actions = [(os.POSIX_SPAWN_DUP2, 2, 1)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, used = os.wait4(pid, 0)
wall = time.perf_counter() - start
print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status))
"""

_FETCH_AND_CHECK = """\
python=$1 code=$2 path=$3 sum=$4; shift 4
"$@" && "$python" -IS -c "$code" "$path" "$sum"
"""

_CHECK = """\
import hashlib, sys
with open(sys.argv[1], "rb") as stream:
    sys.exit(hashlib.file_digest(stream, "sha256").hexdigest() != sys.argv[2])
"""


class Run(NamedTuple):
    """What one run of one client took."""

    wall: float
    cpu: float
    peak_mib: float


class Scene(NamedTuple):
    """What clients are let loose on: the file, where the Hub is and a folder to work in."""

    folder: Path
    model: Path
    sha256: str
    endpoint: str


Runs = dict[str, list[Run]]


def main() -> int:
    """Measure, print the report and return the exit status."""
    options = _options()
    program, curl = find_nginx(), shutil.which("curl")
    if program is None or curl is None:
        print("this needs nginx and curl: apt-get install nginx curl", file=sys.stderr)
        return 2
    # Ended from outside, it still has to stop nginx and to free the memory.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    short = min(options.size, _LIMITED_GIB)
    _check_room(options.folder, int(max(options.size, short) * _GIB))
    some = (_CURL, _HF, _OURS) if options.all else (_CURL, _OURS)
    with TemporaryDirectory(prefix="quantpick-benchmark-", dir=options.folder) as folder:
        free = _part(Path(folder), options.size, "0", options.runs, tuple(_CHECKED))
        limited = _part(Path(folder), short, "50m", options.limited_runs, some)
    tools = f"{version_of(program, '-v')}, {version_of(curl, '--version').partition(' (')[0]}"
    print(f"{_machine()}, {tools}\n")
    print(f"{options.size:g} GiB, no limit, runs: {options.runs}\n\n{_table(free, options.size)}\n")
    print(f"{short:g} GiB, 50 MiB/s a connection, runs: {options.limited_runs}\n")
    print(f"{_table(limited, short)}\n")
    return 0 if _verdict(free, limited) else 1


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks.download")
    default = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path(gettempdir())
    parser.add_argument("--size", type=float, default=4.0, metavar="GIB", help="of the file (4)")
    parser.add_argument("--runs", type=int, default=5, help="without a limit (5)")
    parser.add_argument("--limited-runs", type=int, default=1, help="with a limit (1)")
    parser.add_argument("--folder", type=Path, default=default, metavar="DIR", help=f"({default})")
    parser.add_argument("--all", action="store_true", help="hf with a limit as well")
    options = parser.parse_args()
    options.folder = options.folder.resolve()  # the clients run elsewhere
    return options


def _check_room(folder: Path, size: int) -> None:
    """Stop where the file and one copy of it do not fit; shared memory is the others' memory."""
    free = shutil.disk_usage(folder).free
    if _SHARED_MEMORY in (folder, *folder.parents):
        free = min(free, psutil.virtual_memory().available - _GIB)
    if free < 2 * size:
        sys.exit(f"{folder} has room for {free / _GIB:.1f} GiB, not for twice {size / _GIB:.1f}")


# The scene


def _part(folder: Path, gib: float, rate: str, runs: int, names: tuple[str, ...]) -> Runs:
    """Set the scene, then let each client run in turn."""
    with TemporaryDirectory(dir=folder) as name, LoopbackHub() as hub:
        place = Path(name)
        model = _write_model(place, int(gib * _GIB))
        hub.add_repo(_REPO, {model.name: model})
        sha256 = make_file(model.name, model).sha256
        served = place / "served" / "lfs" / sha256
        served.parent.mkdir(parents=True)
        served.hardlink_to(model)
        # A virtual machine is slow where memory is touched first: not at the first client's cost.
        shutil.copyfile(model, place / "copy")
        (place / "copy").unlink()
        with serving(place, rate) as url:
            hub.answers.cdn_endpoint = url
            scene = Scene(place, model, sha256, hub.endpoint)
            found = _take_turns(scene, runs, names)
        assert not hub.requests("cdn"), "Python sent the file, not nginx"
        return found


def _take_turns(scene: Scene, runs: int, names: tuple[str, ...]) -> Runs:
    found: Runs = {name: [] for name in names}
    for number in range(runs):
        for name in names:
            run = _run(scene, name)
            found[name].append(run)
            print(f"run {number + 1} of {runs}: {run.wall:6.2f} s {name}", file=sys.stderr)
    return found


def _write_model(folder: Path, size: int) -> Path:
    """Write a GGUF of about this size: a true header, and data no two blocks of which agree."""
    width, height = 4096, 14336
    rows = size // (width * 144 // 256)  # Q4_K keeps 256 numbers in 144 bytes
    tensors = tuple(
        (f"blk.{number}.ffn_up.weight", (width, min(height, rows - start)))
        for number, start in enumerate(range(0, rows, height))
    )
    metadata: dict[str, Scalar | tuple[Scalar, ...]] = {
        "general.architecture": "llama",
        "llama.block_count": len(tensors),
        "llama.embedding_length": width,
        "llama.attention.head_count": 32,
    }
    blueprint = Blueprint("benchmark", metadata, tensors, vocab_size=1000)
    path = write_hollow(blueprint, "Q4_K_M", folder)
    header = hollow_header(blueprint, "Q4_K_M")
    _fill(path, header.header_bytes, header.file_bytes)
    return path


def _fill(path: Path, start: int, stop: int) -> None:
    """Fill a hole with one random block, turned a little further each time it is written."""
    block = random.Random(0).randbytes(_MIB)
    with path.open("r+b") as out:
        out.seek(start)
        for number, at in enumerate(range(start, stop, _MIB)):
            turn = number * 4099 % _MIB
            out.write((block[turn:] + block[:turn])[: stop - at])


# One run


def _words(scene: Scene, name: str, out: Path) -> list[str]:
    """Return the command line of a client."""
    file = scene.model.name
    path = str(out / file)
    fetch = ["curl", "-sfL", "-o", path, f"{scene.endpoint}/{_REPO}/resolve/main/{file}"]
    scripts = Path(sys.executable).parent
    commands = {
        _CURL: fetch,
        _CURL_SUM: [
            *("sh", "-c", _FETCH_AND_CHECK, "sh"),
            *(sys.executable, _CHECK, path, scene.sha256, *fetch),
        ],
        _HF: [str(scripts / "hf"), "download", _REPO, file, "--local-dir", str(out)],
        _OURS: [
            *(sys.executable, "-m", "quantpick", "download", f"{_REPO}:Q4_K_M"),
            *("--local-dir", str(out)),
        ],
    }
    return commands[name]


def _run(scene: Scene, name: str) -> Run:
    """Run one client in an empty home with an empty folder for what it fetches."""
    with TemporaryDirectory(dir=scene.folder) as folder:
        home, out = Path(folder) / "home", Path(folder) / "out"
        home.mkdir()
        out.mkdir()
        env = Command(home, _home(home) | {"HF_ENDPOINT": scene.endpoint}).environment()
        run = _measured(_words(scene, name, out), env, home)
        _check(scene, name, out / scene.model.name)
    return run


def _home(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "QUANTPICK_CACHE": str(home / "quantpick"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _measured(words: list[str], env: dict[str, str], cwd: Path) -> Run:
    log = cwd / "said"
    launcher = [sys.executable, "-IS", "-c", _LAUNCHER, *words]
    with (
        log.open("wb") as said,
        subprocess.Popen(
            launcher,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        ) as process,
    ):
        try:
            figures = process.communicate(timeout=_TIMEOUT)[0].split()
        except BaseException:
            # The launcher would leave its client behind.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if len(figures) != 4 or figures[3] != b"0":
        tail = log.read_text("utf-8", "replace")[-2000:]
        sys.exit(f"{' '.join(words)[:200]}\nfailed and said:\n{tail}")
    return Run(float(figures[0]), float(figures[1]), int(figures[2]) / 1024)


def _check(scene: Scene, name: str, path: Path) -> None:
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != scene.sha256:
            sys.exit(f"what {name} fetched is not the file")


# The report


def _machine() -> str:
    text = Path("/proc/cpuinfo").read_text("utf-8")
    named = (line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name"))
    model = next(named, platform.machine())
    versions = f"Python {platform.python_version()}, huggingface_hub {version('huggingface_hub')}"
    return f"{time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} cores, {versions}"


def _table(found: Runs, gib: float) -> str:
    megabytes = gib * _GIB / 1e6
    lines = [
        "| client | wall s | min | max | MB/s | CPU s/GB | peak MiB | sha256 checked |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, runs in found.items():
        walls = [run.wall for run in runs]
        cpu = statistics.median(run.cpu for run in runs) / megabytes * 1000
        lines.append(
            f"| {name} | {_wall(runs):.2f} | {min(walls):.2f} | {max(walls):.2f} "
            f"| {megabytes / _wall(runs):.0f} | {cpu:.2f} | {_peak(runs):.0f} | {_CHECKED[name]} |"
        )
    return "\n".join(lines)


def _wall(runs: list[Run]) -> float:
    return statistics.median(run.wall for run in runs)


def _peak(runs: list[Run]) -> float:
    return max(run.peak_mib for run in runs)


def _verdict(free: Runs, limited: Runs) -> bool:
    """Print each figure with its limit; return whether all are kept."""
    ours, slow = _wall(free[_OURS]), limited[_CURL]
    gain = _wall(slow) / _wall(limited[_OURS])
    peak = _peak([*free[_OURS], *limited[_OURS]])
    lines = [
        ("quantpick / hf", ours / _wall(free[_HF]), "<= 0.7", ours <= 0.7 * _wall(free[_HF])),
        ("quantpick / curl", ours / _wall(free[_CURL]), "<= 1.4", ours <= 1.4 * _wall(free[_CURL])),
        ("with the limit, curl / quantpick", gain, ">= 6", gain >= 6),
        ("peak memory of quantpick in MiB", peak, "< 100", peak < 100),
    ]
    for what, figure, limit, kept in lines:
        print(f"{what}: {figure:.2f}, limit {limit}: {'kept' if kept else 'MISSED'}")
    return all(kept for *_, kept in lines)


if __name__ == "__main__":
    sys.exit(main())
