"""The fault matrix: hundreds of downloads from the Hub on loopback, each with other trouble.

Every run is made from the seed and its number alone. ``python -m tests.hub.matrix --seed S`` does
all of them, and with ``--only N`` one, and tells all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.hub.matrix_law import TOKEN, tree_of
from tests.hub.matrix_plan import SIZE, has_token, make_run, way_of
from tests.hub.matrix_process import run_process
from tests.hub.matrix_stage import MatrixHub
from tests.hub.matrix_verdict import Outcome, Stage, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.hub.matrix_plan import Run

_ROOT = Path(__file__).parents[2]

#: Threads of one process: they wait most of the time.
_AT_ONCE = 12
_PROCESSES_AT_ONCE = 5

_PAGE = 100


def run_matrix(seed: str) -> tuple[list[Outcome], float]:
    """Do all runs of a seed in two processes; return what came of them and how long it took.

    The runs of one have a token, those of the other have none.
    """
    since = time.monotonic()
    shares = [range(odd, SIZE, 2) for odd in (0, 1)]
    with ThreadPoolExecutor(len(shares)) as pool:
        done = [one for share in pool.map(partial(_share, seed), shares) for one in share]
    return sorted(done), time.monotonic() - since


def _share(seed: str, numbers: range) -> list[Outcome]:
    """Have a process do runs."""
    words = ["--seed", seed, "--share", str(numbers.start), str(numbers.step)]
    command = [sys.executable, "-m", "tests.hub.matrix", *words]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def do_runs(seed: str, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Do runs of a seed in this process, which all have a token or all have none."""
    with (
        TemporaryDirectory() as folder,
        MatrixHub(_PAGE) as hub,
        MatrixHub(_PAGE) as stranger,
        ThreadPoolExecutor(_AT_ONCE) as inside,
        ThreadPoolExecutor(_PROCESSES_AT_ONCE) as outside,
    ):
        stage = Stage(hub, stranger, Path(folder))
        within = _settle(stage, token=has_token(numbers[0]))

        def do(number: int) -> Outcome:
            run = make_run(seed, number)
            return within(run) if run.way == "inside" else _alone(run, stage)

        waiting = [
            (inside if way_of(number) == "inside" else outside).submit(do, number)
            for number in numbers
        ]
        for one in waiting:
            yield one.result()
        _check_base(stage.base)


def _alone(run: Run, stage: Stage) -> Outcome:
    """Do a run with a Hub of its own."""
    with MatrixHub(run.page_size) as hub:
        return run_process(run, Stage(hub, stage.stranger, stage.base))


def _settle(stage: Stage, *, token: bool) -> Callable[[Run], Outcome]:
    """Make this process one whose downloads come from a Hub on loopback."""
    for name in [name for name in os.environ if name.startswith(("HF_", "QUANTPICK_"))]:
        del os.environ[name]
    places = {"HF_HOME": "hf", "QUANTPICK_CACHE": "keep", "HOME": "home", "TMPDIR": "tmp"}
    for variable, name in places.items():
        (stage.base / name).mkdir()
        os.environ[variable] = str(stage.base / name)
    os.environ |= {"HF_ENDPOINT": stage.hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
    os.environ |= {"HF_TOKEN": TOKEN} if token else {}
    # Only now: quantpick and huggingface_hub read the environment as they are loaded.
    module = import_module("tests.hub.matrix_inside")
    return lambda run: module.run_inside(run, stage, stage.base / "hf")


def _check_base(base: Path) -> None:
    """Check that runs inside this process wrote nowhere but to their rooms and the two caches."""
    allowed = ("rooms/", "hf/hub/models--", "hf/hub/.locks/", "keep/listings/", "keep/proofs/")
    strays = [path for path in tree_of(base) if not path.startswith(allowed)]
    assert not strays, f"written outside of target and caches: {strays}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.hub.matrix")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", type=int, help="do one run and tell all of it")
    parser.add_argument("--share", type=int, nargs=2, help="first run and step; JSON lines")
    return parser.parse_args()


def _main() -> int:
    options = _options()
    out = sys.stdout
    if options.share:
        first, step = options.share
        for outcome in do_runs(options.seed, range(first, SIZE, step)):
            out.write(json.dumps(outcome) + "\n")
        return 0
    if options.only is not None:
        run = make_run(options.seed, options.only)
        (outcome,) = do_runs(options.seed, [options.only])
        out.write(f"{run.words()}\n{json.dumps(outcome._asdict(), indent=1)}\n")
        return bool(outcome.broken)
    outcomes, seconds = run_matrix(options.seed)
    out.writelines(f"{report(options.seed, one)}\n" for one in outcomes if one.broken)
    out.write(summary(options.seed, outcomes, seconds) + "\n")
    return any(one.broken for one in outcomes)


def report(seed: str, outcome: Outcome) -> str:
    """Return what a run has broken of the law, and how to see it again."""
    again = f"python -m tests.hub.matrix --seed {seed} --only {outcome.number}"
    return "\n".join([again, make_run(seed, outcome.number).words(), *outcome.broken])


if __name__ == "__main__":
    sys.exit(_main())
