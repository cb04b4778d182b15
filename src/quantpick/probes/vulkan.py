"""GPUs of any vendor as the Vulkan loader lists them.

The loader runs in a process of its own (``vulkan_child``), which a broken driver may take down.
What its answer means for llama.cpp is as in ggml-vulkan.cpp at build b11549, save where a comment
says otherwise.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from quantpick.domain.host import Backend, Caveat, Cut, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.probes.vulkan_listing import CPU, DISCRETE, INTEGRATED, NVIDIA, parse_listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from quantpick.domain.host import Ram
    from quantpick.probes.protocol import Place
    from quantpick.probes.run import Output
    from quantpick.probes.vulkan_listing import Gpu, Listing

SOURCE = "Vulkan"
SYSTEMS = ("linux", "win32")

#: Seconds for the process that asks the loader, and for the whole with its start.
_CHILD_LIMIT = 10.0
TIME_LIMIT = 12.0

_CHILD = Path(__file__).with_name("vulkan_child.py")

#: Where the loader finds driver manifests (its LoaderDriverInterface.md); the last is NixOS's.
_MANIFESTS = ("/usr/share", "/usr/local/share", "/etc", "/etc/xdg", "/run/opengl-driver/share")
_NAMED_DRIVERS = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES")
_UPDATE = "update the graphics driver, or name one that works in VK_DRIVER_FILES"
_VISIBLE = "GGML_VK_VISIBLE_DEVICES"

#: A PCI vendor, VkDriverId and VkResult.
_AMD = 0x1002
_MOLTENVK, _DOZEN = 14, 23
_INCOMPATIBLE_DRIVER = -9

#: From here on an exit status is a Windows exception, such as 0xC0000005.
_EXCEPTION = 0x80000000

#: Which of two drivers of one GPU llama.cpp takes: Mesa's RADV before AMD's two, Mesa's before
#: Intel's own, NVIDIA's own before NVK, Qualcomm's own before Turnip.
_PREFERRED = (3, 2, 1, 6, 5, 4, 24, 8, 18)


def probe_devices(place: Place, ram: Ram) -> Answer:
    """List the devices of all installed drivers; software ones are marked as such."""
    early = _nothing_to_ask(place) if place.system.startswith("linux") else None
    if early is not None:
        return early
    words = (sys.executable, "-I", "-S", str(_CHILD))
    output = place.run(words, timeout=_CHILD_LIMIT, env=place.environ)
    listing = parse_listing(output.stdout)
    if listing is None or output.status:
        return _trouble(State.FAILED, _ending(output), _UPDATE)
    if listing.missing is not None or listing.call is not None:
        return _refusal(listing)
    sightings = tuple(sight(listing.gpus, place.environ.get(_VISIBLE), ram))
    if not sightings:
        return _quiet(State.NOTHING, "no device")
    count = f"{len(sightings)} device{'s' if len(sightings) > 1 else ''}"
    return Answer(sightings, (SourceState(SOURCE, State.OK, count),))


def _nothing_to_ask(place: Place) -> Answer | None:
    """Return the answer of a Linux machine without driver or device node, None if it has both."""
    if any(place.environ.get(name) for name in _NAMED_DRIVERS):
        return None
    if not any(place.list(f"{folder}/vulkan/icd.d", "*.json") for folder in _MANIFESTS):
        return _quiet(State.NOT_INSTALLED, "no Vulkan driver")
    if place.list("/dev", "nvidia[0-9]*") or place.list("/dev", "dxg"):
        return None
    nodes = place.list("/dev/dri", "renderD*")
    if not nodes:
        return _quiet(State.NOTHING, "no GPU device node")
    if any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        return None
    return _trouble(
        State.NO_PERMISSION,
        f"no read and write access to /dev/dri/{nodes[0].name}",
        "add yourself to the group render; in a container pass --device /dev/dri and that group",
    )


def _refusal(listing: Listing) -> Answer:
    """Return what it means that the loader is not there or one of its calls failed."""
    if listing.missing is not None:
        return _quiet(State.NOT_INSTALLED, f"no {listing.missing}")
    if listing.result == _INCOMPATIBLE_DRIVER:
        return _quiet(State.NOT_INSTALLED, "no Vulkan driver that loads")
    return _trouble(State.FAILED, f"{listing.call} answered {listing.result}", _UPDATE)


def _quiet(state: State, detail: str) -> Answer:
    return Answer(states=(SourceState(SOURCE, state, detail),))


def _trouble(state: State, detail: str, advice: str) -> Answer:
    code = f"vulkan_{state.name.lower()}"
    caveat = Caveat(code, f"{SOURCE}: {detail}; {advice}")
    return Answer((), (SourceState(SOURCE, state, detail, advice),), (caveat,))


def _ending(output: Output) -> str:
    """Return in words how a child ended that did not answer."""
    if output.status < 0:
        try:
            name = signal.Signals(-output.status).name
        except ValueError:
            name = f"signal {-output.status}"
        return f"a driver crashed ({name})"
    if output.status >= _EXCEPTION:
        return f"a driver crashed (exception {output.status:#x})"
    last = output.stderr.strip().rpartition("\n")[2]
    return f"no answer from the loader ({last[:200]})" if last else "no answer from the loader"


def sight(gpus: tuple[Gpu, ...], variable: str | None, ram: Ram) -> Iterator[Sighting]:
    """Turn the loader's list into devices, each GPU once, in the loader's order.

    ``variable`` is the value of GGML_VK_VISIBLE_DEVICES, None where it is not set.
    """
    count = 1 + max((gpu.number for gpu in gpus), default=-1)
    chosen = None if variable is None else parse_visible(variable, count)
    hidden = {gpu.number: _hidden(gpu, variable, chosen) for gpu in gpus}
    for gpu in _each_once(gpus, hidden):
        # A software device that the variable names is wanted: the way to try Vulkan without a GPU.
        software = gpu.type == CPU and gpu.number not in (chosen or ())
        yield _sighting(gpu, ram)._replace(hidden=hidden[gpu.number], software=software)


def parse_visible(text: str, count: int) -> frozenset[int]:
    """Return which of ``count`` devices a list of indexes names.

    As llama.cpp reads it: what is no number ends the list, and an index that is out of range
    leaves no device at all.
    """
    chosen = set()
    for word in text.replace(",", " ").split():
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", word):
            break
        if not 0 <= int(word) < count:
            return frozenset()
        chosen.add(int(word))
    return frozenset(chosen)


def _hidden(gpu: Gpu, variable: str | None, chosen: frozenset[int] | None) -> str | None:
    """Return why llama.cpp does not use a device, None if it does."""
    if gpu.storage16 is False:
        return "no 16-bit storage, which llama.cpp needs"
    if chosen is not None:
        return None if gpu.number in chosen else f"{_VISIBLE}={variable}"
    if gpu.type == CPU:
        return "a processor posing as a GPU"
    if gpu.driver == _DOZEN:
        # It has less shared memory than llama.cpp's kernels need (llama.cpp#9516).
        return "Direct3D 12 posing as a Vulkan driver (Dozen)"
    if gpu.type not in {INTEGRATED, DISCRETE} and not gpu.memory:
        return "no memory of its own"
    return None


def _each_once(gpus: tuple[Gpu, ...], hidden: Mapping[int, str | None]) -> list[Gpu]:
    """Leave out what another driver shows of the same GPU; usable and preferred ones stay."""
    last = len(_PREFERRED)
    rank = {driver: order for order, driver in enumerate(_PREFERRED)}
    kept: list[Gpu] = []
    for gpu in sorted(
        gpus, key=lambda g: (hidden[g.number] is not None, rank.get(g.driver or 0, last), g.number)
    ):
        if not any(_same(gpu, other) for other in kept):
            kept.append(gpu)
    return sorted(kept, key=lambda gpu: gpu.number)


def _same(gpu: Gpu, other: Gpu) -> bool:
    """Whether two entries are one GPU.

    MoltenVK gives several GPUs one UUID (llama.cpp#19058). Other drivers that list a UUID twice
    list one GPU twice, as Intel's does on Windows (llama.cpp#19222).
    """
    if gpu.driver == other.driver == _MOLTENVK:
        return False
    return (gpu.uuid is not None and gpu.uuid == other.uuid) or (
        gpu.luid is not None and gpu.luid == other.luid
    )


def _sighting(gpu: Gpu, ram: Ram) -> Sighting:
    heaps = gpu.memory
    size = sum(heap.size for heap in heaps) or None
    frees = [heap.free for heap in heaps if heap.free is not None]
    bare = Sighting(
        source=SOURCE,
        name=gpu.name,
        memory_kind=MemoryKind.DEDICATED,
        total=size,
        usable=size,
        free=sum(frees) if heaps and len(frees) == len(heaps) else None,
        backends=(Backend.VULKAN,),
        fp16=gpu.fp16,
        bf16=gpu.bf16,
        integrated=gpu.shares_ram,
        pci=gpu.pci,
        uuid=_printed(gpu),
    )
    if not gpu.shares_ram:
        return bare
    # What an AMD APU has is part carve-out and part RAM, which its heaps do not tell apart.
    if gpu.vendor == _AMD:
        return bare._replace(memory_kind=None, usable=None)
    return _shared(bare, ram)


def _shared(sighting: Sighting, ram: Ram) -> Sighting:
    """Return a device whose memory is the host's: the driver's limit is all it adds."""
    total, offered = ram.total, sighting.usable
    usable = None if offered is None else min(offered, total)
    limits = (size for size in (sighting.free, usable, ram.available) if size is not None)
    cuts: tuple[Cut, ...] = ()
    if usable is not None and usable < total:
        message = "the Vulkan driver does not let its GPU have all RAM"
        cuts = (Cut("driver_limit", total - usable, message),)
    return sighting._replace(
        memory_kind=MemoryKind.UNIFIED,
        total=total,
        usable=usable,
        free=None if sighting.free is None else min(limits),
        cuts=cuts,
    )


def _printed(gpu: Gpu) -> str | None:
    """Return the UUID as the vendor prints it: NVML's is made of the same bytes."""
    if gpu.uuid is None:
        return None
    ends = (8, 12, 16, 20, 32)
    parts = "-".join(gpu.uuid[a:b] for a, b in zip((0, *ends), ends, strict=False))
    return f"GPU-{parts}" if gpu.vendor == NVIDIA else parts
