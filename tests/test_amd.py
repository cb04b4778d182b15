"""AMD GPUs, read from trees of the files that the kernel has for them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, MemoryKind, Ram, State
from quantpick.probes.amd import parse_name, probe_devices
from quantpick.probes.drm import parse_hex, parse_slot
from tests.support.sysfs import (
    GIB,
    MIB,
    place,
    write,
    write_amd,
    write_apu,
    write_card,
    write_node,
    write_rocm,
)

if TYPE_CHECKING:
    from quantpick.domain.sighting import Answer, Sighting

RAM = Ram(total=125 * GIB, available=100 * GIB, source="test")
BOTH = (Backend.ROCM, Backend.VULKAN)
HBM2 = {"heap_type": 1, "size_in_bytes": 16 * GIB, "width": 2048, "mem_clk_max": 945}


def probe(root: Path, ram: Ram = RAM) -> Answer:
    """Return what is seen of a tree."""
    return probe_devices(place(root), ram)


def only(root: Path, ram: Ram = RAM) -> Sighting:
    """Return the one device that is seen of a tree."""
    (sighting,) = probe(root, ram).sightings
    return sighting


def sizes(sighting: Sighting) -> tuple[int | None, int | None, int | None, int]:
    """Return a device's memory: all, usable, free, and how much of it is RAM."""
    return sighting.total, sighting.usable, sighting.free, sighting.gtt


# Cards


def test_a_card_has_its_memory_and_not_the_window_on_it(tmp_path: Path) -> None:
    write_amd(
        tmp_path, 0, "0000:2F:00.0", mem_info_vram_total=12868124672, mem_info_vram_used=868124672
    )
    write(
        tmp_path,
        "/usr/share/libdrm/amdgpu.ids",
        "# List of names\n1.0.0\n73DF,\tC0,\tRadeon RX 6750 XT\n73DF,\tC1,\tRadeon RX 6700 XT",
    )
    card = only(tmp_path)
    assert sizes(card) == (12868124672, 12868124672, 12000000000, 0)
    assert (card.memory_kind, card.integrated) == (MemoryKind.DEDICATED, False)
    assert (card.name, card.pci) == ("Radeon RX 6700 XT", "0000:2f:00.0")
    assert (card.source, card.backends, card.cuts) == ("amdgpu", (Backend.VULKAN,), ())


def test_a_card_joins_its_compute_node_by_its_render_node(tmp_path: Path) -> None:
    write_amd(
        tmp_path,
        1,
        "0000:03:00.0",
        device="0x744c",
        mem_info_vram_total=24 * GIB,
        mem_info_vram_used=4 * GIB,
        product_name="Radeon RX 7900 XTX",
    )
    write_node(tmp_path, 0, cpu_cores_count=16, simd_count=0, drm_render_minor=0)
    write_node(tmp_path, 1, HBM2, simd_count=96, gfx_target_version=100100, drm_render_minor=130)
    write_node(
        tmp_path,
        2,
        {"heap_type": 1, "size_in_bytes": 24 * GIB, "width": 384, "mem_clk_max": 1249},
        simd_count=192,
        gfx_target_version=110000,
        drm_render_minor=129,
        unique_id=0x1A2B,
    )
    write_rocm(tmp_path)
    answer = probe(tmp_path)
    (card,) = answer.sightings
    assert (card.name, card.arch, card.backends) == ("Radeon RX 7900 XTX", "gfx1100", BOTH)
    assert (card.fp16, card.bf16) == (True, True)
    assert card.uuid == "GPU-0000000000001a2b"
    # GDDR6 moves more than twice a clock.
    assert card.bandwidth is None
    assert sizes(card) == (24 * GIB, 24 * GIB, 20 * GIB, 0)
    assert [(s.state, s.detail) for s in answer.states] == [(State.OK, "1 device")]
    assert answer.caveats == ()


def test_an_accelerator_without_a_screen_is_a_card(tmp_path: Path) -> None:
    # A virtual machine's vendor of memory is not told; the board is.
    device = write_amd(
        tmp_path,
        0,
        "0000:05:00.0",
        device="0x74a1",
        mem_info_vram_total=206141652992,
        mem_info_vram_used=297000000,
        mem_info_gtt_total=900 * GIB,
        board_info="type : oam",
        current_compute_partition="SPX",
    )
    (tmp_path / device.lstrip("/") / "mem_info_vram_vendor").unlink()
    bank = {"heap_type": 1, "size_in_bytes": 206141652992, "width": 8192, "mem_clk_max": 1300}
    write_node(tmp_path, 2, bank, simd_count=1216, gfx_target_version=90402, location_id=0x500)
    write_rocm(tmp_path)
    card = only(tmp_path)
    assert (card.arch, card.memory_kind, card.integrated) == ("gfx942", MemoryKind.DEDICATED, False)
    assert (card.total, card.free) == (206141652992, 206141652992 - 297000000)
    assert card.name == "AMD GPU [1002:74a1]"
    assert (card.backends, card.bandwidth) == (BOTH, None)


def test_bandwidth_of_hbm2_is_width_times_twice_the_clock(tmp_path: Path) -> None:
    write_amd(tmp_path, 0, "0000:03:00.0", mem_info_vram_total=16 * GIB)
    write_node(tmp_path, 1, HBM2, simd_count=256, gfx_target_version=90000, drm_render_minor=128)
    assert only(tmp_path).bandwidth == 483_840_000_000


def test_two_cards_of_one_kind_both_stay(tmp_path: Path) -> None:
    for number, pci in ((10, "0000:83:00.0"), (2, "0000:03:00.0")):
        write_amd(tmp_path, number, pci, mem_info_vram_total=24 * GIB, mem_info_vram_used=0)
    cards = probe(tmp_path).sightings
    assert [card.pci for card in cards] == ["0000:03:00.0", "0000:83:00.0"]
    assert {sizes(card) for card in cards} == {(24 * GIB, 24 * GIB, 24 * GIB, 0)}


def test_more_used_than_there_is_leaves_nothing_free(tmp_path: Path) -> None:
    write_amd(tmp_path, 0, "0000:03:00.0", mem_info_vram_total=GIB, mem_info_vram_used=2 * GIB)
    assert only(tmp_path).free == 0


def test_a_file_that_cannot_be_read_leaves_its_figure_unknown(tmp_path: Path) -> None:
    for number in (0, 1):
        write_amd(tmp_path, number, f"0000:0{number}:00.0", mem_info_vram_used=GIB)
    folder = tmp_path / "sys/class/drm/card0/device"
    (folder / "mem_info_vram_total").mkdir()
    write(tmp_path, "/sys/class/drm/card1/device/mem_info_vram_total", 8 * GIB)
    unknown, known = probe(tmp_path).sightings
    assert sizes(unknown) == (None, None, None, 0)
    assert sizes(known) == (8 * GIB, 8 * GIB, 7 * GIB, 0)
    (state,) = probe(tmp_path).states
    assert "0000:00:00.0 does not tell its memory" in state.detail


# GPUs inside processors


def test_a_small_carve_out_and_the_gtt_count_together(tmp_path: Path) -> None:
    write_apu(
        tmp_path,
        1,
        "0000:c5:00.0",
        512 * MIB,
        64 * GIB,
        mem_info_vram_used=112 * MIB,
        mem_info_gtt_used=4 * GIB,
    )
    apu = only(tmp_path)
    whole = 64 * GIB + 512 * MIB
    assert sizes(apu) == (whole, whole, 60 * GIB + 400 * MIB, 64 * GIB)
    assert (apu.memory_kind, apu.integrated) == (MemoryKind.CARVE_OUT_GTT, True)
    assert apu.cuts == ()


def test_a_large_carve_out_counts_alone(tmp_path: Path) -> None:
    write_apu(tmp_path, 1, "0000:c5:00.0", 96 * GIB, 16 * GIB, mem_info_vram_used=6 * GIB)
    apu = only(tmp_path, Ram(total=31 * GIB, available=20 * GIB, source="test"))
    assert sizes(apu) == (96 * GIB, 96 * GIB, 90 * GIB, 0)
    assert (apu.memory_kind, apu.integrated) == (MemoryKind.CARVE_OUT_GTT, True)


def test_gtt_counts_up_to_the_ram_there_is(tmp_path: Path) -> None:
    write_apu(tmp_path, 1, "0000:c5:00.0", 512 * MIB, 128 * GIB)
    apu = only(tmp_path, Ram(total=124 * GIB, available=50 * GIB, source="test"))
    assert sizes(apu) == (
        128 * GIB + 512 * MIB,
        124 * GIB + 512 * MIB,
        50 * GIB + 512 * MIB,
        124 * GIB,
    )
    assert [(cut.code, cut.size) for cut in apu.cuts] == [("gtt_beyond_ram", 4 * GIB)]


def test_rocm_gets_what_its_node_tells(tmp_path: Path) -> None:
    # One machine of 128 GB: GTT set to 128 GiB, and HIP gave 62.47 GiB.
    write_apu(tmp_path, 1, "0000:c5:00.0", 512 * MIB, 128 * GIB)
    bank = {"heap_type": 1, "size_in_bytes": 62 * GIB, "width": 256, "mem_clk_max": 1000}
    system = {"heap_type": 0, "size_in_bytes": 8 * GIB}
    write_node(
        tmp_path, 1, bank, system, simd_count=80, gfx_target_version=110501, drm_render_minor=129
    )
    whole = 125 * GIB + 512 * MIB
    assert only(tmp_path).usable == whole
    write_rocm(tmp_path)
    apu = only(tmp_path)
    assert (apu.arch, apu.backends) == ("gfx1151", BOTH)
    # The carve-out stays out of it: all that ROCm has is RAM.
    assert (apu.usable, apu.free, apu.gtt) == (62 * GIB, 62 * GIB, 62 * GIB)
    assert [(cut.code, cut.size) for cut in apu.cuts] == [
        ("gtt_beyond_ram", 3 * GIB),
        ("rocm_limit", whole - 62 * GIB),
    ]


def test_what_is_free_of_an_apu_is_unknown_without_the_available_ram(tmp_path: Path) -> None:
    write_apu(tmp_path, 1, "0000:c5:00.0", 512 * MIB, 64 * GIB)
    apu = only(tmp_path, RAM._replace(available=None))
    assert (apu.usable, apu.free) == (64 * GIB + 512 * MIB, None)


def test_without_a_carve_out_all_memory_is_the_hosts(tmp_path: Path) -> None:
    write_apu(tmp_path, 1, "0000:01:00.0", 0, 120 * GIB, mem_info_gtt_used=30 * GIB)
    apu = only(tmp_path)
    assert sizes(apu) == (125 * GIB, 120 * GIB, 90 * GIB, 0)
    assert (apu.memory_kind, apu.integrated) == (MemoryKind.UNIFIED, True)
    assert sum(cut.size for cut in apu.cuts) == 5 * GIB


def test_half_told_memory_of_an_apu_is_unknown(tmp_path: Path) -> None:
    device = write_apu(tmp_path, 1, "0000:c5:00.0", 512 * MIB, 64 * GIB)
    (tmp_path / device.lstrip("/") / "mem_info_gtt_total").unlink()
    apu = only(tmp_path)
    assert (sizes(apu), apu.integrated) == ((None, None, None, 0), True)


def test_an_old_kernel_tells_an_unknown_vendor_of_an_apus_memory(tmp_path: Path) -> None:
    write_apu(tmp_path, 1, "0000:c5:00.0", 2 * GIB, 8 * GIB, mem_info_vram_vendor="unknown")
    apu = only(tmp_path)
    assert (apu.integrated, apu.usable) == (True, 10 * GIB)


def test_the_processors_gpu_is_told_from_the_card_beside_it(tmp_path: Path) -> None:
    write_amd(tmp_path, 0, "0000:03:00.0", mem_info_vram_total=24 * GIB, mem_info_vram_used=0)
    write_apu(tmp_path, 1, "0000:13:00.0", 512 * MIB, 30 * GIB)
    write_card(tmp_path, 2, "0000:01:00.0", vendor="0x10de", mem_info_vram_total=8 * GIB)
    card, apu = probe(tmp_path).sightings
    assert (card.pci, card.integrated, card.total) == ("0000:03:00.0", False, 24 * GIB)
    assert (apu.pci, apu.integrated) == ("0000:13:00.0", True)
    assert apu.total == 30 * GIB + 512 * MIB


# Nothing there


def test_a_machine_without_a_card_has_no_driver(tmp_path: Path) -> None:
    write_card(tmp_path, 0, "0000:01:00.0", vendor="0x10de")
    answer = probe(tmp_path)
    assert (answer.sightings, answer.caveats) == ((), ())
    assert [state.state for state in answer.states] == [State.NOT_INSTALLED]


def test_a_driver_without_a_card_has_nothing(tmp_path: Path) -> None:
    write(tmp_path, "/sys/module/amdgpu/refcnt", 0)
    assert [state.state for state in probe(tmp_path).states] == [State.NOTHING]


def test_wsl_hides_amd_cards_and_the_user_can_state_one(tmp_path: Path) -> None:
    write(tmp_path, "/dev/dxg", "")
    answer = probe(tmp_path)
    assert (answer.sightings, answer.caveats) == ((), ())
    (state,) = answer.states
    assert (state.state, "--vram" in state.advice) == (State.NOTHING, True)


# What the kernel would not write


@given(st.text(), st.integers(min_value=0))
@example("0x" + "f" * 2**20, 0)
@example("PCI_SLOT_NAME=" + "0" * 2**20, 0)
@example(" " * 2**20, 1)
@example("," * 2**20, 1)
@example("0" * 2**20 + ",\t", 0)
@example("1586,\t" * 2**16, 0x1586)
def test_parsers_take_any_text(text: str, number: int) -> None:
    assert parse_hex(text) is None or text.strip()
    assert parse_slot(text) is None or "PCI_SLOT_NAME=" in text.upper()
    assert parse_name(text, number, number) is None or "," in text


#: Every file that is read of a card and a node.
FILES = (
    *("vendor", "device", "revision", "uevent", "product_name", "board_info"),
    *("mem_info_vram_total", "mem_info_vram_used", "mem_info_gtt_total", "mem_info_gtt_used"),
    *("mem_info_vram_vendor", "current_compute_partition"),
)


@given(st.data())
def test_garbage_in_every_file_is_survived(data: st.DataObject) -> None:
    # Some figures are good ones, else nothing is read behind them.
    figure = st.sampled_from([b"0", b"7", b"8589934592", b"0x1002", b"SPX", b"CPX", b"-1", b"1e9"])
    rows = st.lists(
        st.tuples(
            st.sampled_from(
                (
                    b"simd_count gfx_target_version drm_render_minor unique_id heap_type "
                    b"size_in_bytes width mem_clk_max location_id"
                ).split()
            ),
            st.integers(min_value=-1, max_value=2**70).map(lambda n: str(n).encode())
            | st.sampled_from([b"128", b"1", b"90000"]),
        ).map(b" ".join)
    ).map(b"\n".join)
    garbage = figure | st.binary(max_size=100)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        device = write_amd(root, 0, "0000:03:00.0")
        write_rocm(root)
        paths = [f"{device}/{name}" for name in FILES if name != "vendor"]
        for number in (1, 2):
            node = write_node(root, number, {"heap_type": 1})
            for path in (f"{node}/properties", f"{node}/mem_banks/0/properties"):
                (root / path.lstrip("/")).write_bytes(data.draw(rows | garbage))
        for path in paths:
            (root / path.lstrip("/")).write_bytes(data.draw(garbage))
        environ = {"HIP_VISIBLE_DEVICES": data.draw(st.text())}
        answer = probe_devices(place(root, environ), RAM)
    assert answer.states
    assert answer.sightings
    for sighting in answer.sightings:
        known = [
            size for size in (sighting.free, sighting.usable, sighting.total) if size is not None
        ]
        assert known == sorted(known)
        assert all(size >= 0 for size in known)
        assert 0 not in known[-1:]
