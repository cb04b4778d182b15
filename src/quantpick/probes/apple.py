"""The GPUs of a Mac: Metal tells of Apple Silicon, the system's profiler of Intel Macs.

On Apple Silicon the GPU shares the RAM and may use a part of it: what Metal recommends, which
follows the ``iogpu.wired_limit_mb`` setting. Where Metal cannot be asked that setting decides, and
without one an estimate. What is free is also bounded by the RAM that is: Metal counts its own
process only.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.host import Backend, Cut, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.domain.units import GIB, MIB
from quantpick.domain.working_set import working_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantpick.domain.host import Ram
    from quantpick.probes.protocol import Place

SOURCE = "Metal"
SYSTEMS = ("darwin",)
TIME_LIMIT = 20.0

_ARM, _TRANSLATED = "hw.optional.arm64", "sysctl.proc_translated"
_BRAND, _WIRED = "machdep.cpu.brand_string", "iogpu.wired_limit_mb"
_SYSCTL = ("/usr/sbin/sysctl", "-i", _ARM, _TRANSLATED, _BRAND, _WIRED)
_PROFILER_NAME = "system_profiler"
_PROFILER = ("/usr/sbin/system_profiler", "-json", "SPDisplaysDataType")
_CHILD = Path(__file__).with_name("apple_child.py")
_VERSION_FILE = "/System/Library/CoreServices/SystemVersion.plist"

_SYSCTL_SECONDS, _METAL_SECONDS, _PROFILER_SECONDS = 3.0, 6.0, 15.0

_VERSION = re.compile(r"<key>ProductVersion</key>\s*<string>(\d{1,3})\b", re.ASCII)
_MEGABYTES = re.compile(r"\d{1,9}", re.ASCII)
_VRAM = re.compile(r"(\d{1,9}) ?(MB|GB)", re.ASCII)

#: Where an entry of the profiler has its memory, and the figure's unit: MB and GB mean 2^20 and
#: 2^30 bytes there.
_VRAM_KEYS = ("spdisplays_vram", "_spdisplays_vram", "spdisplays_vram_shared")
_UNITS = {"MB": MIB, "GB": GIB}


class Metal(NamedTuple):
    """Metal's default device: its name and working set in bytes, None where it does not tell."""

    name: str | None
    working_set: int | None


#: What Metal answers on a machine without a device, such as a virtual one.
NO_DEVICE = Metal(None, None)


class Graphics(NamedTuple):
    """A GPU as the profiler lists it; ``shared`` is whether its memory is the host's."""

    name: str
    memory: int | None
    shared: bool | None


def probe_devices(place: Place, ram: Ram) -> Answer:
    """Read the GPU of Apple Silicon, or all of an Intel Mac."""
    facts = parse_sysctl(_printed(place, _SYSCTL, _SYSCTL_SECONDS))
    if not facts:
        return _failed(
            "sysctl tells nothing of the processor", f"see what it prints: sysctl {_ARM}"
        )
    if _is_apple_silicon(facts):
        return _apple_silicon(place, ram, facts)
    return _intel_mac(place, ram)


def parse_sysctl(text: str) -> dict[str, str]:
    """Return what sysctl printed, by name."""
    rows = (line.partition(": ") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in rows if colon}


def parse_macos(plist: str) -> int | None:
    """Return the major version of macOS from its version file.

    To programs built before macOS 26 the system shows that file with a 16 in it (CPython issue
    135675); no macOS was ever released under 16 to 25.
    """
    match = _VERSION.search(plist)
    version = int(match[1]) if match else None
    return 26 if version in range(16, 26) else version


def parse_wired_limit(text: str) -> int | None:
    """Return the wired limit in bytes; None for 0, which leaves it to macOS."""
    return int(text) * MIB or None if _MEGABYTES.fullmatch(text) else None


def parse_metal(text: str) -> Metal | None:
    """Return what the child program printed, None where it is no answer."""
    answer = _parse_object(text)
    if answer is None or "device" not in answer:
        return None
    device = answer["device"]
    if not isinstance(device, dict):
        return NO_DEVICE if device is None else None
    name, size = device.get("name"), device.get("recommendedMaxWorkingSetSize")
    told = isinstance(size, int) and not isinstance(size, bool) and size > 0
    return Metal(name if isinstance(name, str) and name else "Apple GPU", size if told else None)


def parse_displays(text: str) -> tuple[Graphics, ...] | None:
    """Return the GPUs that the profiler lists, None where it lists nothing readable."""
    report = _parse_object(text)
    entries = report.get("SPDisplaysDataType") if report else None
    if not isinstance(entries, list):
        return None
    return tuple(_graphics(entry) for entry in entries if isinstance(entry, dict))


def parse_vram(text: str) -> int | None:
    """Return the bytes of a memory size such as ``8 GB`` or ``1536 MB``."""
    match = _VRAM.fullmatch(text.strip())
    return int(match[1]) * _UNITS[match[2]] or None if match else None


def _is_apple_silicon(facts: dict[str, str]) -> bool:
    """Whether the chip is Apple's, also where Rosetta shows a translated process an Intel one."""
    return "1" in {facts.get(_ARM), facts.get(_TRANSLATED)}


def _apple_silicon(place: Place, ram: Ram, facts: dict[str, str]) -> Answer:
    metal = _ask_metal(place)
    if metal == NO_DEVICE:
        return Answer(states=(SourceState(SOURCE, State.NOTHING, "Metal has no device here"),))
    brand = facts.get(_BRAND, "")
    chip = brand if brand.startswith("Apple ") else "Apple GPU"
    name = metal.name if metal and metal.name else chip
    usable, told_by = _limit(place, ram, facts, metal)
    sighting = _sharing_ram(name, ram, usable, told_by)._replace(fp16=True, bf16=True)
    detail = "1 device" if metal else f"1 device; Metal does not answer, its limit is {told_by}"
    return Answer((sighting,), (SourceState(SOURCE, State.OK, detail),))


def _ask_metal(place: Place) -> Metal | None:
    """Return Metal's default device, None where it cannot be asked."""
    if not sys.executable:
        return None
    words = (sys.executable, "-I", "-S", str(_CHILD), str(place.root))
    try:
        return parse_metal(_printed(place, words, _METAL_SECONDS))
    except OSError:
        # Not started or, as TimeoutError is one too, not ended: the limit is known without it.
        return None


def _limit(place: Place, ram: Ram, facts: dict[str, str], metal: Metal | None) -> tuple[int, str]:
    """Return the bytes that the GPU may use, and who says so.

    The setting is taken by the system even above the installed memory.
    """
    if metal and metal.working_set:
        return min(metal.working_set, ram.total), SOURCE
    wired = parse_wired_limit(facts.get(_WIRED, ""))
    if wired is not None:
        return min(wired, ram.total), _WIRED
    macos = parse_macos(place.read(_VERSION_FILE) or "")
    label = "an estimate" if macos is None else f"an estimate by macOS {macos}"
    return working_set(ram.total, macos), label


def _sharing_ram(name: str, ram: Ram, usable: int | None, told_by: str | None) -> Sighting:
    """Return a GPU that has a part of the host's RAM; all that is known where ``usable`` is not."""
    cut = ram.total - (ram.total if usable is None else usable)
    bounds = [size for size in (usable, ram.available) if size is not None]
    return Sighting(
        source=SOURCE,
        name=name,
        memory_kind=MemoryKind.UNIFIED,
        total=ram.total,
        usable=usable,
        free=None if ram.available is None else min(bounds),
        usable_source=told_by,
        free_source=None if ram.available is None else ram.source,
        cuts=(Cut("working_set", cut, f"macOS keeps it from the GPU ({told_by})"),) if cut else (),
        backends=(Backend.METAL,),
        integrated=True,
    )


def _intel_mac(place: Place, ram: Ram) -> Answer:
    listed = parse_displays(_printed(place, _PROFILER, _PROFILER_SECONDS))
    if listed is None:
        advice = f"see what it prints: {' '.join(_PROFILER[1:])}"
        return _failed("the system profiler lists no graphics", advice)
    if not listed:
        return Answer(states=(SourceState(SOURCE, State.NOTHING),))
    count = f"{len(listed)} device{'s' if len(listed) > 1 else ''}"
    sightings = tuple(_intel_sighting(graphics, ram) for graphics in listed)
    return Answer(sightings, (SourceState(SOURCE, State.OK, count),))


def _intel_sighting(graphics: Graphics, ram: Ram) -> Sighting:
    """Return a GPU of an Intel Mac, which may use what it has, or all of its part of the RAM."""
    name, memory, shared = graphics
    if shared:
        usable = None if memory is None else min(memory, ram.total)
        told_by = None if usable is None else _PROFILER_NAME
        return _sharing_ram(name, ram, usable, told_by)._replace(source=_PROFILER_NAME)
    return Sighting(
        source=_PROFILER_NAME,
        name=name,
        memory_kind=None if shared is None else MemoryKind.DEDICATED,
        total=memory,
        usable=memory,
        backends=(Backend.METAL,),
        integrated=shared,
    )


def _graphics(entry: dict[object, object]) -> Graphics:
    texts = {key: value for key, value in entry.items() if isinstance(value, str)}
    # The plain name may be a code, such as kHW_AppleM1Item.
    name = texts.get("sppci_model") or texts.get("_name") or "GPU"
    memory = next((parse_vram(texts[key]) for key in _VRAM_KEYS if key in texts), None)
    bus = texts.get("sppci_bus", "")
    if "spdisplays_vram_shared" in texts or bus == "spdisplays_builtin":
        return Graphics(name, memory, shared=True)
    return Graphics(name, memory, shared=False if "pcie" in bus else None)


def _parse_object(text: str) -> dict[str, object] | None:
    """Return the JSON object that a text is, None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _printed(place: Place, words: Sequence[str], seconds: float) -> str:
    return place.run(words, timeout=seconds, env=place.environ).stdout


def _failed(detail: str, advice: str) -> Answer:
    return Answer(states=(SourceState(SOURCE, State.FAILED, detail, advice),))
