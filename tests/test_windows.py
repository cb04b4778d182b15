"""What quantpick sees of GPUs on Windows, from registries as public reports show them.

No Windows is at hand: the registry and the performance counters are the tests' own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, MemoryKind, Ram, SourceState, State
from quantpick.probes import windows
from quantpick.probes.protocol import Place
from quantpick.probes.run import run
from tests.support.windows_registry import Keys, card, device, directx, last_seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantpick.domain.sighting import Answer, Sighting

MIB, GIB = 2**20, 2**30
QWORD, DWORD = "HardwareInformation.qwMemorySize", "HardwareInformation.MemorySize"

#: What the 32 bits of AdapterRAM say of any card with 4 GiB or more.
CAPPED = 4293918720

RAM = Ram(32 * GIB, 20 * GIB, "psutil")

RTX_3080_TI = card(0, "NVIDIA GeForce RTX 3080 Ti", r"pci\ven_10de&dev_2208", **{QWORD: 12 * GIB})
DX_3080_TI = directx(
    "6E7F7740-1BF4-11F0-BA18-70321790B3B0",
    "NVIDIA GeForce RTX 3080 Ti",
    121035,
    VendorId=0x10DE,
    DedicatedVideoMemory=12673089536,
    SharedSystemMemory=17132810240,
)
RX_580 = card(
    0, "Radeon RX 580 Series", r"PCI\VEN_1002&DEV_67DF", **{QWORD: 8 * GIB, DWORD: CAPPED}
)
UHD_770 = card(1, "Intel(R) UHD Graphics 770", r"pci\ven_8086&dev_4680", **{QWORD: GIB})
BASIC_RENDER = directx("0000", "Microsoft Basic Render Driver", 94260, VendorId=5140)


def probe(
    *parts: dict[str, dict[str, object]], ram: Ram = RAM, used: Mapping[str, int] | None = None
) -> Answer:
    place = Place(Path("/"), {}, run, "win32")
    return windows.probe_devices(place, ram, registry=Keys(*parts), usage=lambda: used or {})


def names(answer: Answer) -> list[str]:
    return [sighting.name for sighting in answer.sightings]


def only(answer: Answer) -> Sighting:
    (sighting,) = answer.sightings
    return sighting


# Memory


def test_a_card_has_the_memory_that_its_driver_wrote(tmp_path: Path) -> None:
    place = Place(tmp_path, {}, run, "win32")
    answer = windows.probe_devices(place, RAM, registry=Keys(RX_580), usage=dict)
    gpu = only(answer)
    assert (gpu.source, gpu.name, gpu.total) == (
        "Windows registry",
        "Radeon RX 580 Series",
        8 * GIB,
    )
    assert (gpu.backends, gpu.bandwidth, gpu.pci) == ((Backend.VULKAN,), None, None)
    assert (gpu.memory_kind, gpu.integrated) == (MemoryKind.DEDICATED, None)
    assert (gpu.usable, gpu.free) == (None, None)
    assert answer.states == (SourceState("Windows registry", State.OK, "1 device"),)
    assert answer.caveats == ()


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({QWORD: 8 * GIB, DWORD: CAPPED}, 8 * GIB),
        ({QWORD: (24 * GIB).to_bytes(8, "little")}, 24 * GIB),
        ({QWORD: 0, DWORD: 2 * GIB}, 2 * GIB),
        ({DWORD: 3 * GIB}, 3 * GIB),
        ({DWORD: (512 * MIB).to_bytes(4, "little")}, 512 * MIB),
        ({DWORD: 1024}, GIB),
        ({DWORD: CAPPED}, None),
        ({DWORD: b"\x00\xf0\xff\x7f"}, None),
        ({DWORD: 0xFFFFFFFF}, None),
        ({DWORD: 8 * GIB}, None),
        ({DWORD: b"123"}, None),
        ({DWORD: "8 GB"}, None),
        ({}, None),
    ],
)
def test_the_older_value_counts_only_without_the_newer_and_below_its_end(
    values: dict[str, object], size: int | None
) -> None:
    assert only(probe(card(0, "Radeon", r"pci\ven_1002&dev_67df", **values))).total == size


def test_names_of_values_have_no_case() -> None:
    values = {QWORD.upper(): 4 * GIB}
    assert only(probe(card(0, "Radeon", r"pci\ven_1002", **values))).total == 4 * GIB


def test_what_directx_gives_to_programs_is_usable() -> None:
    gpu = only(probe(RTX_3080_TI, DX_3080_TI))
    assert (gpu.total, gpu.usable, gpu.free) == (12 * GIB, 12673089536, None)
    (cut,) = gpu.cuts
    assert (cut.code, cut.size) == ("reserved", 12 * GIB - 12673089536)
    assert gpu.backends == (Backend.CUDA, Backend.VULKAN)


def test_directx_tells_a_memory_that_the_driver_does_not() -> None:
    arc = card(0, "Intel(R) Arc(TM) A770", r"pci\ven_8086&dev_56a0", **{DWORD: b"\0\xf0\xff\x7f"})
    listed = directx("1", "Intel(R) Arc(TM) A770", 7, DedicatedVideoMemory=16 * GIB)
    gpu = only(probe(arc, listed))
    assert (gpu.total, gpu.usable, gpu.cuts) == (16 * GIB, 16 * GIB, ())
    assert gpu.integrated is None


def test_usable_is_never_more_than_there_is() -> None:
    listed = directx("1", "Radeon RX 580 Series", 7, DedicatedVideoMemory=9 * GIB)
    gpu = only(probe(RX_580, listed))
    assert (gpu.total, gpu.usable, gpu.cuts) == (8 * GIB, 8 * GIB, ())


# What is free


def test_what_is_in_use_is_not_free() -> None:
    listed = directx("1", "Radeon RX 580 Series", 0x1532A, DedicatedVideoMemory=8 * GIB - MIB)
    counters = {
        "luid_0x00000000_0x0001532a_phys_0": GIB,
        "luid_0x00000000_0x00017034_phys_0": 0,
        "luid_0x00000000_0x00017099_phys_0": 3 * GIB,
    }
    gpu = only(probe(RX_580, listed, BASIC_RENDER, used=counters))
    assert (gpu.free, gpu.free_source) == (7 * GIB - MIB, "GPU Adapter Memory")


def test_a_luid_has_64_bits_and_a_card_may_have_parts() -> None:
    listed = directx("1", "Radeon RX 580 Series", 0x2_0001532A)
    counters = {
        "luid_0x00000002_0x0001532A_phys_0": GIB,
        "luid_0x00000002_0x0001532A_phys_1": 2 * GIB,
        "luid_0x00000000_0x0001532A_phys_0": 8 * GIB,
    }
    assert only(probe(RX_580, listed, used=counters)).free == 5 * GIB


def test_more_in_use_than_there_is_leaves_nothing() -> None:
    listed = directx("1", "Radeon RX 580 Series", 1)
    assert only(probe(RX_580, listed, used={"luid_0x0_0x1_phys_0": 9 * GIB})).free == 0


def test_an_adapter_that_the_counters_do_not_know_has_unknown_use() -> None:
    # After a start, DirectX still has the adapters' numbers of the last one for a while.
    listed = directx("1", "Radeon RX 580 Series", 1)
    gpu = only(probe(RX_580, listed, used={"luid_0x0_0x2_phys_0": GIB}))
    assert (gpu.free, gpu.free_source) == (None, None)


def test_counters_that_fail_leave_the_use_unknown() -> None:
    def usage() -> Mapping[str, int]:
        raise OSError("the performance counters answer 0xc0000bb8")

    place = Place(Path("/"), {}, run, "win32")
    listed = directx("1", "Radeon RX 580 Series", 1)
    answer = windows.probe_devices(place, RAM, registry=Keys(RX_580, listed), usage=usage)
    assert (only(answer).total, only(answer).free) == (8 * GIB, None)


# Which cards are there


def test_a_card_that_directx_does_not_list_was_removed() -> None:
    old = card(1, "NVIDIA GeForce GTX 1080", r"pci\ven_10de&dev_1b80", **{QWORD: 8 * GIB})
    assert names(probe(RTX_3080_TI, old, DX_3080_TI)) == ["NVIDIA GeForce RTX 3080 Ti"]
    assert len(names(probe(RTX_3080_TI, old))) == 2


def test_the_software_renderer_alone_is_no_list() -> None:
    assert names(probe(RX_580, BASIC_RENDER)) == ["Radeon RX 580 Series"]


def test_a_card_that_directx_saw_before_the_last_time_was_removed() -> None:
    old = card(1, "NVIDIA GeForce GTX 1080", r"pci\ven_10de&dev_1b80", **{QWORD: 8 * GIB})
    was = directx("1", "NVIDIA GeForce GTX 1080", 5, LastSeen=100)
    now = directx("2", "NVIDIA GeForce RTX 3080 Ti", 6, LastSeen=200)
    assert names(probe(RTX_3080_TI, old, was, now, last_seen(200))) == [
        "NVIDIA GeForce RTX 3080 Ti"
    ]
    assert len(names(probe(RTX_3080_TI, old, was, now))) == 2
    assert len(names(probe(RTX_3080_TI, old, was, now, last_seen(300)))) == 2


def test_an_adapter_is_also_known_by_its_ids() -> None:
    listed = directx("1", "AMD Radeon RX 580 2048SP", 3, VendorId=0x1002, DeviceId=0x67DF)
    assert only(probe(RX_580, listed, used={"luid_0x0_0x3_phys_0": GIB})).free == 7 * GIB


def test_a_pci_device_leads_from_its_card_to_its_adapter() -> None:
    twins = [
        card(number, "Radeon RX 580 Series", r"pci\ven_1002&dev_67df", **{QWORD: 8 * GIB})
        for number in (0, 1)
    ]
    devices = [
        device("VEN_1002&DEV_67DF", 0, (3, 0, 0), "AAAA"),
        device("VEN_1002&DEV_67DF", 1, (0x10A, 0, 1), "BBBB"),
    ]
    listed = [
        directx("bbbb", "Radeon RX 580 Series", 1),
        directx("aaaa", "Radeon RX 580 Series", 2),
    ]
    counters = {"luid_0x0_0x1_phys_0": GIB, "luid_0x0_0x2_phys_0": 2 * GIB}
    answer = probe(*twins, *devices, *listed, used=counters)
    found = [(gpu.pci, gpu.free) for gpu in answer.sightings]
    assert found == [("0000:03:00.0", 6 * GIB), ("0001:0a:00.1", 7 * GIB)]
    assert answer.states[0].detail == "2 devices"


def test_twins_that_nothing_tells_apart_have_unknown_use() -> None:
    twins = [
        card(number, "Radeon RX 580 Series", r"pci\ven_1002&dev_67df", **{QWORD: 8 * GIB})
        for number in (0, 1)
    ]
    listed = [directx(str(luid), "Radeon RX 580 Series", luid) for luid in (1, 2)]
    answer = probe(*twins, *listed, used={"luid_0x0_0x1_phys_0": GIB, "luid_0x0_0x2_phys_0": GIB})
    assert [(gpu.total, gpu.free) for gpu in answer.sightings] == [(8 * GIB, None)] * 2


def test_a_key_that_no_device_has_any_more_is_no_card() -> None:
    old = card(1, "Radeon RX 580 Series", r"pci\ven_1002&dev_67df", **{QWORD: 8 * GIB})
    listed = directx("aaaa", "Radeon RX 580 Series", 1)
    moved = device("VEN_1002&DEV_67DF", 0, (3, 0, 0), "AAAA")
    assert only(probe(RX_580, old, listed, moved)).pci == "0000:03:00.0"


def test_a_card_in_its_former_slot_is_not_there_twice() -> None:
    former = card(1, "Radeon RX 580 Series", r"pci\ven_1002&dev_67df", **{QWORD: 8 * GIB})
    devices = [
        device("VEN_1002&DEV_67DF", 0, (3, 0, 0), "AAAA"),
        device("VEN_1002&DEV_67DF", 1, (4, 0, 0), "BBBB"),
    ]
    listed = [
        directx("aaaa", "Radeon RX 580 Series", 1, LastSeen=9),
        directx("bbbb", "Radeon RX 580 Series", 2, LastSeen=8),
    ]
    assert only(probe(RX_580, former, *devices, *listed, last_seen(9))).pci == "0000:03:00.0"


@pytest.mark.parametrize(
    "model",
    [
        r"root\indirectdisplay",
        r"pci\ven_15ad&dev_0405",
        r"pci\ven_1af4&dev_1050",
        r"pci\ven_1a03&dev_2000",
        r"pci\cc_0300",
        r"vmbus\{da0a7802-e377-4aac-8e77-0558eb1073f8}",
        "",
    ],
    ids=["virtual display", "VMware", "virtio", "server board", "basic", "Hyper-V", "none"],
)
def test_a_display_adapter_that_does_not_compute_is_no_gpu(model: str) -> None:
    answer = probe(card(0, "Display", model, **{QWORD: GIB}))
    assert (answer.sightings, answer.states[0].state) == ((), State.NOTHING)


def test_other_keys_of_the_class_are_no_cards() -> None:
    path = rf"{windows.DISPLAY_CLASS}\Properties"
    assert names(probe({path: {"DriverDesc": "x", "MatchingDeviceId": r"pci\ven_10de"}})) == []


def test_nothing_is_seen_where_there_is_no_registry() -> None:
    answer = windows.probe_devices(Place(Path("/"), {}, run, "win32"), RAM, registry=Keys())
    assert answer.states == (SourceState("Windows registry", State.NOTHING),)


# Integrated GPUs


def test_intels_integrated_gpu_has_a_part_of_the_ram() -> None:
    listed = directx("1", "Intel(R) UHD Graphics 770", 1, SharedSystemMemory=17132810240)
    place = device("VEN_8086&DEV_4680", 1, (0, 2, 0), "1")
    gpu = only(probe(UHD_770, listed, place, used={"luid_0x0_0x1_phys_0": GIB}))
    assert (gpu.memory_kind, gpu.integrated, gpu.pci) == (MemoryKind.UNIFIED, True, "0000:00:02.0")
    assert (gpu.total, gpu.usable, gpu.free) == (32 * GIB, 17132810240, 17132810240)
    (cut,) = gpu.cuts
    assert (cut.code, cut.size) == ("shared_limit", 32 * GIB - 17132810240)


def test_what_an_integrated_gpu_may_use_is_bounded_by_the_ram_that_is_free() -> None:
    listed = directx("1", "Intel(R) UHD Graphics 770", 1, SharedSystemMemory=16 * GIB)
    gpu = only(probe(UHD_770, listed, ram=Ram(32 * GIB, 3 * GIB, "psutil")))
    assert (gpu.usable, gpu.free, gpu.free_source) == (16 * GIB, 3 * GIB, "psutil")


def test_an_integrated_gpu_is_known_by_the_little_memory_it_shows() -> None:
    gpu = only(probe(UHD_770))
    assert (gpu.memory_kind, gpu.integrated) == (MemoryKind.UNIFIED, True)
    assert (gpu.total, gpu.usable, gpu.free, gpu.cuts) == (32 * GIB, None, 20 * GIB, ())


def test_intels_cards_have_their_own_memory() -> None:
    arc = card(0, "Intel(R) Arc(TM) A380", r"pci\ven_8086&dev_56a5", **{QWORD: 2 * GIB})
    gpu = only(probe(arc, device("VEN_8086&DEV_56A5", 0, (3, 0, 0), "1")))
    assert (gpu.memory_kind, gpu.integrated, gpu.total) == (MemoryKind.DEDICATED, False, 2 * GIB)


def test_a_laptop_has_both() -> None:
    answer = probe(RTX_3080_TI, UHD_770)
    assert [gpu.total for gpu in answer.sightings] == [12 * GIB, 32 * GIB]
    assert [gpu.integrated for gpu in answer.sightings] == [None, True]


# Parsers

ANY = st.none() | st.booleans() | st.integers() | st.text() | st.binary(max_size=9)
VALUES = st.dictionaries(
    st.sampled_from(
        [
            *("driverdesc", "matchingdeviceid", "description", "vendorid", "deviceid"),
            *("adapterluid", "dedicatedvideomemory", "sharedsystemmemory", "lastseen"),
            *(QWORD.lower(), DWORD.lower()),
        ]
    ),
    ANY | st.just(r"pci\ven_10de&dev_2684"),
)


@given(VALUES, st.text())
def test_the_parsers_survive_any_values(values: dict[str, object], text: str) -> None:
    windows.parse_card(text, values)
    windows.parse_adapter(text, values)
    windows.parse_location(text)
    windows.parse_usage({text: 1})
    size = windows.parse_memory(values)
    assert size is None or size > 0


SIZES = st.none() | st.integers(0, 64 * GIB)


@given(
    st.sampled_from(["10de", "1002", "8086"]),
    st.tuples(SIZES, SIZES, SIZES, SIZES),
    st.integers(0, 64 * GIB),
    st.none() | st.integers(0, 32 * GIB),
)
def test_what_is_free_is_usable_and_what_is_usable_is_there(
    vendor: str, sizes: tuple[int | None, ...], used: int, available: int | None
) -> None:
    own, older, dedicated, shared = sizes
    listed = directx("1", "x", 1, DedicatedVideoMemory=dedicated, SharedSystemMemory=shared)
    gpu = only(
        probe(
            card(0, "x", rf"pci\ven_{vendor}&dev_0001", **{QWORD: own, DWORD: older}),
            listed,
            ram=Ram(32 * GIB, available, "psutil"),
            used={"luid_0x0_0x1_phys_0": used},
        )
    )
    known = [size for size in (gpu.free, gpu.usable, gpu.total) if size is not None]
    assert known == sorted(known)
    assert sum(cut.size for cut in gpu.cuts) == (gpu.total or 0) - (gpu.usable or gpu.total or 0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("PCI bus 1, device 0, function 0", None),
        ("@System32\\drivers\\pci.sys,#65536;PCI-Bus %1, Gerät %2;(1,0,0)", "0000:01:00.0"),
        ("(0,2,0)", "0000:00:02.0"),
        ("(256,31,7)", "0001:00:1f.7"),
        ("(" * 2**20 + "1,2,", None),
        ("None", None),
    ],
    ids=["words", "German", "bare", "second segment", "a megabyte", "none"],
)
def test_a_place_is_read_from_its_numbers(text: str, address: str | None) -> None:
    assert windows.parse_location(text) == address
