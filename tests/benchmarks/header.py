"""Times and weighs the header reader: `python -m tests.benchmarks.header [RUNS]`.

The first part reads the real Gemma 3 270M (a vocabulary of 262,144 tokens), the page cache warm,
beside the package gguf.
The second reads a header as long as that of Llama 3.1 70B from the Hub on loopback, as
`quantpick inspect` does, and counts the bytes that were asked for.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import gguf

from quantpick.gguf_header import read_file
from tests.hub.loopback import LoopbackHub
from tests.support.gguf_files import real_model
from tests.support.gguf_headers import write_70b

if TYPE_CHECKING:
    from collections.abc import Callable

_MIB = 1 << 20


def main() -> None:
    """Print both parts."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with TemporaryDirectory() as folder:
        _local(real_model(Path(folder)), runs)
        _remote(Path(folder))


def _local(model: Path, runs: int) -> None:
    ours = [_seconds(lambda: read_file(model)) for _ in range(10 * runs)]
    theirs = [_seconds(lambda: gguf.GGUFReader(model)) for _ in range(runs)]
    print(f"{'reader':<24}{'best':>10}{'median':>10}   runs")
    for name, times in (("quantpick", ours), ("gguf.GGUFReader", theirs)):
        best, median = min(times), statistics.median(times)
        print(f"{name:<24}{best:>8.3f} s{median:>8.3f} s   {len(times)}")
    print(f"ratio of medians: {statistics.median(theirs) / statistics.median(ours):.0f}")


def _remote(folder: Path) -> None:
    path = folder / "seventy-Q4_K_M.gguf"
    length = write_70b(path)
    home = {"HOME": str(folder), "HF_HOME": str(folder / "hf"), "QUANTPICK_CACHE": str(folder)}
    with LoopbackHub() as hub:
        hub.add_repo("someone/seventy-GGUF", {path.name: path})
        env = {**os.environ, **home, "HF_ENDPOINT": hub.endpoint}
        command = [sys.executable, "-m", "quantpick", "inspect", "someone/seventy-GGUF:Q4_K_M"]
        for name in ("first run", "second run"):
            hub.log.clear()
            seconds = _seconds(
                lambda: subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
            )
            spans = [_span(entry.range) for entry in hub.requests("cdn")]
            print(
                f"{name}: {sum(spans) / _MIB:.2f} MiB in {len(spans)} ranges for a header of "
                f"{length / _MIB:.2f} MiB, {seconds:.2f} s with start-up"
            )


def _span(asked: str | None) -> int:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "")
    return int(found[2]) - int(found[1]) + 1 if found else 0


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
