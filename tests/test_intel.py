"""Intel GPUs, read from trees of the files that the kernel has for them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, MemoryKind, Ram, State
from quantpick.probes.intel import parse_window, probe_devices
from tests.support.sysfs import GIB, SMALL_WINDOW, denying, place, write, write_card

if TYPE_CHECKING:
    from quantpick.domain.sighting import Answer, Sighting

RAM = Ram(total=32 * GIB, available=20 * GIB, source="test")


def probe(root: Path) -> Answer:
    """Return what is seen of a tree."""
    return probe_devices(place(root), RAM)


def only(root: Path) -> Sighting:
    """Return the one device that is seen of a tree."""
    (sighting,) = probe(root).sightings
    return sighting


def write_arc(root: Path, number: int = 0, pci: str = "0000:03:00.0") -> str:
    """Write an Arc A770 without any word of its memory; return its device's folder."""
    return write_card(root, number, pci, vendor="0x8086", device="0x56a0", resource=SMALL_WINDOW)


def write_integrated(root: Path, number: int = 0) -> str:
    """Write a UHD 770; return its device's folder."""
    return write_card(root, number, "0000:00:02.0", vendor="0x8086", device="0x4680")


def test_xe_tells_the_memory_of_each_tile(tmp_path: Path) -> None:
    device = write_arc(tmp_path)
    for tile in (0, 1):
        write(tmp_path, f"{device}/tile{tile}/physical_vram_size_bytes", 8 * GIB)
    card = only(tmp_path)
    assert (card.total, card.usable, card.free) == (16 * GIB, None, None)
    assert (card.memory_kind, card.integrated) == (MemoryKind.DEDICATED, False)
    assert (card.name, card.pci) == ("Intel GPU [8086:56a0]", "0000:03:00.0")
    assert (card.source, card.backends) == ("Intel driver", (Backend.VULKAN,))


def test_a_tile_that_does_not_tell_makes_the_sum_unknown(tmp_path: Path) -> None:
    device = write_arc(tmp_path)
    write(tmp_path, f"{device}/tile0/physical_vram_size_bytes", 8 * GIB)
    write(tmp_path, f"{device}/tile1/gt1/freq0/max_freq", 2400)
    assert only(tmp_path).total is None


@pytest.mark.parametrize("below", ["", "/device"], ids=["card", "device"])
def test_i915_tells_memory_beside_the_card_or_its_device(below: str, tmp_path: Path) -> None:
    write_arc(tmp_path)
    folder = f"/sys/class/drm/card0{below}"
    write(tmp_path, f"{folder}/lmem_total_bytes", 17179869184)
    card = only(tmp_path)
    assert (card.total, card.free) == (16 * GIB, None)
    write(tmp_path, f"{folder}/lmem_avail_bytes", 12 * GIB)
    assert only(tmp_path).free == 12 * GIB
    write(tmp_path, f"{folder}/lmem_avail_bytes", 99 * GIB)
    assert only(tmp_path).free == 16 * GIB
    assert [state.detail for state in probe(tmp_path).states] == ["1 device"]


def test_a_card_whose_driver_tells_nothing_has_unknown_memory(tmp_path: Path) -> None:
    write_arc(tmp_path)
    card = only(tmp_path)
    assert (card.total, card.usable, card.free) == (None, None, None)
    assert (card.memory_kind, card.integrated) == (MemoryKind.DEDICATED, False)
    (state,) = probe(tmp_path).states
    # The window that the bus shows is no more than a lower bound.
    assert "0000:03:00.0 does not tell its memory (0.2 GiB or more)" in state.detail


def test_the_processors_gpu_shares_the_hosts_memory(tmp_path: Path) -> None:
    write_integrated(tmp_path)
    gpu = only(tmp_path)
    assert (gpu.total, gpu.usable, gpu.free) == (32 * GIB, None, 20 * GIB)
    assert (gpu.memory_kind, gpu.integrated) == (MemoryKind.UNIFIED, True)
    assert (gpu.name, gpu.backends) == ("Intel GPU [8086:4680]", (Backend.VULKAN,))


def test_a_card_in_a_virtual_machine_may_sit_where_the_processors_does(tmp_path: Path) -> None:
    device = write_integrated(tmp_path)
    write(tmp_path, f"{device}/tile0/physical_vram_size_bytes", 12 * GIB)
    gpu = only(tmp_path)
    assert (gpu.total, gpu.integrated) == (12 * GIB, False)


def test_the_processors_gpu_and_two_cards_all_stay(tmp_path: Path) -> None:
    write_integrated(tmp_path)
    write_card(tmp_path, 1, "0000:01:00.0", vendor="0x1002", mem_info_vram_total=GIB)
    write_arc(tmp_path, 2, "0000:03:00.0")
    write_arc(tmp_path, 3, "0000:07:00.0")
    answer = probe(tmp_path)
    assert [(gpu.pci, gpu.integrated) for gpu in answer.sightings] == [
        ("0000:00:02.0", True),
        ("0000:03:00.0", False),
        ("0000:07:00.0", False),
    ]
    assert answer.states[0].detail.startswith("3 devices")


def test_a_machine_without_a_card_is_quiet(tmp_path: Path) -> None:
    answer = probe(tmp_path)
    assert (answer.sightings, answer.caveats) == ((), ())
    assert [state.state for state in answer.states] == [State.NOT_INSTALLED]
    write(tmp_path, "/sys/module/i915/refcnt", 0)
    assert [state.state for state in probe(tmp_path).states] == [State.NOTHING]


@denying
def test_a_card_that_may_not_be_read_leaves_the_other(tmp_path: Path) -> None:
    write_arc(tmp_path, 0)
    write_integrated(tmp_path, 1)
    write(tmp_path, "/sys/class/drm/card0/lmem_total_bytes", GIB)
    (tmp_path / "sys/class/drm/card0/lmem_total_bytes").chmod(0)
    answer = probe(tmp_path)
    assert [gpu.pci for gpu in answer.sightings] == ["0000:00:02.0"]
    assert [state.state for state in answer.states] == [State.OK, State.NO_PERMISSION]
    assert [caveat.code for caveat in answer.caveats] == ["intel_unreadable"]


@given(st.text())
@example("\n" * 2**20)
@example("0x" + "f" * 2**20)
@example("\n\n0xf 0x0 0x0")
def test_a_window_is_read_from_any_text(text: str) -> None:
    window = parse_window(text)
    assert window is None or window > 0


def test_a_window_is_the_third_of_the_resources() -> None:
    assert parse_window(SMALL_WINDOW) == 268435456


@given(st.data())
def test_garbage_in_every_file_is_survived(data: st.DataObject) -> None:
    figure = st.sampled_from([b"0", b"8589934592", b"0x56a0", b"-1", b"1e9", b"9" * 5000])
    garbage = figure | st.binary(max_size=100)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        device = write_arc(root)
        files = ("device", "uevent", "resource", "tile0/physical_vram_size_bytes")
        for path in (*files, "lmem_total_bytes", "lmem_avail_bytes"):
            write(root, f"{device}/{path}", "")
            (root / f"{device}/{path}".lstrip("/")).write_bytes(data.draw(garbage))
        answer = probe(root)
    (sighting,) = answer.sightings
    assert answer.states
    assert sighting.total is None or sighting.total > 0
    assert sighting.free is None or 0 <= sighting.free <= (sighting.total or 0)
