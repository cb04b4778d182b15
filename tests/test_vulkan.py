"""GPUs by Vulkan: what the loader's recorded answers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quantpick.domain.host import Backend, Cut, MemoryKind
from tests.support.vulkan import (
    AMD,
    AMD_OPEN_SOURCE,
    AMD_PROPRIETARY,
    ANV,
    DOZEN,
    GIB,
    INTEGRATED,
    INTEL,
    INTEL_WINDOWS,
    LLVMPIPE_ROW,
    MIB,
    MOLTENVK,
    NVIDIA,
    NVIDIA_PROPRIETARY,
    NVK,
    OTHER,
    RADEON,
    RADV,
    UUID_B,
    VIRTUAL,
    gpu,
    heap,
    see,
)

if TYPE_CHECKING:
    from pathlib import Path

# What a device is


def test_a_card_is_told_with_all_that_vulkan_knows(tmp_path: Path) -> None:
    row = gpu(
        "AMD Radeon RX 7900 XTX (RADV NAVI31)",
        heaps=[heap(24560 * MIB, budget=20000 * MIB, usage=0), heap(15 * GIB, local=False)],
    )
    (seen,) = see(tmp_path, row)
    assert seen.source == "Vulkan"
    assert seen.name == "AMD Radeon RX 7900 XTX (RADV NAVI31)"
    assert seen.memory_kind is MemoryKind.DEDICATED
    assert (seen.total, seen.usable, seen.free) == (24560 * MIB, 24560 * MIB, 20000 * MIB)
    assert seen.backends == (Backend.VULKAN,)
    assert (seen.fp16, seen.bf16, seen.integrated) == (True, True, False)
    assert seen.pci == "0000:03:00.0"
    assert seen.uuid == "00112233-4455-6677-8899-aabbccddeeff"
    assert (seen.hidden, seen.software, seen.cuts, seen.gtt) == (None, False, (), 0)


def test_an_nvidia_uuid_is_the_one_that_nvml_prints(tmp_path: Path) -> None:
    row = gpu("NVIDIA GeForce RTX 3090", vendor=NVIDIA, driver=NVIDIA_PROPRIETARY)
    (seen,) = see(tmp_path, row)
    assert seen.uuid == "GPU-00112233-4455-6677-8899-aabbccddeeff"


def test_a_pci_address_is_hexadecimal(tmp_path: Path) -> None:
    (seen,) = see(tmp_path, gpu("card", pci=[1, 0xC1, 0x1F, 2]))
    assert seen.pci == "0001:c1:1f.2"


@pytest.mark.parametrize("window", [246, 256])
def test_the_window_into_memory_is_no_memory_on_nvidia(window: int, tmp_path: Path) -> None:
    heaps = [heap(4096 * MIB), heap(16 * GIB, local=False), heap(window * MIB)]
    (seen,) = see(tmp_path, gpu("NVIDIA T1000", vendor=NVIDIA, heaps=heaps))
    assert seen.total == 4096 * MIB


def test_a_small_nvidia_card_has_its_memory(tmp_path: Path) -> None:
    (seen,) = see(tmp_path, gpu("old", vendor=NVIDIA, heaps=[heap(256 * MIB)]))
    assert seen.total == 256 * MIB


def test_the_window_is_memory_apart_on_amd(tmp_path: Path) -> None:
    heaps = [heap(7936 * MIB), heap(16 * GIB, local=False), heap(256 * MIB)]
    (seen,) = see(tmp_path, gpu("AMD Radeon RX 580", heaps=heaps))
    assert seen.total == 8192 * MIB


def test_free_memory_is_unknown_where_the_driver_tells_no_budget(tmp_path: Path) -> None:
    heaps = [heap(8 * GIB, budget=6 * GIB, usage=0), heap(8 * GIB)]
    assert [seen.free for seen in see(tmp_path, RADEON, gpu("b", uuid=UUID_B, heaps=heaps))] == [
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("budget", "usage", "free"),
    [
        (7 * GIB, 1 * GIB, 6 * GIB),
        (1 * GIB, 2 * GIB, 0),
        (30 * GIB, 0, 8 * GIB),
    ],
    ids=["within", "over budget", "budget beyond the heap"],
)
def test_free_memory_stays_within_the_heap(
    budget: int, usage: int, free: int, tmp_path: Path
) -> None:
    heaps = [heap(8 * GIB, budget=budget, usage=usage), heap(9 * GIB, local=False, budget=GIB)]
    (seen,) = see(tmp_path, gpu("card", heaps=heaps))
    assert seen.free == free


def test_an_integrated_gpu_has_the_ram_as_far_as_its_driver_goes(tmp_path: Path) -> None:
    heaps = [heap(24 * GIB, budget=23 * GIB, usage=0)]
    row = gpu("Intel(R) Iris(R) Xe", type=INTEGRATED, vendor=INTEL, driver=ANV, heaps=heaps)
    (seen,) = see(tmp_path, row)
    assert (seen.memory_kind, seen.integrated, seen.gtt) == (MemoryKind.UNIFIED, True, 0)
    assert (seen.total, seen.usable, seen.free) == (32 * GIB, 24 * GIB, 20 * GIB)
    message = "the Vulkan driver does not let its GPU have all RAM"
    assert seen.cuts == (Cut("driver_limit", 8 * GIB, message),)


def test_an_integrated_gpu_that_claims_more_than_the_ram_has_the_ram(tmp_path: Path) -> None:
    row = gpu("Intel(R) UHD Graphics 630", type=INTEGRATED, vendor=INTEL, heaps=[heap(72144 * MIB)])
    (seen,) = see(tmp_path, row)
    assert (seen.total, seen.usable, seen.free, seen.cuts) == (32 * GIB, 32 * GIB, None, ())


def test_an_amd_apu_leaves_its_kind_of_memory_to_others(tmp_path: Path) -> None:
    heaps = [heap(84 * GIB, budget=80 * GIB, usage=0), heap(42 * GIB, local=False)]
    row = gpu("AMD Radeon 8060S (RADV GFX1151)", type=INTEGRATED, heaps=heaps)
    (seen,) = see(tmp_path, row)
    assert (seen.memory_kind, seen.integrated) == (None, True)
    assert (seen.total, seen.usable, seen.free) == (84 * GIB, None, 80 * GIB)


def test_a_virtual_gpu_counts_by_its_own_memory(tmp_path: Path) -> None:
    own = gpu("Virtio-GPU Venus", type=VIRTUAL)
    without = gpu("other", type=OTHER, uuid=UUID_B, heaps=[heap(8 * GIB, local=False)])
    seen = see(tmp_path, own, without)
    assert [s.hidden for s in seen] == [None, "no memory of its own"]
    assert [(s.memory_kind, s.total) for s in seen] == [
        (MemoryKind.DEDICATED, 24560 * MIB),
        (MemoryKind.DEDICATED, None),
    ]


@pytest.mark.parametrize("size", [-GIB, True, 1.5, "8589934592", None, 2**64, 0])
def test_a_heap_without_a_size_is_passed_over(size: object, tmp_path: Path) -> None:
    bad = heap(1) | {"size": size}
    first, second = see(
        tmp_path, gpu("a", heaps=[bad]), gpu("b", uuid=UUID_B, heaps=[bad, heap(7)])
    )
    assert (first.total, second.total) == (None, 7)


# What is no GPU


def test_a_processor_is_no_gpu(tmp_path: Path) -> None:
    (seen,) = see(tmp_path, LLVMPIPE_ROW)
    assert (seen.software, seen.hidden) == (True, "a processor posing as a GPU")
    assert (seen.memory_kind, seen.total, seen.usable) == (MemoryKind.UNIFIED, 32 * GIB, 2 * GIB)


def test_dozen_is_no_driver_of_its_own(tmp_path: Path) -> None:
    row = gpu("Microsoft Direct3D12 (AMD Radeon RX 6800 XT)", driver=DOZEN, uuid=UUID_B)
    native, dozen = see(tmp_path, RADEON, row)
    assert (native.hidden, dozen.software) == (None, False)
    assert dozen.hidden == "Direct3D 12 posing as a Vulkan driver (Dozen)"


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_gpu_without_16_bit_storage_is_too_old(value: str, tmp_path: Path) -> None:
    (seen,) = see(tmp_path, gpu("old", storage16=False), GGML_VK_VISIBLE_DEVICES=value)
    assert seen.hidden == "no 16-bit storage, which llama.cpp needs"


# One GPU, several drivers


@pytest.mark.parametrize(
    ("vendor", "preferred", "other"),
    [
        (AMD, RADV, AMD_OPEN_SOURCE),
        (AMD, AMD_OPEN_SOURCE, AMD_PROPRIETARY),
        (INTEL, ANV, INTEL_WINDOWS),
        (NVIDIA, NVIDIA_PROPRIETARY, NVK),
        (AMD, RADV, DOZEN),
        (INTEL, 99, DOZEN),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_a_gpu_with_two_drivers_is_one_by_the_preferred_driver(
    vendor: int, preferred: int, other: int, order: int, tmp_path: Path
) -> None:
    rows = [
        gpu("preferred", vendor=vendor, driver=preferred),
        gpu("other", vendor=vendor, driver=other),
    ]
    assert [seen.name for seen in see(tmp_path, *rows[::order])] == ["preferred"]


def test_a_gpu_is_known_again_by_its_luid(tmp_path: Path) -> None:
    rows = [gpu("a", luid="0123456789abcdef"), gpu("b", luid="0123456789abcdef", uuid=UUID_B)]
    assert [seen.name for seen in see(tmp_path, *rows)] == ["a"]


def test_a_driver_that_lists_a_uuid_twice_lists_one_gpu_twice(tmp_path: Path) -> None:
    rows = [gpu("a", driver=INTEL_WINDOWS), gpu("b", driver=INTEL_WINDOWS)]
    assert [seen.name for seen in see(tmp_path, *rows)] == ["a"]


def test_moltenvk_gives_several_gpus_one_uuid(tmp_path: Path) -> None:
    rows = [gpu("Vega II", driver=MOLTENVK), gpu("Vega II", driver=MOLTENVK)]
    assert len(see(tmp_path, *rows)) == 2


def test_devices_stay_in_the_order_of_the_loader(tmp_path: Path) -> None:
    rows = [
        gpu("a", driver=AMD_PROPRIETARY, uuid=UUID_B),
        LLVMPIPE_ROW | {"name": "b", "uuid": None},
        gpu("c"),
        gpu("d", driver=AMD_OPEN_SOURCE),
    ]
    assert [seen.name for seen in see(tmp_path, *rows)] == ["a", "b", "c"]


@pytest.mark.parametrize("nothing", [None, "0" * 32, "", "x", 7])
def test_equal_cards_whose_driver_tells_no_uuid_are_two(nothing: object, tmp_path: Path) -> None:
    seen = see(tmp_path, gpu("card", uuid=nothing), gpu("card", uuid=nothing))
    assert [s.uuid for s in seen] == [None, None]


def test_equal_cards_are_two(tmp_path: Path) -> None:
    assert len(see(tmp_path, gpu("card"), gpu("card", uuid=UUID_B))) == 2


# GGML_VK_VISIBLE_DEVICES


@pytest.mark.parametrize(
    ("value", "visible"),
    [
        ("0", ["card"]),
        ("1", ["llvmpipe"]),
        ("2", ["other"]),
        ("2,0", ["card", "other"]),
        (" 2 0 ", ["card", "other"]),
        ("", []),
        ("+0", ["card"]),
        ("0,7", []),
        ("0,-1", []),
        ("-1", []),
        ("0,x,2", ["card"]),
        ("²", []),
        ("9" * 5000, []),
    ],
)
def test_the_variable_counts_all_that_the_loader_lists(
    value: str, visible: list[str], tmp_path: Path
) -> None:
    rows = [gpu("card"), {**LLVMPIPE_ROW, "name": "llvmpipe"}, gpu("other", uuid="12" * 16)]
    seen = see(tmp_path, *rows, GGML_VK_VISIBLE_DEVICES=value)
    assert [s.name for s in seen if s.hidden is None] == visible
    assert {s.hidden for s in seen} <= {None, f"GGML_VK_VISIBLE_DEVICES={value}"}
    assert [s.name for s in seen if s.software] == [n for n in ["llvmpipe"] if n not in visible]


def test_the_variable_shows_a_driver_that_is_not_preferred(tmp_path: Path) -> None:
    rows = [gpu("radv"), gpu("amdvlk", driver=AMD_OPEN_SOURCE), gpu("dozen", driver=DOZEN)]
    for number, name in enumerate(["radv", "amdvlk", "dozen"]):
        seen = see(tmp_path, *rows, GGML_VK_VISIBLE_DEVICES=str(number))
        assert [(s.name, s.hidden) for s in seen] == [(name, None)]
