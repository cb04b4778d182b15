"""Time, calls and memory of a refresh: `python -m tests.benchmarks.refresh [REPOS]...` (Linux).

For each number of repos a catalog of that many entries, of 20 quants each, is compared with a Hub
on loopback: once with nothing new, once with a size in every entry that became exact.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.hub.loopback import LoopbackHub
from tests.support.catalogs import entry, new_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1"),
    *("Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "F16", "IQ2_M", "IQ3_M", "IQ3_XS", "IQ4_XS", "IQ4_NL"),
)
_CONNECTIONS = 8

#: Runs the command and says on the last line of stderr how much memory it took at most. (What the
#: system tells a parent counts the parent's own memory in.)
_CHILD = """
import sys
from pathlib import Path
from quantpick.cli.main import run
status = run(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(line for line in lines if line.startswith("VmHWM:"))
print(peak.split()[1], file=sys.stderr)
sys.exit(status)
"""


def main() -> None:
    """Print a line a run."""
    counts = [int(word) for word in sys.argv[1:]] or [500, 5000]
    print(f"{'repos':>6}  {'run':<24}{'seconds':>8}{'calls':>7}{'peak RSS':>11}")
    for count in counts:
        with TemporaryDirectory() as folder, LoopbackHub() as hub:
            catalog = Path(folder) / "catalog"
            _fill(hub, catalog, count)
            for name, words in (("one, for comparison", ["repo/r-00000"]), ("nothing new", [])):
                _report(count, name, _measure(hub, catalog, [*words]))
            _round(catalog)
            _report(count, "all changed, shown", _measure(hub, catalog, []))
            _report(count, "all changed, written", _measure(hub, catalog, ["--write"]))


def repo_ids(count: int) -> Iterator[str]:
    """Yield the names of so many repos."""
    return (f"repo/r-{number:05}" for number in range(count))


def _fill(hub: LoopbackHub, catalog: Path, count: int) -> None:
    """Publish repos with files of a few bytes, and catalogue them as they are."""
    entries: dict[str, dict[str, Any]] = {}
    for number, repo_id in enumerate(repo_ids(count)):
        files = {f"m-{label}.gguf": f"{number} {at:02}".encode() for at, label in enumerate(LABELS)}
        hub.add_repo(repo_id, files, license="apache-2.0", base_model="someone/Tiny-Llama")
        listed = hub.answers.repos[repo_id].contents["0123456789abcdef0123456789abcdef01234567"]
        rows = [
            {
                "label": label,
                "bytes": listed[f"m-{label}.gguf"].size,
                "paths": [f"m-{label}.gguf"],
                "sha256": [listed[f"m-{label}.gguf"].sha256],
                "source": "card",
                "seen": "2025-01-31",
            }
            for label in LABELS
        ]
        entries[repo_id] = entry(*rows)
    new_catalog(catalog, entries)


def _round(catalog: Path) -> None:
    """Take the digests away, so that every row of every entry has something new."""
    for path in (catalog / "models").rglob("*.json"):
        lines = path.read_text("utf-8").splitlines(keepends=True)
        kept = (
            line.partition(', "sha256"')[0] + ', "source"' + line.partition('"source"')[2]
            if '"sha256"' in line
            else line
            for line in lines
        )
        path.write_text("".join(kept), "utf-8")


def _measure(hub: LoopbackHub, catalog: Path, words: list[str]) -> tuple[float, int, int]:
    """Return seconds, calls to the Hub and peak memory of one run of the command."""
    hub.log.clear()
    with TemporaryDirectory() as home:
        env = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HOME": home, "HF_HOME": home}
        env |= {"QUANTPICK_CATALOG": str(catalog), "QUANTPICK_CACHE": f"{home}/cache"}
        line = [sys.executable, "-c", _CHILD, "catalog", "refresh", *words]
        line += ["--connections", str(_CONNECTIONS)]
        start = time.monotonic()
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, len(hub.requests("hub")), int(done.stderr.splitlines()[-1]) << 10


def _report(count: int, name: str, figures: tuple[float, int, int]) -> None:
    seconds, calls, peak = figures
    print(f"{count:>6}  {name:<24}{seconds:>8.1f}{calls:>7}{peak / 2**20:>8.1f} MiB")


if __name__ == "__main__":
    main()
