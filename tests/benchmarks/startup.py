"""Times whole commands side by side: `python -m tests.benchmarks.startup [RUNS]`.

The yardstick is a typer program with one empty command in the same environment; `hf version` is
the nearest tool of the field. Runs take turns, so that a slow moment of the machine hits all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

EMPTY = """\
import typer

app = typer.Typer()


@app.command()
def main() -> None:
    pass


app()
"""


def main() -> None:
    """Print best and median wall time of each command, and their ratio to the empty one."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY, "utf-8")
        commands = _commands(empty)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs + 1):
            for name, words in commands.items():
                times[name].append(seconds(words))
    _report({name: measured[1:] for name, measured in times.items()})


def _commands(empty: Path) -> dict[str, list[str]]:
    """Return the commands by what they are called in the report; the yardstick first."""
    scripts = Path(sys.executable).parent
    quantpick = str(scripts / "quantpick")
    repo = ["recommend", "llama-3.1-70b", "--vram", "24GiB", "--json"]
    return {
        "empty typer command": [sys.executable, str(empty)],
        "quantpick --help": [quantpick, "--help"],
        "quantpick recommend REPO --json": [quantpick, *repo],
        "quantpick recommend REPO": [quantpick, *repo[:-1]],
        "quantpick recommend --vram": [quantpick, "recommend", "--vram", "24GiB"],
        "quantpick recommend": [quantpick, "recommend"],
        "quantpick hardware": [quantpick, "hardware"],
        "hf version": [str(scripts / "hf"), "version"],
    }


def seconds(words: list[str], env: dict[str, str] | None = None) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    subprocess.run(words, capture_output=True, env=env, check=False)
    return time.perf_counter() - start


def _report(times: dict[str, list[float]]) -> None:
    yardstick = next(iter(times.values()))
    print(f"{'command':<34}{'best':>9}{'median':>9}{'ratio':>8}   ({len(yardstick)} runs)")
    for name, measured in times.items():
        best, median = min(measured), statistics.median(measured)
        ratio = median / statistics.median(yardstick)
        print(f"{name:<34}{best * 1000:>6.0f} ms{median * 1000:>6.0f} ms{ratio:>8.2f}")


if __name__ == "__main__":
    main()
