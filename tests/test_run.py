"""Other programs are run without trust: they may hang, flood, crash, or leave children behind."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from quantpick.probes.engine import probe_engine
from quantpick.probes.protocol import Place
from quantpick.probes.run import OUTPUT_LIMIT, Output, run
from tests.support.llama_programs import VERSION_2025, write_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs are shell scripts")

PATIENCE = 30.0


def run_script(folder: Path, script: str, timeout: float = PATIENCE) -> Output:
    """Run a shell script as a program."""
    return run([str(write_program(folder, script))], timeout=timeout, env={"PATH": os.defpath})


def test_both_outputs_and_the_status_come_back(tmp_path: Path) -> None:
    assert run_script(tmp_path, "echo one; echo two >&2; exit 7") == (7, "one\n", "two\n")
    assert run_script(tmp_path, "kill -9 $$").status == -9


def test_what_is_too_much_is_read_and_dropped(tmp_path: Path) -> None:
    script = "head -c 5000000 /dev/zero | tr '\\0' a; head -c 5000000 /dev/zero >&2; echo done"
    status, stdout, stderr = run_script(tmp_path, script)
    assert (status, len(stdout), len(stderr)) == (0, OUTPUT_LIMIT, OUTPUT_LIMIT)


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    assert run_script(tmp_path, "printf '\\377\\000x'")[1] == "\ufffd\0x"


def test_stdin_is_at_its_end(tmp_path: Path) -> None:
    assert run_script(tmp_path, "cat; read line; echo $?")[1] == "1\n"


@pytest.mark.parametrize(
    "script",
    ["sleep 1000", "sleep 1000 & wait", "sleep 1000 & exit 0", "yes", "trap '' TERM INT; yes >&2"],
    ids=["hangs", "waits for its child", "leaves a child with the outputs", "floods", "stubborn"],
)
def test_a_program_that_does_not_end_is_ended_with_its_children(
    script: str, tmp_path: Path
) -> None:
    note = f"echo $$ > {tmp_path}/pid\n{script}"
    with pytest.raises(TimeoutError, match="llama-server did not answer within"):
        run_script(tmp_path, note, timeout=2)  # enough for the note on a busy machine
    group = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + PATIENCE
    # What is killed is gone a moment later.
    while _alive(group) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _alive(group) == []


def _alive(group: int) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _runs_in(process, group)]


def _runs_in(process: psutil.Process, group: int) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and _group(process) == group
    except psutil.NoSuchProcess:
        return False


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def test_a_program_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        run([str(tmp_path / "missing")], timeout=PATIENCE, env={})


@pytest.mark.parametrize(
    "script",
    ["", "head -c 3000000 /dev/urandom", "head -c 3000000 /dev/urandom >&2; exit 3", "kill -11 $$"],
    ids=["silent", "random", "random on stderr", "crashes"],
)
def test_an_engine_that_talks_nonsense_is_a_state(script: str, tmp_path: Path) -> None:
    program = write_program(tmp_path, script)
    answer = probe_engine(Place(tmp_path, {"PATH": os.defpath}, run, "linux"), program)
    assert answer.engine is not None
    assert answer.engine.build is None
    assert not answer.listed
    assert len(answer.states) == 1


def test_an_engine_that_floods_its_version_is_read(tmp_path: Path) -> None:
    script = f'echo "{VERSION_2025}"; head -c 3000000 /dev/zero'
    program = write_program(tmp_path, script)
    answer = probe_engine(Place(tmp_path, {"PATH": os.defpath}, run, "linux"), program)
    assert answer.engine is not None
    assert answer.engine.build == 6795
