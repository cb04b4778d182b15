"""A Vulkan loader that answers what a test wrote, and the machine it is asked on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from quantpick.domain.host import Ram, SourceState, State
from quantpick.probes import vulkan
from quantpick.probes.protocol import Place
from quantpick.probes.run import Output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from quantpick.domain.sighting import Answer, Sighting

GIB, MIB = 2**30, 2**20
RAM = Ram(total=32 * GIB, available=20 * GIB, source="test")
MANIFEST = "usr/share/vulkan/icd.d/radeon_icd.x86_64.json"

UUID_A, UUID_B = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
OTHER, INTEGRATED, DISCRETE, VIRTUAL, CPU = range(5)
AMD, NVIDIA, INTEL = 0x1002, 0x10DE, 0x8086
AMD_PROPRIETARY, AMD_OPEN_SOURCE, RADV, NVIDIA_PROPRIETARY, INTEL_WINDOWS, ANV = 1, 2, 3, 4, 5, 6
LLVMPIPE, MOLTENVK, DOZEN, NVK = 13, 14, 23, 24


# What a driver describes


def heap(
    size: int, *, local: bool = True, budget: int | None = None, usage: int | None = None
) -> dict[str, object]:
    return {"size": size, "device_local": local, "budget": budget, "usage": usage}


def gpu(name: str, **facts: object) -> dict[str, object]:
    """Return a device as the child prints it: a Radeon RX 7900 XTX unless told otherwise."""
    return {
        "name": name,
        "type": DISCRETE,
        "vendor": AMD,
        "driver": RADV,
        "uuid": UUID_A,
        "luid": None,
        "pci": [0, 3, 0, 0],
        "fp16": True,
        "bf16": True,
        "storage16": True,
        "heaps": [heap(24560 * MIB), heap(15 * GIB, local=False)],
        **facts,
    }


RADEON = gpu("AMD Radeon RX 7900 XTX (RADV NAVI31)")
LLVMPIPE_ROW = gpu(
    "llvmpipe (LLVM 15.0.6, 256 bits)",
    type=CPU,
    vendor=0x10005,
    driver=LLVMPIPE,
    uuid=UUID_B,
    pci=None,
    bf16=False,
    heaps=[heap(2 * GIB)],
)


# A machine whose loader answers that


class Loader:
    """A runner that answers what a test wrote, and keeps what it was asked."""

    def __init__(self, stdout: str, status: int = 0, stderr: str = "") -> None:
        self.output = Output(status, stdout, stderr)
        self.asked: list[Sequence[str]] = []

    def __call__(self, words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
        """Answer, whatever the program, the time and the environment."""
        del timeout, env
        self.asked.append(words)
        return self.output


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def ask(root: Path, loader: Loader, *, ram: Ram = RAM, system: str = "linux", **env: str) -> Answer:
    return vulkan.probe_devices(Place(root, env, loader, system), ram)


def see(root: Path, *rows: Mapping[str, object], ram: Ram = RAM, **env: str) -> list[Sighting]:
    """Return what is seen where the loader lists these devices, on a machine with a GPU node."""
    touch(root, MANIFEST, "dev/dri/renderD128")
    answer = ask(root, Loader(json.dumps({"devices": rows}) + "\n"), ram=ram, **env)
    count = len(answer.sightings)
    assert [state.state for state in answer.states] == [State.OK if count else State.NOTHING]
    assert answer.caveats == ()
    return list(answer.sightings)


def state_of(answer: Answer) -> SourceState:
    """Return the one state of an answer without devices."""
    assert answer.sightings == ()
    (state,) = answer.states
    assert state.source == vulkan.SOURCE
    return state
