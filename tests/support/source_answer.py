"""Asks NVML in a process of its own, whose library path decides what driver it finds.

Run as a program it prints the answer as JSON; imported it runs that program and reads it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantpick.domain.host import Backend, Caveat, Cut, MemoryKind, Ram, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.probes.nvidia import probe_devices
from quantpick.probes.protocol import here

if TYPE_CHECKING:
    from tests.support.command import Command

#: The memory of every machine asked.
RAM = Ram(128 * 2**30, 100 * 2**30, "/proc/meminfo")

_ROOT = Path(__file__).parents[2]


def ask_nvml(machine: Command, **env: str) -> Answer:
    """Return what NVML answers on a machine; it may print nothing besides."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.source_answer"],
        cwd=_ROOT,
        env=machine.environment(**env),
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return _read(json.loads(done.stdout))


def _write(answer: Answer) -> str:
    sightings = [sighting._asdict() for sighting in answer.sightings]
    return json.dumps([sightings, answer.states, answer.caveats])


def _read(document: list[Any]) -> Answer:
    sightings, states, caveats = document
    return Answer(
        tuple(_sighting(facts) for facts in sightings),
        tuple(SourceState(source, State(state), *rest) for source, state, *rest in states),
        tuple(Caveat(*caveat) for caveat in caveats),
    )


def _sighting(facts: dict[str, Any]) -> Sighting:
    kind = facts.pop("memory_kind")
    return Sighting(**facts)._replace(
        memory_kind=kind and MemoryKind(kind),
        cuts=tuple(Cut(*cut) for cut in facts["cuts"]),
        backends=tuple(Backend(backend) for backend in facts["backends"]),
    )


if __name__ == "__main__":
    sys.stdout.write(_write(probe_devices(here(), RAM)))
