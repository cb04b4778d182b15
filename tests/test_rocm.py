"""What ROCm makes of AMD GPUs, read from trees of the kernel's compute nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, Ram, State
from quantpick.domain.visible_amd import hidden_by, parse_visible
from quantpick.probes.amd import probe_devices
from quantpick.probes.kfd import parse_gfx, parse_override, parse_rows
from tests.support.sysfs import GIB, denying, place, write, write_amd, write_node, write_rocm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from quantpick.domain.sighting import Answer

RAM = Ram(total=125 * GIB, available=100 * GIB, source="test")
BOTH = (Backend.ROCM, Backend.VULKAN)


def probe(root: Path, **environ: str) -> Answer:
    """Return what is seen of a tree."""
    return probe_devices(place(root, environ), RAM)


# ROCm or Vulkan


@pytest.fixture
def navi(tmp_path: Path) -> Path:
    """Return the tree of a card that ROCm runs on, and another that it does not."""
    targets = {1: 110000, 2: 100301}
    for number, target in targets.items():
        write_amd(tmp_path, number, f"0000:0{number}:00.0", mem_info_vram_total=8 * GIB)
        render = 128 + number
        write_node(
            tmp_path, number, simd_count=80, gfx_target_version=target, drm_render_minor=render
        )
    write_rocm(tmp_path)
    return tmp_path


def backends(root: Path, **environ: str) -> list[tuple[Backend, ...]]:
    """Return what can drive each device of a tree."""
    return [card.backends for card in probe(root, **environ).sightings]


def test_rocm_drives_the_targets_that_builds_are_made_for(navi: Path) -> None:
    assert backends(navi) == [BOTH, (Backend.VULKAN,)]
    assert "no build for gfx1031" in probe(navi).states[0].detail


@pytest.mark.parametrize(
    "library",
    [
        "/opt/rocm/lib/libamdhip64.so",
        "/usr/lib/x86_64-linux-gnu/libamdhip64.so.6",
        "/usr/lib64/libamdhip64.so.6.4",
        "/usr/lib/libamdhip64.so.7",
    ],
)
def test_rocm_needs_the_library_of_hip(library: str, navi: Path) -> None:
    (navi / "opt/rocm-7.2.1/lib/libamdhip64.so.7").unlink()
    assert backends(navi) == [(Backend.VULKAN,)] * 2
    assert "libamdhip64" in probe(navi).states[0].detail
    write(navi, library, "")
    assert backends(navi)[0] == BOTH


def test_rocm_needs_the_compute_device(navi: Path) -> None:
    (navi / "dev/kfd").unlink()
    assert backends(navi) == [(Backend.VULKAN,)] * 2
    (state,) = probe(navi).states
    assert (state.state, "/dev/kfd" in state.detail) == (State.OK, True)


def test_a_node_is_of_the_card_at_its_place_on_the_bus(tmp_path: Path) -> None:
    for number, target in ((1, 110000), (2, 100301)):
        write_amd(tmp_path, number, f"0000:0{number}:00.0", mem_info_vram_total=8 * GIB)
        place_on_bus = number << 8
        write_node(
            tmp_path, number, simd_count=80, gfx_target_version=target, location_id=place_on_bus
        )
    assert [card.arch for card in probe(tmp_path).sightings] == ["gfx1100", "gfx1031"]


def test_an_override_decides_what_rocm_takes_the_card_for(navi: Path) -> None:
    assert backends(navi, HSA_OVERRIDE_GFX_VERSION="10.3.0") == [BOTH, BOTH]
    answer = probe(navi, HSA_OVERRIDE_GFX_VERSION="10.3.0")
    assert "HSA_OVERRIDE_GFX_VERSION makes ROCm take every GPU for gfx1030" in (
        answer.states[0].detail
    )
    assert [card.arch for card in answer.sightings] == ["gfx1100", "gfx1031"]
    assert backends(navi, HSA_OVERRIDE_GFX_VERSION="9.0.0") == [(Backend.VULKAN,)] * 2


@denying
@pytest.mark.parametrize("installed", [True, False])
def test_without_permission_for_rocm_there_is_vulkan_and_advice(
    installed: bool,  # noqa: FBT001 -- a parameter of the test
    navi: Path,
) -> None:
    (navi / "dev/kfd").chmod(0)
    if not installed:
        (navi / "opt/rocm-7.2.1/lib/libamdhip64.so.7").unlink()
    answer = probe(navi)
    assert [card.backends for card in answer.sightings] == [(Backend.VULKAN,)] * 2
    assert [state.state for state in answer.states] == [State.OK, State.NO_PERMISSION]
    assert "groups render and video" in answer.states[1].advice
    # Who has no ROCm misses nothing.
    assert [caveat.code for caveat in answer.caveats] == ["amd_no_permission"] * installed


@denying
def test_a_card_that_may_not_be_read_leaves_the_other(navi: Path) -> None:
    (navi / "sys/class/drm/card1/device/mem_info_vram_total").chmod(0)
    (navi / "sys/class/kfd/kfd/topology/nodes/2/properties").chmod(0)
    answer = probe(navi)
    assert [(card.pci, card.arch) for card in answer.sightings] == [("0000:02:00.0", None)]
    assert [state.state for state in answer.states] == [State.OK, State.NO_PERMISSION]
    assert [caveat.code for caveat in answer.caveats] == ["amd_unreadable"]


# Which devices programs get


UUIDS = ("GPU-00000000000000aa", "GPU-00000000000000ab", None)


@pytest.mark.parametrize(
    ("environ", "visible"),
    [
        ({}, [0, 1, 2]),
        ({"ROCR_VISIBLE_DEVICES": ""}, []),
        ({"ROCR_VISIBLE_DEVICES": "2, 0"}, [0, 2]),
        ({"ROCR_VISIBLE_DEVICES": "0,-1,1"}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "1,1,2"}, [1]),
        ({"ROCR_VISIBLE_DEVICES": "3,0"}, []),
        ({"ROCR_VISIBLE_DEVICES": "gpu-00000000000000AB,2"}, [1, 2]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-0"}, []),
        ({"ROCR_VISIBLE_DEVICES": "GPU-"}, []),
        ({"HIP_VISIBLE_DEVICES": "1"}, [1]),
        ({"HIP_VISIBLE_DEVICES": ""}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, [2]),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "2"}, [0]),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "2"}, [2]),
        ({"HIP_VISIBLE_DEVICES": "-1"}, []),
        ({"ROCR_VISIBLE_DEVICES": "2,1", "HIP_VISIBLE_DEVICES": "0"}, [2]),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1"}, []),
    ],
)
def test_the_variables_choose_devices(environ: Mapping[str, str], visible: list[int]) -> None:
    hidden = hidden_by(environ, UUIDS)
    assert [index for index, why in enumerate(hidden) if why is None] == visible


def test_a_uuid_may_be_cut_but_not_to_nothing() -> None:
    assert parse_visible("GPU-0", UUIDS[:1]) == [0]
    assert parse_visible("GPU-", UUIDS[:1]) == []


def test_a_hidden_device_tells_the_variable_that_hides_it() -> None:
    environ = {"ROCR_VISIBLE_DEVICES": "2,1", "HIP_VISIBLE_DEVICES": "0"}
    assert hidden_by(environ, UUIDS) == (
        "ROCR_VISIBLE_DEVICES=2,1",
        "HIP_VISIBLE_DEVICES=0",
        None,
    )


def test_indexes_count_compute_nodes_and_not_cards(tmp_path: Path) -> None:
    # The node with the lower number belongs to the card with the higher one; 0 is the processor.
    write_node(tmp_path, 0, cpu_cores_count=16, simd_count=0)
    for number, node in ((0, 10), (1, 9)):
        write_amd(tmp_path, number, f"0000:0{number + 1}:00.0", mem_info_vram_total=8 * GIB)
        render = 128 + number
        write_node(
            tmp_path, node, simd_count=80, gfx_target_version=110000, drm_render_minor=render
        )
    write_rocm(tmp_path)
    cards = probe(tmp_path, HIP_VISIBLE_DEVICES="0").sightings
    assert [card.hidden for card in cards] == ["HIP_VISIBLE_DEVICES=0", None]


def test_rocms_variables_hide_nothing_from_vulkan(navi: Path) -> None:
    cards = probe(navi, ROCR_VISIBLE_DEVICES="").sightings
    assert [card.hidden for card in cards] == ["ROCR_VISIBLE_DEVICES=", None]


# A card that is split


def test_each_part_of_a_split_card_is_a_device(tmp_path: Path) -> None:
    write_amd(
        tmp_path,
        0,
        "0000:05:00.0",
        device="0x74a1",
        mem_info_vram_total=192 * GIB,
        mem_info_vram_used=0,
        current_compute_partition="CPX",
    )
    for part in (0, 1):
        write_node(
            tmp_path,
            part + 2,
            *([{"heap_type": 1, "size_in_bytes": 24 * GIB}] if part == 0 else []),
            simd_count=152,
            gfx_target_version=90402,
            location_id=0x500 | part << 28,
            drm_render_minor=128 + part,
            unique_id=7,
        )
    write_rocm(tmp_path)
    answer = probe(tmp_path, ROCR_VISIBLE_DEVICES="1")
    first, second = answer.sightings
    assert (first.total, first.usable, first.free) == (24 * GIB, 24 * GIB, None)
    assert (second.total, second.usable, second.free) == (None, None, None)
    assert first.pci == second.pci == "0000:05:00.0"
    assert len({first.uuid, second.uuid}) == 2
    assert (first.hidden, second.hidden) == ("ROCR_VISIBLE_DEVICES=1", None)
    assert "split into 2 devices (CPX)" in answer.states[0].detail


# Targets


@pytest.mark.parametrize(
    ("version", "target"),
    [
        (90402, "gfx942"),
        (90010, "gfx90a"),
        (110501, "gfx1151"),
        (90012, "gfx90c"),
        (100300, "gfx1030"),
        (120001, "gfx1201"),
        (0, None),
        (99999, None),
        (10**15, None),
    ],
)
def test_a_target_version_is_two_digits_each(version: int, target: str | None) -> None:
    assert parse_gfx(version) == target


@pytest.mark.parametrize(
    ("text", "target"),
    [("11.0.0", "gfx1100"), ("9.0.10", "gfx90a"), (" 10.3.0\n", "gfx1030"), ("gfx1030", None)],
)
def test_an_override_is_a_version_in_decimal(text: str, target: str | None) -> None:
    assert parse_override(text) == target


@given(st.text(), st.integers(min_value=0))
@example("7" * 2**20, 2**64)
@example("," * 2**20, 1)
@example("simd_count " + "9" * 10**5, 9)
def test_parsers_take_any_text(text: str, number: int) -> None:
    assert all(value >= 0 for value in parse_rows(text).values())
    assert parse_override(text) is None or "." in text
    assert set(parse_visible(text, UUIDS)) <= {0, 1, 2}
    gfx = parse_gfx(number)
    assert gfx is None or gfx.startswith("gfx")
