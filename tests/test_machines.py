"""Machines by name: every row of the table, what people type, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, Device, MemoryKind
from quantpick.domain.machine import (
    MAX_DEVICES,
    Machine,
    Product,
    machine_of,
    parse_machine,
)
from quantpick.domain.units import GIB
from quantpick.domain.working_set import working_set
from quantpick.errors import NotFoundError, UsageError
from tests.support.machines import CARDS, TABLE, label, one

# What is typed


@pytest.mark.parametrize(
    ("text", "times", "name", "gib"),
    [
        ("RTX 4090", 1, "GeForce RTX 4090", 24),
        ("rtx4090", 1, "GeForce RTX 4090", 24),
        ("NVIDIA GeForce RTX 4090", 1, "GeForce RTX 4090", 24),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 1, "GeForce RTX 4090 Laptop", 16),
        ("2x3090", 2, "GeForce RTX 3090", 24),
        ("2 x RTX 3090", 2, "GeForce RTX 3090", 24),
        ("2\u00d73090", 2, "GeForce RTX 3090", 24),
        ("4*a100-80", 4, "A100 80GB", 80),
        ("NVIDIA A100-SXM4-40GB", 1, "A100 40GB", 40),
        ("NVIDIA H100 80GB HBM3", 1, "H100 SXM 80GB", 80),
        ("NVIDIA A100-SXM4-80GB", 1, "A100 SXM 80GB", 80),
        ("h100", 1, "H100 80GB", 80),
        ("3080-12", 1, "GeForce RTX 3080 12GB", 12),
        ("4060ti-16", 1, "GeForce RTX 4060 Ti 16GB", 16),
        ("RTX 4060 Ti 8 GB", 1, "GeForce RTX 4060 Ti 8GB", 8),
        ("7900xtx", 1, "Radeon RX 7900 XTX", 24),
        ("AMD Radeon RX 9060 XT 16GB", 1, "Radeon RX 9060 XT 16GB", 16),
        ("Intel(R) Arc(TM) B580 Graphics", 1, "Arc B580", 12),
        ("m1-16", 1, "Apple M1", 16),
        ("Apple M4 Max 36GB", 1, "Apple M4 Max (32-core GPU)", 36),
        ("m4-max-64", 1, "Apple M4 Max (40-core GPU)", 64),
        ("M3 Max 96", 1, "Apple M3 Max (30-core GPU)", 96),
        ("strix-halo-128", 1, "Ryzen AI Max+ 395 (Radeon 8060S)", 128),
        ("Ryzen AI Max+ 395 64GB", 1, "Ryzen AI Max+ 395 (Radeon 8060S)", 64),
        ("DGX Spark", 1, "GB10 (DGX Spark)", 128),
        ("jetson-orin-8", 1, "Jetson Orin Nano", 8),
    ],
)
def test_what_people_type_is_understood(text: str, times: int, name: str, gib: int) -> None:
    named = parse_machine(text, TABLE)
    assert (named.times, named.product.name, named.gib) == (times, name, gib)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("3080", "10 or 12 GiB", "write 3080-10 or 3080-12"),
        ("m4-max", "36, 48, 64 or 128 GiB", "m4-max-36, m4-max-48, m4-max-64 or m4-max-128"),
        ("m4-max-100", "not sold: it is sold with 36, 48, 64 or 128 GiB", "write m4-max-36"),
        ("3090-12", "not sold: it is sold with 24 GiB", "write 3090-24"),
        ("2xm4-16", "one Apple M4, not 2", "once"),
        ("0x3090", "0 devices", "from 1 to 16"),
        ("17x3090", "17 devices", "from 1 to 16"),
    ],
)
def test_an_unclear_name_is_refused_with_the_choices(text: str, words: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_machine(text, TABLE)
    assert words in caught.value.message
    assert hint in caught.value.hints[0]


def test_a_size_that_is_not_sold_can_be_stated_otherwise() -> None:
    with pytest.raises(UsageError) as caught:
        parse_machine("m1-12", TABLE)
    assert "--ram" in caught.value.hints[1]
    assert "--vram" in caught.value.hints[1]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("rtx 4099", "did you mean 4090?"),
        ("rx7900xtxx", "did you mean 7900-xtx"),
        ("strix-hallo-128", "did you mean strix-halo?"),
        ("308012", "did you mean 3080"),
        ("m40", "did you mean m4"),
        ("voodoo", "there are 1060, 1070"),
    ],
)
def test_an_unknown_name_is_not_found_and_near_ones_are_told(text: str, near: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        parse_machine(text, TABLE)
    assert repr(text) in caught.value.message
    assert near in caught.value.hints[0]
    assert "--vram" in caught.value.hints[1]


@pytest.mark.parametrize("text", ["none", "CPU"])
def test_no_gpu_is_stated_by_another_flag(text: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        parse_machine(text, TABLE)
    assert caught.value.hints == ("for the CPU alone: --device none",)


PARTS = ["2", "x", " ", "-", "m4", "max", "64", "4090", "3090", "rtx", "24", "gb", "strix-halo"]


@given(
    st.one_of(
        st.text(),
        st.text("0123456789x* -gbim34axt", max_size=20),
        st.lists(st.sampled_from(PARTS), max_size=5).map("".join),
    )
)
@example("8x4090-24")
@example("9" * 5000)
@example("2x")
@example("m1-" + "0" * 5000)
@example("\u0664\u0660\u0669\u0660")
def test_any_text_is_understood_or_refused_in_words(text: str) -> None:
    try:
        named = parse_machine(text, TABLE)
    except (NotFoundError, UsageError) as error:
        assert error.hints  # noqa: PT017
    else:
        assert named.gib in named.product.sizes_gib
        assert 1 <= named.times <= MAX_DEVICES


@given(st.sampled_from(CARDS), st.integers(1, MAX_DEVICES), st.sampled_from(["x", "X", " x ", "*"]))
def test_a_number_in_front_multiplies(product: Product, times: int, sign: str) -> None:
    """N of a card are N times the devices that one is, and the same ones."""
    text = f"{product.aliases[0]}-{product.sizes_gib[0]}"
    assert machine_of([f"{times}{sign}{text}"], TABLE).devices == (one(text),) * times


# Devices


def test_a_card_has_the_memory_on_its_sticker() -> None:
    device = one("3090")
    assert device == Device(
        name="GeForce RTX 3090",
        backend=Backend.CUDA,
        memory_kind=MemoryKind.DEDICATED,
        total=24 * GIB,
        usable=24 * GIB,
        free=None,
        source="--gpu (NVIDIA GeForce specifications: 384-bit GDDR6X at 19.5 Gb/s)",
        backends=(Backend.CUDA, Backend.VULKAN),
        arch="8.6",
        fp16=True,
        bf16=True,
        bandwidth=936_000_000_000,
    )
    assert machine_of(["3090"], TABLE).ram is None


@pytest.mark.parametrize("product", CARDS, ids=label)
def test_a_cards_memory_is_its_own(product: Product) -> None:
    device = one(f"{product.aliases[0]}-{product.sizes_gib[0]}")
    assert device.memory_kind is MemoryKind.DEDICATED
    assert device.total == product.sizes_gib[0] * GIB
    assert device.own == device.usable
    assert not device.integrated
    if not product.ecc:
        assert (device.usable, device.cuts) == (device.total, ())


@pytest.mark.parametrize(("text", "gib"), [("t4", 15), ("l4", 22.5), ("l40s", 45), ("p40", 22.5)])
def test_error_correction_takes_a_sixteenth_of_gddr(text: str, gib: float) -> None:
    device = one(text)
    assert device.usable == gib * GIB
    (cut,) = device.cuts
    assert (cut.code, cut.size) == ("ecc", device.total - device.usable)
    assert "error correction" in cut.message


def test_an_apple_chip_lends_its_gpu_a_share_of_ram() -> None:
    machine = machine_of(["m4-max-64"], TABLE)
    (device,) = machine.devices
    assert machine.ram == device.total == 64 * GIB
    assert (device.memory_kind, device.backend) == (MemoryKind.UNIFIED, Backend.METAL)
    assert device.usable == 48 * GIB
    assert device.usable_source == "estimate for macOS up to 15"
    assert [(cut.code, cut.size) for cut in device.cuts] == [("working_set", 16 * GIB)]
    assert (device.fp16, device.bf16, device.integrated) == (True, True, True)
    assert (device.own, device.bandwidth) == (0, 546_000_000_000)


def test_a_chip_that_came_with_a_macos_has_at_least_its_share() -> None:
    device = one("m5-max-128")
    assert device.usable_source == "estimate for macOS 26"
    assert device.usable == working_set(128 * GIB, 26) > one("m4-max-128").usable


def test_an_amd_apu_borrows_half_of_ram() -> None:
    machine = machine_of(["strix-halo-128"], TABLE)
    (device,) = machine.devices
    assert machine.ram == device.total == 128 * GIB
    assert device.memory_kind is MemoryKind.CARVE_OUT_GTT
    assert device.usable == device.gtt == 64 * GIB
    assert device.own == 0
    (cut,) = device.cuts
    assert (cut.code, cut.size) == ("gtt_limit", 64 * GIB)
    assert "ttm.pages_limit" in cut.message
    assert (device.backend, device.arch, device.integrated) == (Backend.ROCM, "gfx1151", True)


@pytest.mark.parametrize("text", ["gb10", "agx-orin-64"])
def test_an_nvidia_soc_can_use_all_ram(text: str) -> None:
    machine = machine_of([text], TABLE)
    (device,) = machine.devices
    assert (device.memory_kind, device.backend) == (MemoryKind.UNIFIED, Backend.CUDA)
    assert device.usable == device.total == machine.ram
    assert (device.cuts, device.own) == ((), 0)


@pytest.mark.parametrize(
    ("text", "fp16", "bf16"),
    [
        ("1080", False, False),
        ("p100", True, False),
        ("2060", True, False),
        ("3060", True, True),
        ("6700xt", True, False),
        ("7900xtx", True, True),
        ("mi50-16", True, False),
        ("mi100", True, True),
        ("b580", None, None),
    ],
)
def test_fp16_and_bf16_follow_the_architecture(
    text: str, *, fp16: bool | None, bf16: bool | None
) -> None:
    device = one(text)
    assert (device.fp16, device.bf16) == (fp16, bf16)


# Machines


def test_several_names_are_devices_in_the_order_given() -> None:
    machine = machine_of(["3090", "2x3060", "rx 7900 xtx"], TABLE)
    names = ["RTX 3090", "RTX 3060", "RTX 3060", "RX 7900 XTX"]
    assert [device.name.partition(" ")[2] for device in machine.devices] == names
    assert machine.ram is None


def test_no_names_are_no_machine() -> None:
    assert machine_of([], TABLE) == Machine((), None)


@pytest.mark.parametrize("texts", [["m4-16", "3090"], ["3090", "m4-16"], ["m4-16", "m4-16"]])
def test_unified_memory_goes_with_no_other_device(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="Apple M4 has the machine's own memory"):
        machine_of(texts, TABLE)


def test_a_machine_has_up_to_sixteen_devices() -> None:
    assert len(machine_of(["8x3090", "8x3060"], TABLE).devices) == 16
    with pytest.raises(UsageError, match="17 devices are too many"):
        machine_of(["16x3090", "3060"], TABLE)
