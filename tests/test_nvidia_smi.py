"""NVIDIA cards as the nvidia-smi program tells them, where its library cannot be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.host import Backend, Cut, MemoryKind, Ram, SourceState, State
from quantpick.domain.sighting import Answer, Sighting
from quantpick.probes.nvidia_smi import parse_rows, parse_size, parse_version, probe_devices
from quantpick.probes.protocol import Place
from quantpick.probes.run import Output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GIB, MIB = 2**30, 2**20
RAM = Ram(128 * GIB, 100 * GIB, "/proc/meminfo")
ROW_3090 = "GPU-aa11, 00000000:01:00.0, 24576, 316, 20000, 8.6, [N/A], NVIDIA GeForce RTX 3090\n"
ROW_3060 = "GPU-bb22, 00000000:02:00.0, 12288, 368, 11000, 8.6, [N/A], NVIDIA GeForce RTX 3060\n"


class Program:
    """A recorded nvidia-smi; ``newest`` is what it answers to the newest fields."""

    def __init__(self, newest: Output, old: Output | None = None) -> None:
        self.newest, self.old = newest, old
        self.asked: list[Sequence[str]] = []

    def __call__(self, words: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> Output:
        """Note what is asked, and answer."""
        assert timeout > 0
        assert "PATH" in env
        self.asked.append(words)
        return self.newest if "compute_cap" in words[1] or self.old is None else self.old


def ask(tmp_path: Path, program: Program, **env: str) -> Answer:
    """Return what the source answers on a machine with this program."""
    path = tmp_path / "nvidia-smi"
    path.write_text("")
    path.chmod(0o755)
    environ = {"PATH": str(tmp_path), **env}
    return probe_devices(Place(tmp_path, environ, program, "linux"), RAM)


def rows(*lines: str) -> Program:
    """Return a program that prints these lines."""
    return Program(Output(0, "".join(lines), ""))


def test_a_card_is_read_with_all_that_is_printed(tmp_path: Path) -> None:
    program = rows(ROW_3090)
    assert ask(tmp_path, program) == Answer(
        (
            Sighting(
                "nvidia-smi",
                "NVIDIA GeForce RTX 3090",
                MemoryKind.DEDICATED,
                total=24576 * MIB,
                usable=24260 * MIB,
                free=20000 * MIB,
                cuts=(Cut("reserved", 316 * MIB, "kept by the driver"),),
                backends=(Backend.CUDA, Backend.VULKAN),
                arch="8.6",
                fp16=True,
                bf16=True,
                integrated=False,
                pci="0000:01:00.0",
                uuid="GPU-aa11",
            ),
        ),
        (SourceState("nvidia-smi", State.OK, "1 device"),),
    )
    ((path, query, form),) = program.asked
    assert path == str(tmp_path / "nvidia-smi")
    assert query.startswith("--query-gpu=uuid,pci.bus_id,memory.total,memory.reserved,")
    assert form == "--format=csv,noheader,nounits"


def test_a_program_that_knows_fewer_fields_is_asked_for_those(tmp_path: Path) -> None:
    old = Output(0, "GPU-aa11, 00000000:01:00.0, 8192, 8000, Quadro, P4000\n", "")
    program = Program(Output(2, 'Field "compute_cap" is not a valid field to query.\n', ""), old)
    (seen,) = ask(tmp_path, program).sightings
    assert (seen.name, seen.total, seen.usable) == ("Quadro, P4000", 8 * GIB, 8 * GIB)
    assert (seen.free, seen.arch, seen.fp16, seen.cuts) == (8000 * MIB, None, None, ())
    assert len(program.asked) == 2


def test_without_the_program_nothing_is_started(tmp_path: Path) -> None:
    program = rows(ROW_3090)
    for environ in ({"PATH": str(tmp_path)}, {"PATH": ""}, {}):
        answer = probe_devices(Place(tmp_path, environ, program, "linux"), RAM)
        assert answer == Answer((), (SourceState("nvidia-smi", State.NOT_INSTALLED),))
    assert program.asked == []


@pytest.mark.parametrize("cell", ["[N/A]", "[Not Supported]", "Not Supported", "N/A", "0"])
def test_a_device_without_memory_of_its_own_shares_the_hosts(cell: str, tmp_path: Path) -> None:
    line = f"GPU-cc33, 0000000F:01:00.0, {cell}, {cell}, {cell}, 12.1, [N/A], NVIDIA GB10\n"
    (seen,) = ask(tmp_path, rows(line)).sightings
    assert (seen.memory_kind, seen.total, seen.free) == (
        MemoryKind.UNIFIED,
        RAM.total,
        RAM.available,
    )
    assert (seen.arch, seen.pci) == ("12.1", "000f:01:00.0")


@pytest.mark.parametrize("cell", ["[Unknown Error]", "ERR!", "[Insufficient Permissions]", ""])
def test_memory_that_is_not_shown_is_unknown(cell: str, tmp_path: Path) -> None:
    line = f"GPU-cc33, bad, {cell}, {cell}, {cell}, [N/A], [N/A], NVIDIA A10\n"
    (seen,) = ask(tmp_path, rows(line)).sightings
    assert (seen.memory_kind, seen.total, seen.usable, seen.free) == (None, None, None, None)
    assert (seen.arch, seen.pci) == (None, None)


def test_a_card_cut_into_slices_is_not_a_whole_card(tmp_path: Path) -> None:
    line = "GPU-cc33, 00000000:01:00.0, 81920, 869, 80000, 8.0, Enabled, NVIDIA A100\n"
    (seen,) = ask(tmp_path, rows(line)).sightings
    assert seen.hidden is not None
    assert "MIG" in seen.hidden


def test_devices_that_programs_do_not_get_stay_in_sight(tmp_path: Path) -> None:
    program = rows(ROW_3090, ROW_3060)
    answer = ask(tmp_path, program, CUDA_VISIBLE_DEVICES="GPU-bb")
    found = [(sighting.uuid, sighting.hidden) for sighting in answer.sightings]
    assert found == [("GPU-bb22", None), ("GPU-aa11", "CUDA_VISIBLE_DEVICES=GPU-bb")]
    unclear = ask(tmp_path, program, CUDA_VISIBLE_DEVICES="1")
    assert [caveat.code for caveat in unclear.caveats] == ["visible_devices_unclear"]


def test_a_lost_card_is_told_and_the_other_stays(tmp_path: Path) -> None:
    cell = "[GPU is lost]"
    line = ", ".join([cell] * 8) + "\n"
    answer = ask(tmp_path, rows(line, ROW_3060))
    assert [sighting.uuid for sighting in answer.sightings] == ["GPU-bb22"]
    assert [state.state for state in answer.states] == [State.OK, State.LOST]
    assert [caveat.code for caveat in answer.caveats] == ["nvidia_unreadable"]


@pytest.mark.parametrize(
    ("status", "text", "state", "words"),
    [
        (18, "Failed to initialize NVML: Driver/library version mismatch", "MISMATCH", "reboot"),
        (9, "NVIDIA-SMI has failed because it couldn't communicate", "FAILED", "not loaded"),
        (4, "Insufficient Permissions", "NO_PERMISSION", "permission"),
        (15, "Unable to determine the device handle", "LOST", "off the bus"),
        (255, "Failed to initialize NVML: GPU access blocked\nby", "FAILED", "access blocked"),
        (255, "", "FAILED", "it failed"),
    ],
)
def test_a_program_that_fails_says_why(
    status: int, text: str, state: str, words: str, tmp_path: Path
) -> None:
    answer = ask(tmp_path, Program(Output(status, text, "")))
    assert [found.state for found in answer.states] == [State[state]]
    (caveat,) = answer.caveats
    assert caveat.code == "nvidia_unreadable"
    assert words in caveat.message
    assert "\n" not in caveat.message


@pytest.mark.parametrize("status", [0, 6])
def test_a_driver_without_cards_is_nothing_to_warn_of(status: int, tmp_path: Path) -> None:
    answer = ask(tmp_path, Program(Output(status, "No devices were found\n", "")))
    assert [state.state for state in answer.states] == [State.NOTHING]
    assert answer.caveats == ()


@given(st.text(), st.text())
def test_any_output_is_rows_of_all_fields(before: str, after: str) -> None:
    fields = ("a", "b", "c")
    for row in parse_rows(f"{before}\n 1, 2 ,x, y\n{after}", fields):
        assert tuple(row) == fields
    assert parse_rows("1, 2 ,x, y", fields) == ({"a": "1", "b": "2", "c": "x, y"},)


@given(st.text() | st.from_regex(r"[0-9]+(\.[0-9]+)?"))
def test_any_cell_is_a_figure_or_none(cell: str) -> None:
    size, version = parse_size(cell), parse_version(cell)
    assert size is None or str(size // MIB) == cell.lstrip("0") or size == 0
    assert version is None or all(part >= 0 for part in version)


def test_a_number_too_long_to_be_one_is_none() -> None:
    assert (parse_size("9" * 10**6), parse_version("9" * 10**6 + ".0")) == (None, None)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the program of many examples."""
    return tmp_path_factory.mktemp("program")


CELLS = st.sampled_from(
    [*ROW_3090.split(", "), "0", "-1", "9" * 99, "8.6.1", "[N/A]", "\n", "GPU-"]
)


@given(st.text() | st.lists(CELLS).map(", ".join), st.sampled_from(["", "0", "GPU-", "1,1"]))
def test_any_output_is_an_answer(folder: Path, text: str, setting: str) -> None:
    answer = ask(folder, Program(Output(0, text, "")), CUDA_VISIBLE_DEVICES=setting)
    assert answer.states
    for seen in answer.sightings:
        total, usable = seen.total or 0, seen.usable or 0
        assert total >= usable >= (seen.free or 0) >= 0


def test_a_long_output_is_read_to_its_end(tmp_path: Path) -> None:
    answer = ask(tmp_path, rows(*["," * 7 + "\n"] * 50_000, ROW_3060))
    assert [seen.name for seen in answer.sightings] == ["NVIDIA GeForce RTX 3060"]
