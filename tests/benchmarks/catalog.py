"""Times `quantpick recommend` over catalogs of many repos: `python -m tests.benchmarks.catalog`.

The repos are copies of the embedded ones under other names, 100, 1,000 and 5,000 of them, beside a
typer program with one empty command. Runs take turns.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from quantpick.sources.rows import CATALOG_VARIABLE, catalog_dir
from tests.benchmarks.startup import EMPTY, seconds

COUNTS = (100, 1_000, 5_000)
ASKED = ["recommend", "--vram", "24GiB"]


def write_catalog(folder: Path, count: int) -> None:
    """Write a catalog of so many repos: the embedded ones again and again."""
    embedded = catalog_dir()
    folder.mkdir()
    (folder / "reference").symlink_to(embedded / "reference")
    (folder / "aliases.json").symlink_to(embedded / "aliases.json")
    rows = json.loads((embedded / "index.json").read_text("utf-8"))["models"]
    copies = []
    for number in range(count):
        row = rows[number % len(rows)]
        repo_id = f"copy{number // len(rows)}-{row['repo_id']}"
        path = folder / "models" / f"{repo_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(embedded / "models" / f"{row['repo_id']}.json")
        copies.append({**row, "repo_id": repo_id, "base_model": repo_id, "aliases": []})
    text = json.dumps({"schema": 1, "models": copies})
    (folder / "index.json").write_text(text, "utf-8")


def main() -> None:
    """Print the wall time for each size of catalog, and its ratio to an empty command."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "empty.py").write_text(EMPTY, "utf-8")
        quantpick = str(Path(sys.executable).parent / "quantpick")
        commands: dict[str, tuple[list[str], dict[str, str]]] = {
            "empty typer command": ([sys.executable, str(root / "empty.py")], {}),
            "the embedded catalog": ([quantpick, *ASKED], {}),
        }
        for count in COUNTS:
            write_catalog(root / str(count), count)
            place = {CATALOG_VARIABLE: str(root / str(count))}
            commands[f"{count} repos"] = ([quantpick, *ASKED], place)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs + 1):
            for name, (words, env) in commands.items():
                times[name].append(seconds(words, {**os.environ, **env}))
    yardstick = statistics.median(times["empty typer command"][1:])
    for name, measured in times.items():
        median = statistics.median(measured[1:])
        best = min(measured[1:])
        print(f"{name:<24}{best * 1000:>7.0f} ms{median * 1000:>7.0f} ms{median / yardstick:>8.2f}")


if __name__ == "__main__":
    main()
