"""What quantpick sees of a Mac's GPUs, from what its programs and files say there.

No Mac is at hand: the programs' outputs are those that public reports show, and the child program
that asks Metal runs for real, against libraries that stand for Apple's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, MemoryKind, Ram, SourceState, State
from quantpick.domain.working_set import working_set
from quantpick.probes import apple
from quantpick.probes.protocol import Place
from quantpick.probes.run import Output, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantpick.domain.sighting import Answer, Sighting

MIB, GIB = 2**20, 2**30

ARM_MAC = """\
hw.optional.arm64: 1
sysctl.proc_translated: 0
machdep.cpu.brand_string: {chip}
iogpu.wired_limit_mb: {wired}
"""
INTEL_MAC = "machdep.cpu.brand_string: Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz\n"

PLIST = """\
<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
\t<key>ProductName</key>
\t<string>macOS</string>
\t<key>ProductVersion</key>
\t<string>{version}</string>
</dict></plist>
"""

RADEON = {
    "_name": "AMD Radeon Pro 5500M",
    "sppci_bus": "spdisplays_pcie_device",
    "sppci_model": "AMD Radeon Pro 5500M",
    "spdisplays_vendor": "sppci_vendor_amd",
    "spdisplays_vram": "8 GB",
    "spdisplays_ndrvs": [{"_name": "Color LCD"}],
}
UHD_630 = {
    "_name": "Intel UHD Graphics 630",
    "sppci_bus": "spdisplays_builtin",
    "sppci_model": "Intel UHD Graphics 630",
    "spdisplays_vendor": "Intel",
    "_spdisplays_vram": "1536 MB",
    "spdisplays_vram_shared": "1536 MB",
}


class Mac:
    """Answers for a Mac's programs; the child prints ``metal``, or does not answer for None."""

    def __init__(self, sysctl: str, metal: str | None = None, displays: str | None = None) -> None:
        self._answers = {"sysctl": sysctl, "system_profiler": displays, sys.executable: metal}
        self.asked: list[str] = []

    def __call__(self, words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
        """Answer as the program of that name does."""
        assert timeout > 0
        assert env == {"LANG": "C"}
        name = words[0] if words[0] == sys.executable else Path(words[0]).name
        self.asked.append(name)
        answer = self._answers[name]
        if answer is None:
            raise TimeoutError(f"{words[0]} did not answer within {timeout:g} s")
        return Output(0, answer, "")


def metal(size: int, name: str = "Apple M4 Max") -> str:
    return json.dumps({"device": {"name": name, "recommendedMaxWorkingSetSize": size}})


def silicon(wired: int = 0, chip: str = "Apple M4 Max") -> str:
    return ARM_MAC.format(chip=chip, wired=wired)


def probe(mac: Mac, root: Path, ram: int, available: int | None, macos: str = "") -> Answer:
    if macos:
        file = root / "System/Library/CoreServices/SystemVersion.plist"
        file.parent.mkdir(parents=True)
        file.write_text(PLIST.format(version=macos), "utf-8")
    place = Place(root, {"LANG": "C"}, mac, "darwin")
    return apple.probe_devices(place, Ram(ram, available, "psutil"))


def only(answer: Answer) -> Sighting:
    (sighting,) = answer.sightings
    return sighting


def state(answer: Answer) -> SourceState:
    (told,) = answer.states
    assert told.source == apple.SOURCE
    return told


# Apple Silicon


def test_metal_tells_what_a_gpu_may_use(tmp_path: Path) -> None:
    limit = working_set(128 * GIB, 26)
    answer = probe(Mac(silicon(), metal(limit)), tmp_path, 128 * GIB, 120 * GIB)
    gpu = only(answer)
    assert (gpu.source, gpu.name) == ("Metal", "Apple M4 Max")
    assert (gpu.memory_kind, gpu.integrated) == (MemoryKind.UNIFIED, True)
    assert (gpu.backends, gpu.fp16, gpu.bf16) == ((Backend.METAL,), True, True)
    assert (gpu.total, gpu.usable, gpu.usable_source) == (128 * GIB, limit, "Metal")
    assert (gpu.free, gpu.bandwidth) == (limit, None)
    (cut,) = gpu.cuts
    assert (cut.code, cut.size) == ("working_set", 128 * GIB - limit)
    assert state(answer) == SourceState("Metal", State.OK, "1 device")
    assert answer.caveats == ()


def test_other_programs_memory_is_not_free(tmp_path: Path) -> None:
    mac = Mac(silicon(), metal(working_set(16 * GIB, 26)))
    gpu = only(probe(mac, tmp_path, 16 * GIB, 5 * GIB))
    assert (gpu.free, gpu.free_source) == (5 * GIB, "psutil")
    assert gpu.usable == working_set(16 * GIB, 26)


def test_free_is_unknown_where_available_ram_is(tmp_path: Path) -> None:
    gpu = only(probe(Mac(silicon(), metal(11 * GIB)), tmp_path, 16 * GIB, None))
    assert (gpu.free, gpu.free_source) == (None, None)


def test_metal_is_asked_once_and_the_slow_profiler_never(tmp_path: Path) -> None:
    mac = Mac(silicon(), metal(11 * GIB))
    probe(mac, tmp_path, 16 * GIB, None)
    assert mac.asked == ["sysctl", sys.executable]


def test_metals_word_goes_before_the_setting(tmp_path: Path) -> None:
    mac = Mac(silicon(wired=26000, chip="Apple M1 Max"), metal(26000 * MIB - 16384))
    gpu = only(probe(mac, tmp_path, 32 * GIB, 30 * GIB))
    assert (gpu.usable, gpu.usable_source) == (26000 * MIB - 16384, "Metal")


def test_the_setting_decides_where_metal_does_not_answer(tmp_path: Path) -> None:
    mac = Mac(silicon(wired=26000, chip="Apple M1 Max"))
    answer = probe(mac, tmp_path, 32 * GIB, 30 * GIB, macos="15.6")
    gpu = only(answer)
    assert gpu.name == "Apple M1 Max"
    assert (gpu.usable, gpu.usable_source) == (26000 * MIB, "iogpu.wired_limit_mb")
    assert state(answer).state is State.OK
    assert "iogpu.wired_limit_mb" in state(answer).detail


def test_a_setting_above_the_ram_is_all_of_it(tmp_path: Path) -> None:
    gpu = only(probe(Mac(silicon(wired=65536)), tmp_path, 32 * GIB, 31 * GIB))
    assert (gpu.total, gpu.usable, gpu.free) == (32 * GIB, 32 * GIB, 31 * GIB)
    assert gpu.cuts == ()


def test_metals_word_above_the_ram_is_all_of_it(tmp_path: Path) -> None:
    gpu = only(probe(Mac(silicon(), metal(64 * GIB)), tmp_path, 32 * GIB, 31 * GIB))
    assert (gpu.usable, gpu.free, gpu.cuts) == (32 * GIB, 31 * GIB, ())


@pytest.mark.parametrize(
    ("version", "major"),
    [("26.0.1", 26), ("16.0", 26), ("15.6", 15), ("10.16", 10), ("27.1", 27)],
    ids=["26", "26 as old programs see it", "15", "11 as old programs see it", "27"],
)
def test_a_setting_of_0_leaves_it_to_macos(tmp_path: Path, version: str, major: int) -> None:
    gpu = only(probe(Mac(silicon()), tmp_path, 64 * GIB, 60 * GIB, macos=version))
    assert gpu.usable == working_set(64 * GIB, major)
    assert gpu.usable_source == f"an estimate by macOS {major}"


def test_an_unknown_macos_gives_the_smaller_estimate(tmp_path: Path) -> None:
    gpu = only(probe(Mac(silicon()), tmp_path, 64 * GIB, 60 * GIB))
    assert (gpu.usable, gpu.usable_source) == (48 * GIB, "an estimate")


@pytest.mark.parametrize("answer", ["", "null", "[1]", '{"device": 3}', '{"other": null}', "{"])
def test_metals_answer_may_be_nonsense(tmp_path: Path, answer: str) -> None:
    gpu = only(probe(Mac(silicon(), answer), tmp_path, 64 * GIB, None))
    assert (gpu.name, gpu.usable) == ("Apple M4 Max", 48 * GIB)


@pytest.mark.parametrize("size", [0, -1, True, "12", None, 1.5])
def test_a_working_set_of_nonsense_is_none(tmp_path: Path, size: object) -> None:
    text = json.dumps({"device": {"name": "Apple M4", "recommendedMaxWorkingSetSize": size}})
    gpu = only(probe(Mac(silicon(), text), tmp_path, 64 * GIB, None))
    assert (gpu.name, gpu.usable, gpu.usable_source) == ("Apple M4", 48 * GIB, "an estimate")


def test_a_virtual_mac_without_a_metal_device_has_none(tmp_path: Path) -> None:
    answer = probe(Mac(silicon(chip="Apple M2 (Virtual)"), '{"device": null}'), tmp_path, GIB, None)
    assert answer.sightings == ()
    assert state(answer).state is State.NOTHING


def test_rosetta_does_not_make_an_intel_mac(tmp_path: Path) -> None:
    translated = "sysctl.proc_translated: 1\nmachdep.cpu.brand_string: VirtualApple @ 2.50GHz\n"
    gpu = only(probe(Mac(translated), tmp_path, 16 * GIB, None))
    assert (gpu.name, gpu.memory_kind) == ("Apple GPU", MemoryKind.UNIFIED)


# Intel Macs


def displays(*entries: object) -> str:
    return json.dumps({"SPDisplaysDataType": entries})


def test_an_intel_mac_has_what_the_profiler_lists(tmp_path: Path) -> None:
    mac = Mac(INTEL_MAC, displays=displays(UHD_630, RADEON))
    answer = probe(mac, tmp_path, 16 * GIB, 10 * GIB)
    shared, own = answer.sightings
    assert (shared.name, own.name) == ("Intel UHD Graphics 630", "AMD Radeon Pro 5500M")
    assert (shared.memory_kind, shared.integrated) == (MemoryKind.UNIFIED, True)
    assert (shared.total, shared.usable, shared.free) == (16 * GIB, 1536 * MIB, 1536 * MIB)
    assert shared.cuts[0].size == 16 * GIB - 1536 * MIB
    assert (own.memory_kind, own.integrated) == (MemoryKind.DEDICATED, False)
    assert (own.total, own.usable, own.free, own.cuts) == (8 * GIB, 8 * GIB, None, ())
    assert {each.source for each in answer.sightings} == {"system_profiler"}
    assert {each.backends for each in answer.sightings} == {(Backend.METAL,)}
    assert {each.bf16 for each in answer.sightings} == {None}
    assert state(answer) == SourceState("Metal", State.OK, "2 devices")
    assert sys.executable not in mac.asked


def test_memory_is_also_found_under_its_other_name(tmp_path: Path) -> None:
    entry = {"_name": "AMD Radeon R9", "sppci_bus": "spdisplays_pcie_device"}
    mac = Mac(INTEL_MAC, displays=displays({**entry, "_spdisplays_vram": "4096 MB"}))
    gpu = only(probe(mac, tmp_path, 16 * GIB, None))
    assert (gpu.name, gpu.total) == ("AMD Radeon R9", 4 * GIB)


def test_what_the_profiler_leaves_out_is_unknown(tmp_path: Path) -> None:
    mac = Mac(INTEL_MAC, displays=displays({"sppci_model": "Graphics"}, UHD_630 | NO_MEMORY))
    odd, shared = probe(mac, tmp_path, 16 * GIB, 9 * GIB).sightings
    assert (odd.memory_kind, odd.total, odd.usable, odd.integrated) == (None, None, None, None)
    assert (shared.total, shared.usable, shared.free) == (16 * GIB, None, 9 * GIB)
    assert (shared.usable_source, shared.cuts) == (None, ())


NO_MEMORY = {"_spdisplays_vram": "much", "spdisplays_vram_shared": "much"}


def test_a_mac_may_have_no_graphics(tmp_path: Path) -> None:
    answer = probe(Mac(INTEL_MAC, displays=displays()), tmp_path, 16 * GIB, None)
    assert (answer.sightings, state(answer).state) == ((), State.NOTHING)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"SPDisplaysDataType": 1}', "[" * 100_000])
def test_an_unreadable_list_is_a_failure_with_advice(tmp_path: Path, text: str) -> None:
    answer = probe(Mac(INTEL_MAC, displays=text), tmp_path, 16 * GIB, None)
    assert (answer.sightings, state(answer).state) == ((), State.FAILED)
    assert "SPDisplaysDataType" in state(answer).advice


def test_a_silent_sysctl_is_a_failure_with_advice(tmp_path: Path) -> None:
    answer = probe(Mac(""), tmp_path, 16 * GIB, None)
    assert (answer.sightings, state(answer).state) == ((), State.FAILED)
    assert state(answer).advice


# The child program

FAKE_METAL = """
#include <stddef.h>
static char device, name;
#ifdef NO_DEVICE
void *MTLCreateSystemDefaultDevice(void) { return NULL; }
#else
void *MTLCreateSystemDefaultDevice(void) { return &device; }
#endif
"""
FAKE_OBJC = """
#include <stdint.h>
#include <string.h>
const char *sel_registerName(const char *name) { return name; }
static char string;
uint64_t objc_msgSend(void *self, const char *selector) {
    if (!strcmp(selector, "recommendedMaxWorkingSetSize")) return 115448725504u;
    if (!strcmp(selector, "name")) return (uint64_t)(uintptr_t)&string;
    if (self == &string && !strcmp(selector, "UTF8String"))
        return (uint64_t)(uintptr_t)"Apple M5 Max";
    return 0;
}
"""


def build(source: str, library: Path, *options: str) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("libraries that stand for Apple's need a C compiler and Linux")
    library.parent.mkdir(parents=True)
    words = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), *options]
    subprocess.run(words, input=source, text=True, check=True)


def system(root: Path, *options: str) -> None:
    frameworks = root / "System/Library/Frameworks"
    build("", frameworks / "CoreGraphics.framework/CoreGraphics")
    build(FAKE_METAL, frameworks / "Metal.framework/Metal", *options)
    build(FAKE_OBJC, root / "usr/lib/libobjc.A.dylib")


class MacWithMetal(Mac):
    """A Mac whose child program runs for real."""

    def __call__(self, words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
        """Answer as the program of that name does, or run it."""
        if words[0] == sys.executable:
            return run(words, timeout=60, env=env)
        return super().__call__(words, timeout=timeout, env=env)


def test_the_child_asks_metal(tmp_path: Path) -> None:
    system(tmp_path)
    gpu = only(probe(MacWithMetal(silicon()), tmp_path, 128 * GIB, 127 * GIB))
    assert (gpu.name, gpu.usable, gpu.usable_source) == ("Apple M5 Max", 115448725504, "Metal")


def test_the_child_tells_of_no_device(tmp_path: Path) -> None:
    system(tmp_path, "-DNO_DEVICE")
    answer = probe(MacWithMetal(silicon()), tmp_path, 128 * GIB, None)
    assert (answer.sightings, state(answer).state) == ((), State.NOTHING)


def test_the_child_may_find_no_libraries(tmp_path: Path) -> None:
    gpu = only(probe(MacWithMetal(silicon()), tmp_path, 64 * GIB, None))
    assert (gpu.usable, gpu.usable_source) == (48 * GIB, "an estimate")


# Parsers


@given(st.text() | st.text('[{"device: null}0123456789,]<>/key string.'))
@example("1" * 5000)
@example("[" * 200_000)
@example("<key>ProductVersion</key>" + " " * 2**20)
@example("iogpu.wired_limit_mb: 9" * 40_000)
def test_the_parsers_survive_any_text(text: str) -> None:
    parsers = (
        *(apple.parse_sysctl, apple.parse_macos, apple.parse_wired_limit),
        *(apple.parse_metal, apple.parse_displays, apple.parse_vram),
    )
    for parse in parsers:
        parse(text)


@given(st.dictionaries(st.sampled_from(sorted({*RADEON, *UHD_630})), st.text() | st.integers()))
def test_any_entry_of_the_profiler_is_a_gpu(entry: dict[str, object]) -> None:
    listed = apple.parse_displays(displays(entry, "no entry"))
    assert listed is not None
    assert len(listed) == 1
    assert listed[0].name


@pytest.mark.parametrize(
    ("text", "size"),
    [("8 GB", 8 * GIB), ("1536 MB", 1536 * MIB), ("0 MB", None), ("8", None), ("Apple M4", None)],
)
def test_a_size_is_in_binary_units(text: str, size: int | None) -> None:
    assert apple.parse_vram(text) == size
