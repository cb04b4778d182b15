"""One picture from many sources: each device once, matched by what it is, never by its index."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.choice import with_backend, with_devices
from quantpick.domain.host import Backend, Cpu, Cut, Engine, Host, MemoryKind, Ram
from quantpick.domain.matching import simple_name
from quantpick.domain.picture import picture
from quantpick.domain.sighting import Sighting
from quantpick.errors import NotFoundError

GIB, MIB = 2**30, 2**20
HOST = Host(Ram(64 * GIB, 60 * GIB, "test"), Cpu(None, None))
WITH_ENGINE = HOST._replace(engine=Engine(6795, "PATH", "/bin/llama-server"))
CUDA, ROCM, VULKAN = Backend.CUDA, Backend.ROCM, Backend.VULKAN


def nvml(name: str, gib: int = 24, bus: int = 1, **fields: Any) -> Sighting:  # noqa: ANN401
    """Return a card as NVML sees it."""
    total = gib * GIB
    reserved = Cut("reserved", 300 * MIB, "kept by the driver")
    known: dict[str, Any] = {
        "memory_kind": MemoryKind.DEDICATED,
        "total": total,
        "usable": total - reserved.size,
        "free": total - 2 * GIB,
        "cuts": (reserved,),
        "backends": (CUDA, VULKAN),
        "pci": f"0000:{bus:02x}:00.0",
        "uuid": f"GPU-{bus:08x}",
        "bf16": True,
    }
    return Sighting("NVML", name, **(known | fields))


def vulkan(name: str, gib: int = 24, **fields: Any) -> Sighting:  # noqa: ANN401
    """Return a card as the Vulkan loader sees it."""
    return Sighting("Vulkan", name, total=gib * GIB, backends=(VULKAN,), **fields)


def listed(name: str, id_: str, mib: int, free: int | None = None, **fields: Any) -> Sighting:  # noqa: ANN401
    """Return a card as llama.cpp lists it."""
    kinds = {"CUDA": CUDA, "ROCm": ROCM, "Vulkan": VULKAN, "MTL": Backend.METAL}
    backend = kinds[id_.rstrip("0123456789")]
    size = mib * MIB
    room = size if free is None else free * MIB
    return Sighting(
        "llama-server", name, usable=size, free=room, backends=(backend,), engine_id=id_, **fields
    )


IGPU = vulkan("Intel(R) UHD Graphics 770 (ADL-S GT1)", 31, integrated=True, pci="0000:00:02.0")
RX_7900 = Sighting(
    "amdgpu",
    "Radeon RX 7900 XTX",
    total=24 * GIB,
    usable=24 * GIB,
    backends=(ROCM, VULKAN),
    pci="0000:03:00.0",
)


# Which sightings are one device


def test_a_card_that_two_sources_see_is_one_device() -> None:
    for other in (
        vulkan("NVIDIA GeForce RTX 3090", pci="0000:01:00.0"),
        vulkan("Another Name", uuid="GPU-00000001"),
        vulkan("NVIDIA GeForce RTX 3090 (driver)"),
    ):
        host = picture(HOST, [nvml("NVIDIA GeForce RTX 3090"), other], None)
        (card,) = host.devices
        assert (card.name, card.backend, card.source) == ("NVIDIA GeForce RTX 3090", CUDA, "NVML")
        assert card.usable == 24 * GIB - 300 * MIB


def test_identical_cards_stay_two() -> None:
    cards = [nvml("NVIDIA GeForce RTX 3090", bus=1), nvml("NVIDIA GeForce RTX 3090", bus=2)]
    views = [vulkan("NVIDIA GeForce RTX 3090"), vulkan("NVIDIA GeForce RTX 3090")]
    host = picture(HOST, [*cards, *views], None)
    assert [card.pci for card in host.devices] == ["0000:01:00.0", "0000:02:00.0"]
    assert host.set_aside == ()
    rows = [listed("NVIDIA GeForce RTX 3090", f"CUDA{n}", 24276) for n in (0, 1)]
    host = picture(WITH_ENGINE, [*cards, *views], rows)
    assert [(card.engine_id, card.pci) for card in host.devices] == [
        ("CUDA0", "0000:01:00.0"),
        ("CUDA1", "0000:02:00.0"),
    ]


def test_the_engine_order_is_no_index_into_the_drivers_order() -> None:
    natives = [nvml("NVIDIA GeForce RTX 3060", 12, bus=1), nvml("NVIDIA GeForce RTX 4090", 24, 2)]
    rows = [
        listed("NVIDIA GeForce RTX 4090", "CUDA0", 24000),
        listed("NVIDIA GeForce RTX 3060", "CUDA1", 11900),
    ]
    host = picture(WITH_ENGINE, natives, rows)
    assert [(card.engine_id, card.pci) for card in host.devices] == [
        ("CUDA0", "0000:02:00.0"),
        ("CUDA1", "0000:01:00.0"),
    ]


def test_equal_names_are_matched_by_memory() -> None:
    # A card sold as one thing and rebuilt with twice the memory.
    natives = [nvml("NVIDIA GeForce RTX 4090", 24, 1), nvml("NVIDIA GeForce RTX 4090", 48, 2)]
    rows = [
        listed("NVIDIA GeForce RTX 4090", "CUDA0", 48 * 1024 - 300),
        listed("NVIDIA GeForce RTX 4090", "CUDA1", 24 * 1024 - 300),
    ]
    host = picture(WITH_ENGINE, natives, rows)
    assert [card.pci for card in host.devices] == ["0000:02:00.0", "0000:01:00.0"]
    assert [card.total for card in host.devices] == [48 * GIB, 24 * GIB]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", "Radeon RX 7900 XTX"),
        ("Intel(R) Arc(tm) A770 Graphics (DG2)", "Intel Arc A770"),
        ("NVIDIA GeForce RTX 3090", "GeForce RTX 3090"),
    ],
)
def test_names_are_compared_without_their_decoration(one: str, other: str) -> None:
    assert simple_name(one) == simple_name(other)


def test_names_that_are_decoration_alone_differ() -> None:
    assert simple_name("AMD Radeon Graphics") != simple_name("Intel Graphics")
    assert simple_name("AMD Radeon Graphics") == "amd radeon graphics"


def test_the_only_card_of_its_backend_is_meant_whatever_its_name() -> None:
    row = listed("AMD Radeon Graphics", "ROCm0", 24560)
    (card,) = picture(WITH_ENGINE, [RX_7900], [row]).devices
    assert (card.name, card.pci, card.total) == ("Radeon RX 7900 XTX", "0000:03:00.0", 24 * GIB)


def test_one_card_that_the_engine_lists_twice_counts_once() -> None:
    rows = [
        listed("NVIDIA GeForce RTX 3090", "CUDA0", 24124),
        listed("NVIDIA GeForce RTX 3090", "Vulkan0", 24576),
    ]
    for natives in ([], [nvml("NVIDIA GeForce RTX 3090")]):
        host = picture(WITH_ENGINE, natives, rows)
        (card,) = host.devices
        assert (card.backend, card.engine_id) == (CUDA, "CUDA0")
        assert card.usable == 24124 * MIB


# The engine's word, and what it does not list


def test_the_engines_figure_is_usable_and_the_cuts_say_why() -> None:
    row = listed("NVIDIA GeForce RTX 3090", "CUDA0", 24124, free=20000)
    (card,) = picture(WITH_ENGINE, [nvml("NVIDIA GeForce RTX 3090")], [row]).devices
    assert (card.total, card.usable, card.free) == (24 * GIB, 24124 * MIB, 20000 * MIB)
    assert [(cut.code, cut.size) for cut in card.cuts] == [
        ("reserved", 300 * MIB),
        ("not_given", (24 * 1024 - 24124 - 300) * MIB),
    ]
    assert (card.source, card.usable_source) == ("NVML", "llama-server")


def test_a_build_without_a_gpu_backend_is_said_out_loud() -> None:
    host = picture(WITH_ENGINE, [nvml("NVIDIA GeForce RTX 3090")], [])
    assert (host.devices, host.backend) == ((), Backend.CPU)
    assert [item.code for item in host.set_aside] == ["not_in_engine"]
    (caveat,) = host.warnings
    assert caveat.code == "engine_without_gpu"
    assert "NVIDIA GeForce RTX 3090" in caveat.message
    assert "/bin/llama-server" in caveat.message


def test_a_card_that_the_engine_misses_is_said_out_loud() -> None:
    natives = [nvml("NVIDIA GeForce RTX 3090"), RX_7900]
    rows = [listed("NVIDIA GeForce RTX 3090", "CUDA0", 24124)]
    host = picture(WITH_ENGINE, natives, rows)
    assert len(host.devices) == 1
    assert [caveat.code for caveat in host.warnings] == ["engine_misses_device"]
    # An integrated one beside it is nothing to talk about.
    host = picture(WITH_ENGINE, [nvml("NVIDIA GeForce RTX 3090"), IGPU], rows)
    assert host.warnings == ()


def test_a_card_hidden_by_a_variable_is_not_missed() -> None:
    hidden = nvml("NVIDIA GeForce RTX 3060", 12, 2, hidden="CUDA_VISIBLE_DEVICES=0")
    rows = [listed("NVIDIA GeForce RTX 3090", "CUDA0", 24124)]
    for engine_list in (rows, None):
        host = picture(WITH_ENGINE, [nvml("NVIDIA GeForce RTX 3090"), hidden], engine_list)
        assert [card.name for card in host.devices] == ["NVIDIA GeForce RTX 3090"]
        assert [(i.code, i.why) for i in host.set_aside] == [("hidden", "CUDA_VISIBLE_DEVICES=0")]
        assert host.warnings == ()


def test_what_hides_a_card_from_vulkan_leaves_it_to_cuda() -> None:
    card = nvml("NVIDIA GeForce RTX 3090")
    view = vulkan("NVIDIA GeForce RTX 3090", hidden="GGML_VK_VISIBLE_DEVICES=1")
    (device,) = picture(HOST, [card, view], None).devices
    assert device.backends == (CUDA,)
    host = picture(HOST, [view], None)
    assert [item.code for item in host.set_aside] == ["hidden"]


def test_a_later_source_explains_what_the_first_does_not_know() -> None:
    driver = Sighting(
        "Intel driver", "UHD", MemoryKind.UNIFIED, 64 * GIB, integrated=True, pci="0000:00:02.0"
    )
    limit = Cut("driver_limit", 33 * GIB, "the driver's limit")
    view = IGPU._replace(total=64 * GIB, usable=31 * GIB, cuts=(limit,))
    (device,) = picture(HOST, [driver, view], None).devices
    assert (device.total, device.usable, device.cuts) == (64 * GIB, 31 * GIB, (limit,))


def test_a_processor_that_poses_as_a_gpu_never_counts() -> None:
    lavapipe = vulkan("llvmpipe (LLVM 15.0.6, 256 bits)", 2, software=True)
    host = picture(HOST, [lavapipe], None)
    assert (host.devices, [item.code for item in host.set_aside]) == ((), ["software"])
    row = listed("llvmpipe (LLVM 15.0.6, 256 bits)", "Vulkan0", 2048)
    for natives in ([lavapipe], []):
        host = picture(WITH_ENGINE, natives, [row])
        assert (host.devices, host.backend) == ((), Backend.CPU)


def test_a_card_whose_memory_nobody_knows_is_no_guess() -> None:
    host = picture(HOST, [Sighting("Intel driver", "Arc", backends=(VULKAN,))], None)
    assert host.devices == ()
    (caveat,) = host.warnings
    assert caveat.code == "memory_unknown"
    assert "--vram" in caveat.message
    for reason in ({"software": True}, {"hidden": "a variable"}, {"integrated": True}):
        aside = Sighting("Intel driver", "Arc", backends=(VULKAN,))._replace(**reason)
        assert picture(HOST, [aside], None).warnings == ()


# Which devices count


def test_an_integrated_gpu_is_not_added_to_a_discrete_one() -> None:
    host = picture(HOST, [nvml("NVIDIA GeForce RTX 3090"), IGPU], None)
    assert [card.name for card in host.devices] == ["NVIDIA GeForce RTX 3090"]
    assert host.vram == 24 * GIB - 300 * MIB
    rows = [
        listed("Intel(R) UHD Graphics 770 (ADL-S GT1)", "Vulkan0", 32000, integrated=True),
        listed("NVIDIA GeForce RTX 3090", "Vulkan1", 24576),
    ]
    host = picture(WITH_ENGINE, [nvml("NVIDIA GeForce RTX 3090"), IGPU], rows)
    assert [card.engine_id for card in host.devices] == ["Vulkan1"]
    assert [item.code for item in host.set_aside] == ["integrated"]


def test_an_integrated_gpu_alone_shares_the_hosts_memory() -> None:
    host = picture(HOST, [IGPU], None)
    assert (host.backend, host.pool) == (VULKAN, 64 * GIB)
    assert host.devices[0].memory_kind is MemoryKind.UNIFIED


def test_without_an_engine_the_backend_that_reaches_most_memory_counts() -> None:
    natives = [nvml("NVIDIA GeForce RTX 3060", 12), RX_7900]
    host = picture(HOST, natives, None)
    # Vulkan drives both; CUDA and ROCm one each.
    assert [card.backend for card in host.devices] == [VULKAN, VULKAN]
    host = with_backend(host, ROCM)
    assert [card.name for card in host.devices] == ["Radeon RX 7900 XTX"]
    assert [(item.device.name, item.code) for item in host.set_aside] == [
        ("NVIDIA GeForce RTX 3060", "other_backend")
    ]
    back = with_backend(host, VULKAN)
    assert {card.name for card in back.devices} == {"NVIDIA GeForce RTX 3060", "Radeon RX 7900 XTX"}


def test_unified_memory_is_never_added_to_the_hosts() -> None:
    views = [listed("Apple M4", f"MTL{n}", 40 * 1024, integrated=True) for n in range(4)]
    host = picture(HOST, [], views)
    assert host.pool == 64 * GIB
    assert host.vram == 64 * GIB
    apu = Sighting(
        "amdgpu",
        "Strix Halo",
        memory_kind=MemoryKind.CARVE_OUT_GTT,
        total=48 * GIB,
        usable=48 * GIB,
        gtt=32 * GIB,
        integrated=True,
        backends=(ROCM,),
    )
    host = picture(HOST, [apu], None)
    assert (host.vram, host.pool) == (48 * GIB, 80 * GIB)


def test_free_memory_of_a_unified_device_is_what_the_host_has_free() -> None:
    row = listed("Apple M4 Max", "MTL0", 40 * 1024, integrated=True)
    host = HOST._replace(ram=Ram(64 * GIB, 10 * GIB, "test"))
    (card,) = picture(host, [], [row]).devices
    assert (card.usable, card.free) == (40 * GIB, 10 * GIB)


# Chosen by name


def test_devices_are_chosen_by_any_of_their_names() -> None:
    natives = [nvml("NVIDIA GeForce RTX 3090", bus=1), nvml("NVIDIA GeForce RTX 3060", 12, 2)]
    rows = [
        listed("NVIDIA GeForce RTX 3090", "CUDA0", 24124),
        listed("NVIDIA GeForce RTX 3060", "CUDA1", 12000),
    ]
    host = picture(WITH_ENGINE, natives, rows)
    for word in ("CUDA1", "cuda1", "3060", "RTX 3060", "0000:02:00.0", "GPU-00000002"):
        chosen = with_devices(host, [word])
        assert [card.engine_id for card in chosen.devices] == ["CUDA1"]
        assert chosen.device_words == ("--device", "CUDA1")
        assert [item.code for item in chosen.set_aside] == ["not_chosen"]
    chosen = with_devices(host, ["3060", "3090", "cuda1"])
    assert chosen.device_words == ("--device", "CUDA1,CUDA0")
    nothing = with_devices(host, ["none"])
    assert (nothing.devices, nothing.device_words) == ((), ("--device", "none"))
    with pytest.raises(NotFoundError) as failed:
        with_devices(host, ["CUDA7"])
    assert "CUDA0 (NVIDIA GeForce RTX 3090)" in str(failed.value.hints)


# Laws


@st.composite
def sightings(draw: st.DrawFn, source: str, *, engine: bool = False) -> Sighting:
    """Draw what a source may say of a device: any figure may be missing."""
    total = draw(st.none() | st.integers(1, 2**40))
    usable = draw(st.none() | st.integers(1, total or 2**40))
    cut = Cut("reserved", (total or 0) - (usable or 0), "kept") if total and usable else None
    kind = draw(st.none() | st.sampled_from(MemoryKind))
    backend = draw(st.sampled_from([CUDA, ROCM, VULKAN]))
    return Sighting(
        source,
        draw(st.sampled_from(["RTX 3090", "RX 7900", "Arc", "AMD Radeon Graphics", ""])),
        memory_kind=None if engine else kind,
        total=None if engine else total,
        usable=usable or (1 if engine else None),
        free=draw(st.none() | st.integers(0, 2**41)),
        cuts=(cut,) if cut and cut.size > 0 and not engine else (),
        gtt=draw(st.integers(0, usable or 0)) if kind is MemoryKind.CARVE_OUT_GTT else 0,
        backends=(backend,),
        integrated=draw(st.none() | st.booleans()),
        pci=None if engine else draw(st.none() | st.sampled_from(["0000:01:00.0", "0000:02:00.0"])),
        engine_id=f"X{draw(st.integers(0, 9))}" if engine else None,
        hidden=None if engine else draw(st.none() | st.just("CUDA_VISIBLE_DEVICES=")),
        software=not engine and draw(st.booleans()),
    )


NATIVES = st.tuples(
    *(st.lists(sightings(name), max_size=3) for name in ("NVML", "amdgpu", "Vulkan"))
).map(lambda lists: [row for rows in lists for row in rows])
LISTED = st.none() | st.lists(sightings("llama-server", engine=True), max_size=4)


@given(NATIVES, LISTED)
def test_every_picture_adds_up(natives: list[Sighting], rows: list[Sighting] | None) -> None:
    host = picture(HOST, natives, rows)
    shown = [*host.devices, *(item.device for item in host.set_aside)]
    assert len(shown) <= len(natives) + len(rows or ())
    for device in shown:
        assert 0 <= (device.free or 0) <= device.usable <= device.total
        assert sum(cut.size for cut in device.cuts) == device.total - device.usable
        assert all(cut.size > 0 for cut in device.cuts)
        assert 0 <= device.own <= device.usable
        if device.memory_kind is MemoryKind.UNIFIED:
            assert device.usable <= host.ram.total
    assert host.pool <= host.ram.total + sum(d.usable for d in host.devices)
    assert host.pool >= host.ram.total
    integrated = {device.integrated for device in host.devices}
    assert len(integrated) <= 1


@given(NATIVES, st.lists(sightings("llama-server", engine=True), max_size=4))
def test_what_the_engine_does_not_list_never_counts(
    natives: list[Sighting], rows: list[Sighting]
) -> None:
    host = picture(WITH_ENGINE, natives, rows)
    assert {device.engine_id for device in host.devices} <= {row.engine_id for row in rows}
    assert len(host.devices) <= len(rows)


@given(NATIVES, st.sampled_from(Backend))
def test_a_choice_of_backend_loses_no_device(natives: list[Sighting], backend: Backend) -> None:
    host = picture(HOST, natives, None)
    there = with_backend(host, backend)
    assert len(there.devices) + len(there.set_aside) == len(host.devices) + len(host.set_aside)
    assert all(device.backend is backend for device in there.devices)
