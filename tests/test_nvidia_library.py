"""NVIDIA machines whose driver library or Python module is missing or not the right one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.host import Caveat, MemoryKind, SourceState, State
from quantpick.domain.sighting import Answer
from quantpick.probes.nvidia import bandwidth, parse_model
from quantpick.probes.nvidia_card import parse_pci
from tests.support.source_answer import RAM, ask_nvml

if TYPE_CHECKING:
    from tests.support.command import Command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder that holds the machine's /proc and /etc."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def bare(bare: Command, root: Path) -> Command:
    """Return a machine without the driver's library, and with a file tree of its own."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the library is found by its Linux name")
    return type(bare)(bare.cwd, {**bare.env, "QUANTPICK_SYSROOT": str(root)})


def write(root: Path, path: str, text: str) -> None:
    """Write a file of the machine."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


# Without the library


@pytest.mark.parametrize(
    ("env", "detail"),
    [({}, ""), ({"NVIDIA_VISIBLE_DEVICES": "none"}, "NVIDIA_VISIBLE_DEVICES=none")],
)
def test_without_a_driver_there_is_nothing_to_warn_of(
    env: dict[str, str], detail: str, bare: Command
) -> None:
    quiet = Answer((), (SourceState("NVML", State.NOT_INSTALLED, detail),))
    assert ask_nvml(bare, **env) == quiet


def test_cards_that_the_kernel_knows_are_named(bare: Command, root: Path) -> None:
    folder = "proc/driver/nvidia/gpus"
    write(root, f"{folder}/0000:01:00.0/information", "Model: \t\t NVIDIA RTX A4000\nIRQ: 7\n")
    write(root, f"{folder}/0000:02:00.0/information", "IRQ: 8\n")
    answer = ask_nvml(bare)
    (state,) = answer.states
    assert (state.state, answer.sightings) == (State.FAILED, ())
    assert state.detail == "libnvidia-ml.so.1 is missing for NVIDIA RTX A4000, an NVIDIA card"
    assert "--gpus all" in state.advice
    assert len(answer.caveats) == 1
    assert ask_nvml(bare, NVIDIA_VISIBLE_DEVICES="void").caveats == ()


def test_in_wsl_the_librarys_folder_is_named(bare: Command, root: Path) -> None:
    write(root, "usr/lib/wsl/lib/libnvidia-ml.so.1", "")
    (state,) = ask_nvml(bare).states
    assert (state.state, "/usr/lib/wsl/lib" in state.advice) == (State.FAILED, True)


def test_a_jetson_board_without_nvml_shares_the_hosts_memory(bare: Command, root: Path) -> None:
    write(root, "etc/nv_tegra_release", "# R35 (release)")
    write(root, "proc/device-tree/model", "NVIDIA Jetson AGX Orin\0")
    answer = ask_nvml(bare)
    (board,) = answer.sightings
    assert (board.name, board.total) == ("NVIDIA Jetson AGX Orin", RAM.total)
    assert (board.memory_kind, board.free) == (MemoryKind.UNIFIED, RAM.available)
    assert [state.state for state in answer.states] == [State.OK, State.NOT_INSTALLED]
    assert answer.caveats == ()


# The module


OLD_MODULE = """
class NVMLError(Exception):
    value = 12
def nvmlInit():
    {init}
def nvmlShutdown(): ...
"""


def with_module(tmp_path: Path, text: str) -> dict[str, str]:
    """Return the environment in which a module stands in front of nvidia-ml-py."""
    (tmp_path / "pynvml.py").write_text(text, "utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def test_an_outdated_module_in_front_says_what_to_do(bare: Command, tmp_path: Path) -> None:
    answer = ask_nvml(bare, **with_module(tmp_path, OLD_MODULE.format(init="pass")))
    (state,) = answer.states
    assert state.state is State.FAILED
    assert "pip uninstall pynvml nvidia-ml-py3" in state.advice
    assert answer.caveats == (
        Caveat("nvidia_unreadable", f"NVIDIA: {state.detail}: {state.advice}"),
    )


def test_without_a_driver_an_outdated_module_does_not_matter(bare: Command, tmp_path: Path) -> None:
    answer = ask_nvml(bare, **with_module(tmp_path, OLD_MODULE.format(init="raise NVMLError")))
    assert answer == Answer((), (SourceState("NVML", State.NOT_INSTALLED),))


def test_a_module_that_warns_of_itself_is_not_heard(bare: Command, tmp_path: Path) -> None:
    warning = "import warnings\nwarnings.warn('deprecated', FutureWarning)\n"
    text = warning + Path(str(pynvml.__file__)).read_text("utf-8")
    (state,) = ask_nvml(bare, **with_module(tmp_path, text)).states
    assert state.state is State.NOT_INSTALLED


# The pure parts


@given(st.text() | st.from_regex(r"[0-9a-fA-F]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]\s?"))
def test_any_text_is_an_address_or_none(text: str) -> None:
    found = parse_pci(text)
    assert found is None or parse_pci(found) == found == found.lower()


@given(st.text(), st.sampled_from(["", "Model:", "Model: \t NVIDIA X \n"]), st.text())
def test_any_text_names_a_card_or_none(before: str, line: str, after: str) -> None:
    found = parse_model(f"{before}\n{line}{after}")
    assert found is None or found == found.strip() != ""
    assert found or not line.endswith("\n")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:0A:00.0", "0000:0a:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("", None),
        ("0" * 10**6, None),
    ],
)
def test_an_address_is_written_as_the_kernel_does(text: str, address: str | None) -> None:
    assert parse_pci(text) == address


@pytest.mark.parametrize(
    ("clock", "width", "rate"),
    [(1215, 5120, 1_555_200_000_000), (9751, None, None), (None, 384, None), (0, 384, None)],
)
def test_bandwidth_is_two_transfers_a_clock(
    clock: int | None, width: int | None, rate: int | None
) -> None:
    assert bandwidth(clock, width) == rate
