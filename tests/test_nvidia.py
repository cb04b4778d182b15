"""NVIDIA cards as quantpick reads them: through the unmodified nvidia-ml-py, from a fake driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quantpick.domain.host import Backend, Cut, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from tests.support import fake_nvml
from tests.support.fake_nvml import FakeNvml, Gpu
from tests.support.source_answer import RAM, ask_nvml

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command import Command

GIB, MIB = 2**30, 2**20
RTX_3090 = Gpu(
    "NVIDIA GeForce RTX 3090",
    24 * GIB,
    reserved=316 * MIB,
    free=20 * GIB,
    clock=9751,
    width=384,
    uuid="GPU-aaaa0000-1111-2222-3333-444444444444",
    pci="00000000:0A:00.0",
)
RTX_3060 = Gpu("NVIDIA GeForce RTX 3060", 12 * GIB, reserved=368 * MIB, free=11 * GIB)
#: 20 GiB and 5 GiB parts of an A100, as a recording has them.
LARGE = Gpu("NVIDIA A100 MIG 3g.20gb", 19968 * MIB, free=19900 * MIB, uuid="MIG-large")
SMALL = Gpu("NVIDIA A100 MIG 1g.5gb", 4864 * MIB, free=4800 * MIB, uuid="MIG-small")
A100 = Gpu(
    "NVIDIA A100",
    81920 * MIB,
    free=81000 * MIB,
    capability="8.0",
    clock=1215,
    width=5120,
    mig=True,
    slices=(LARGE, SMALL),
)
BOTH = (Backend.CUDA, Backend.VULKAN)


@pytest.fixture
def box(quantpick: Command, tmp_path: Path) -> Command:
    """Return a machine with an empty file tree."""
    return type(quantpick)(quantpick.cwd, {**quantpick.env, "QUANTPICK_SYSROOT": str(tmp_path)})


def names(answer: Answer) -> list[str]:
    """Return the devices that programs get."""
    return [sighting.name for sighting in answer.sightings if sighting.hidden is None]


def hidden(answer: Answer) -> dict[str, str]:
    """Return the devices that programs do not get, and why."""
    return {sighting.name: sighting.hidden for sighting in answer.sightings if sighting.hidden}


# What is read of a card


def test_a_card_is_read_with_all_that_nvml_tells(box: Command, nvml: FakeNvml) -> None:
    assert ask_nvml(nvml.machine(box, RTX_3090)) == Answer(
        (
            Sighting(
                "NVML",
                "NVIDIA GeForce RTX 3090",
                MemoryKind.DEDICATED,
                total=24 * GIB,
                usable=24 * GIB - 316 * MIB,
                free=20 * GIB,
                cuts=(Cut("reserved", 316 * MIB, "kept by the driver"),),
                backends=BOTH,
                arch="8.6",
                fp16=True,
                bf16=True,
                bandwidth=936_096_000_000,
                integrated=False,
                pci="0000:0a:00.0",
                uuid="GPU-aaaa0000-1111-2222-3333-444444444444",
            ),
        ),
        (SourceState("NVML", State.OK, "1 device"),),
    )


def test_what_nvml_does_not_tell_is_unknown(box: Command, nvml: FakeNvml) -> None:
    card = Gpu("Graphics Device", GIB, free=GIB, capability="0.0", uuid="-", pci="-")
    (seen,) = ask_nvml(nvml.machine(box, card)).sightings
    assert (seen.arch, seen.fp16, seen.bf16, seen.bandwidth) == (None, None, None, None)
    assert (seen.uuid, seen.pci, seen.total, seen.cuts) == (None, None, GIB, ())


def test_two_cards_are_two_devices(box: Command, nvml: FakeNvml) -> None:
    answer = ask_nvml(nvml.machine(box, RTX_3090, RTX_3060))
    sizes = [(s.name, s.usable) for s in answer.sightings]
    assert sizes == [
        (RTX_3090.name, 24 * GIB - 316 * MIB),
        (RTX_3060.name, 12 * GIB - 368 * MIB),
    ]
    assert answer.states == (SourceState("NVML", State.OK, "2 devices"),)


def test_an_old_driver_tells_no_reserved_memory(box: Command, nvml: FakeNvml) -> None:
    (seen,) = ask_nvml(nvml.machine(box, RTX_3090, old=True)).sightings
    assert (seen.total, seen.usable, seen.free, seen.cuts) == (24 * GIB, 24 * GIB, 20 * GIB, ())
    assert seen.memory_kind is MemoryKind.DEDICATED


def test_memory_is_what_the_card_says_and_not_what_its_name_says(
    box: Command, nvml: FakeNvml
) -> None:
    card = Gpu("NVIDIA GeForce RTX 4090", 49140 * MIB, free=48000 * MIB)
    (seen,) = ask_nvml(nvml.machine(box, card)).sightings
    assert (seen.total, seen.free) == (49140 * MIB, 48000 * MIB)


def test_no_more_is_free_than_usable(box: Command, nvml: FakeNvml) -> None:
    card = Gpu("NVIDIA GeForce RTX 5090", 32 * GIB, reserved=GIB, free=55 * GIB)
    (seen,) = ask_nvml(nvml.machine(box, card)).sightings
    assert (seen.usable, seen.free) == (31 * GIB, 31 * GIB)


@pytest.mark.parametrize("old", [False, True], ids=["current", "old"])
@pytest.mark.parametrize(
    "card",
    [
        Gpu("NVIDIA GB10", memory_status=fake_nvml.NOT_SUPPORTED, addressing=fake_nvml.ATS),
        Gpu("NVIDIA Thor", total=0, addressing=fake_nvml.HMM),
        Gpu("Orin (nvgpu)", 8 * GIB, free=GIB, capability="8.7"),
    ],
    ids=["GB10", "nothing in total", "Jetson"],
)
def test_a_device_without_memory_of_its_own_shares_the_hosts(
    old: bool,  # noqa: FBT001 -- a parameter of the test
    card: Gpu,
    box: Command,
    nvml: FakeNvml,
) -> None:
    (seen,) = ask_nvml(nvml.machine(box, card, old=old)).sightings
    assert (seen.memory_kind, seen.integrated) == (MemoryKind.UNIFIED, True)
    assert (seen.total, seen.usable, seen.free) == (RAM.total, RAM.total, RAM.available)
    assert (seen.usable_source, seen.free_source, seen.cuts) == (RAM.source, RAM.source, ())
    assert (seen.arch, seen.backends) == (card.capability, BOTH)


@pytest.mark.parametrize("addressing", [fake_nvml.HMM, fake_nvml.ATS], ids=["HMM", "ATS"])
def test_a_card_that_reaches_the_hosts_memory_keeps_its_own(
    addressing: int, box: Command, nvml: FakeNvml
) -> None:
    card = Gpu("NVIDIA GH200", 96 * GIB, GIB, 90 * GIB, addressing=addressing)
    (seen,) = ask_nvml(nvml.machine(box, card)).sightings
    assert (seen.memory_kind, seen.integrated) == (MemoryKind.DEDICATED, False)
    assert (seen.total, seen.usable, seen.free) == (96 * GIB, 95 * GIB, 90 * GIB)


# MIG


@pytest.mark.parametrize("status", [0, fake_nvml.NO_PERMISSION], ids=["root", "unprivileged"])
def test_a_program_gets_one_slice_of_a_card(status: int, box: Command, nvml: FakeNvml) -> None:
    card = Gpu(**{**vars(A100), "memory_status": status})
    answer = ask_nvml(nvml.machine(box, card))
    large, small = answer.sightings
    assert [large.name, small.name] == [LARGE.name, SMALL.name]
    assert [s.uuid for s in answer.sightings] == ["MIG-large", "MIG-small"]
    assert (large.total, large.free, small.total) == (LARGE.total, LARGE.free, SMALL.total)
    assert hidden(answer) == {SMALL.name: "a CUDA program uses one MIG slice"}
    assert (large.arch, large.pci, large.bandwidth) == ("8.0", "0000:01:00.0", None)
    assert (large.backends, large.memory_kind) == ((Backend.CUDA,), MemoryKind.DEDICATED)
    assert answer.caveats == ()


def test_the_slice_that_is_named_is_the_one(box: Command, nvml: FakeNvml) -> None:
    answer = ask_nvml(nvml.machine(box, A100), CUDA_VISIBLE_DEVICES="MIG-small")
    assert names(answer) == [SMALL.name]
    assert hidden(answer) == {LARGE.name: "CUDA_VISIBLE_DEVICES=MIG-small"}


def test_beside_a_slice_no_whole_card_is_used(box: Command, nvml: FakeNvml) -> None:
    answer = ask_nvml(nvml.machine(box, RTX_3090, A100))
    assert names(answer) == [LARGE.name]
    assert "no whole card beside" in hidden(answer)[RTX_3090.name]
    alone = ask_nvml(nvml.machine(box, RTX_3090, A100), CUDA_VISIBLE_DEVICES=RTX_3090.uuid)
    assert names(alone) == [RTX_3090.name]


def test_a_slice_whose_memory_is_not_told_has_none_and_shares_none(
    box: Command, nvml: FakeNvml
) -> None:
    unknown = Gpu("-", memory_status=fake_nvml.NOT_SUPPORTED, uuid="MIG-x")
    (seen,) = ask_nvml(nvml.machine(box, Gpu("A100", mig=True, slices=(unknown,)))).sightings
    assert (seen.total, seen.usable, seen.free, seen.memory_kind) == (None, None, None, None)
    assert (seen.name, seen.uuid) == ("A100", "MIG-x")


def test_a_card_with_mig_on_and_no_slice_is_of_no_use(box: Command, nvml: FakeNvml) -> None:
    answer = ask_nvml(nvml.machine(box, Gpu("A100", 40 * GIB, free=39 * GIB, mig=True)))
    assert "no MIG slice" in hidden(answer)["A100"]


def test_a_card_with_mig_off_is_a_whole_card(box: Command, nvml: FakeNvml) -> None:
    answer = ask_nvml(nvml.machine(box, Gpu("A100", 40 * GIB, free=39 * GIB, mig=False)))
    assert (names(answer), answer.sightings[0].total) == (["A100"], 40 * GIB)


# Visible devices


def test_devices_that_programs_do_not_get_stay_in_sight(box: Command, nvml: FakeNvml) -> None:
    machine = nvml.machine(box, RTX_3090, RTX_3060)
    answer = ask_nvml(machine, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert names(answer) == [RTX_3060.name]
    assert hidden(answer) == {RTX_3090.name: "CUDA_VISIBLE_DEVICES=1"}
    assert answer.caveats == ()


def test_a_number_of_one_of_several_different_cards_is_not_guessed(
    box: Command, nvml: FakeNvml
) -> None:
    answer = ask_nvml(nvml.machine(box, RTX_3090, RTX_3060), CUDA_VISIBLE_DEVICES="0")
    assert (len(names(answer)), hidden(answer)) == (2, {})
    (caveat,) = answer.caveats
    assert caveat.code == "visible_devices_unclear"
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in caveat.message


def test_cards_of_one_name_and_two_sizes_are_different(box: Command, nvml: FakeNvml) -> None:
    larger = Gpu(RTX_3090.name, 48 * GIB, free=GIB)
    answer = ask_nvml(nvml.machine(box, RTX_3090, larger), CUDA_VISIBLE_DEVICES="0")
    assert [caveat.code for caveat in answer.caveats] == ["visible_devices_unclear"]


def test_cards_are_counted_without_those_that_may_not_be_used(box: Command, nvml: FakeNvml) -> None:
    denied = Gpu("denied", handle_status=fake_nvml.NO_PERMISSION)
    answer = ask_nvml(nvml.machine(box, denied, RTX_3060), CUDA_VISIBLE_DEVICES="0")
    assert (names(answer), answer.caveats) == ([RTX_3060.name], ())
    assert [state.state for state in answer.states] == [State.OK, State.NO_PERMISSION]


def test_a_lost_card_keeps_its_number(box: Command, nvml: FakeNvml) -> None:
    lost = Gpu("lost", handle_status=fake_nvml.LOST)
    machine = nvml.machine(box, lost, RTX_3060)
    answer = ask_nvml(machine, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert names(answer) == [RTX_3060.name]
    # Whether it is as fast as the others is not known.
    unclear = ask_nvml(nvml.machine(box, lost, RTX_3060, RTX_3060), CUDA_VISIBLE_DEVICES="1")
    assert "visible_devices_unclear" in [caveat.code for caveat in unclear.caveats]


# Trouble


@pytest.mark.parametrize(
    ("lost", "state", "words"),
    [
        (Gpu("lost", handle_status=fake_nvml.LOST), State.LOST, "fell off the bus: reboot"),
        (Gpu("lost", memory_status=fake_nvml.LOST), State.LOST, "fell off the bus: reboot"),
        (Gpu("odd", memory_status=fake_nvml.UNKNOWN), State.FAILED, "Unknown Error"),
    ],
)
def test_a_lost_card_is_told_and_the_other_stays(
    lost: Gpu, state: State, words: str, box: Command, nvml: FakeNvml
) -> None:
    answer = ask_nvml(nvml.machine(box, lost, RTX_3060))
    assert names(answer) == [RTX_3060.name]
    assert [found.state for found in answer.states] == [State.OK, state]
    assert answer.states[1].detail.startswith("GPU 0: ")
    (caveat,) = answer.caveats
    assert caveat.code == "nvidia_unreadable"
    assert caveat.message.startswith("NVIDIA GPU 0: ")
    assert caveat.message.endswith(words)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(fake_nvml.LOST, State.LOST), (fake_nvml.NO_PERMISSION, State.NO_PERMISSION)],
)
def test_where_no_card_answers_that_is_all_there_is_to_tell(
    status: int, expected: State, box: Command, nvml: FakeNvml
) -> None:
    answer = ask_nvml(nvml.machine(box, Gpu("only", handle_status=status)))
    assert answer.sightings == ()
    (state,) = answer.states
    assert state.state is expected
    assert [caveat.code for caveat in answer.caveats] == ["nvidia_unreadable"]


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        (
            fake_nvml.MISMATCH,
            State.MISMATCH,
            "NVIDIA: driver and library differ in version: reboot",
        ),
        (fake_nvml.NOT_LOADED, State.FAILED, "not loaded"),
        (fake_nvml.NO_PERMISSION, State.NO_PERMISSION, "permission"),
        (fake_nvml.UNKNOWN, State.FAILED, "NVIDIA: Unknown Error"),
    ],
)
def test_a_driver_that_will_not_start_says_why(
    status: int, state: State, message: str, box: Command, nvml: FakeNvml
) -> None:
    answer = ask_nvml(nvml.machine(box, RTX_3090, init=status))
    assert answer.sightings == ()
    assert [found.state for found in answer.states] == [state]
    (caveat,) = answer.caveats
    assert message in caveat.message
    assert answer.states[0].detail in caveat.message
    assert answer.states[0].advice in caveat.message


@pytest.mark.parametrize(
    ("env", "detail"),
    [
        ({}, "the driver lists no device"),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, "NVIDIA_VISIBLE_DEVICES=void"),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, "the driver lists no device"),
    ],
)
def test_a_driver_without_cards_is_nothing_to_warn_of(
    env: dict[str, str], detail: str, box: Command, nvml: FakeNvml
) -> None:
    nothing = Answer((), (SourceState("NVML", State.NOTHING, detail),))
    assert ask_nvml(nvml.machine(box), **env) == nothing
