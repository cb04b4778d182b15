"""GPUs by Vulkan: when the loader is asked, and how that fails."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.host import State
from quantpick.probes import vulkan
from quantpick.probes.protocol import Place
from quantpick.probes.vulkan_listing import parse_listing
from tests.support.vulkan import (
    AMD,
    DOZEN,
    MANIFEST,
    MOLTENVK,
    NVIDIA,
    RADEON,
    RAM,
    UUID_A,
    Loader,
    ask,
    heap,
    state_of,
    touch,
)

if TYPE_CHECKING:
    from pathlib import Path

# Machines with nothing to ask


def test_no_driver_starts_no_process(tmp_path: Path) -> None:
    touch(tmp_path, "dev/dri/renderD128")
    loader = Loader("")
    assert state_of(ask(tmp_path, loader)).state is State.NOT_INSTALLED
    assert loader.asked == []


def test_no_device_node_starts_no_process(tmp_path: Path) -> None:
    touch(tmp_path, MANIFEST, "dev/dri/card0", "dev/nvidiactl")
    loader = Loader("")
    state = state_of(ask(tmp_path, loader))
    assert (state.state, state.detail) == (State.NOTHING, "no GPU device node")
    assert loader.asked == []


@pytest.mark.parametrize("folder", ["usr/share", "usr/local/share", "etc"])
@pytest.mark.parametrize("node", ["dev/dri/renderD129", "dev/nvidia0", "dev/nvidia3", "dev/dxg"])
def test_a_driver_and_a_node_are_asked_about(folder: str, node: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{folder}/vulkan/icd.d/some_icd.json", node)
    loader = Loader(json.dumps({"devices": [RADEON]}))
    assert len(ask(tmp_path, loader).sightings) == 1
    assert len(loader.asked) == 1


@pytest.mark.parametrize("name", ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"])
@pytest.mark.parametrize(("value", "asked"), [("/some/icd.json", 1), ("", 0)])
def test_a_driver_named_by_the_environment_is_asked(
    name: str, value: str, asked: int, tmp_path: Path
) -> None:
    loader = Loader(json.dumps({"devices": [RADEON]}))
    answer = vulkan.probe_devices(Place(tmp_path, {name: value}, loader, "linux"), RAM)
    assert (len(answer.sightings), len(loader.asked)) == (asked, asked)


def test_windows_has_neither_manifests_nor_nodes(tmp_path: Path) -> None:
    loader = Loader(json.dumps({"devices": [RADEON]}))
    assert len(ask(tmp_path, loader, system="win32").sightings) == 1


def no_permission(root: Path) -> None:
    """Ask, and prove that the user is told about the missing permission."""
    loader = Loader("")
    answer = ask(root, loader)
    state = state_of(answer)
    assert state.state is State.NO_PERMISSION
    assert "/dev/dri/renderD128" in state.detail
    assert "add yourself to the group render" in state.advice
    assert "--device /dev/dri" in state.advice
    assert [caveat.code for caveat in answer.caveats] == ["vulkan_no_permission"]
    assert state.advice in answer.caveats[0].message
    assert loader.asked == []


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open every file"
)
def test_a_closed_node_is_no_permission(tmp_path: Path) -> None:
    touch(tmp_path, MANIFEST, "dev/dri/renderD128")
    (tmp_path / "dev/dri/renderD128").chmod(0o400)
    no_permission(tmp_path)


def test_a_node_that_cannot_be_opened_is_no_permission(tmp_path: Path) -> None:
    touch(tmp_path, MANIFEST)
    (tmp_path / "dev/dri").mkdir(parents=True)
    # Root may open every file, but not one that is not there.
    (tmp_path / "dev/dri/renderD128").symlink_to("nowhere")
    no_permission(tmp_path)


@pytest.mark.parametrize("open_node", ["dev/dri/renderD129", "dev/nvidia0"])
def test_one_node_that_can_be_opened_is_enough(open_node: str, tmp_path: Path) -> None:
    touch(tmp_path, MANIFEST, open_node, "dev/dri/card0")
    (tmp_path / "dev/dri/renderD128").symlink_to("nowhere")
    assert len(ask(tmp_path, Loader(json.dumps({"devices": [RADEON]}))).sightings) == 1


# Answers without devices


@pytest.mark.parametrize(
    ("document", "state", "detail"),
    [
        ({"devices": []}, State.NOTHING, "no device"),
        ({"missing": "libvulkan.so.1"}, State.NOT_INSTALLED, "no libvulkan.so.1"),
        (
            {"call": "vkCreateInstance", "result": -9},
            State.NOT_INSTALLED,
            "no Vulkan driver that loads",
        ),
    ],
)
def test_a_machine_without_vulkan_is_no_trouble(
    document: dict[str, object], state: State, detail: str, tmp_path: Path
) -> None:
    answer = ask(tmp_path, Loader(json.dumps(document)), VK_DRIVER_FILES="x")
    assert (state_of(answer).state, state_of(answer).detail) == (state, detail)
    assert answer.caveats == ()


@pytest.mark.parametrize(
    ("loader", "detail"),
    [
        (Loader("", -11), "a driver crashed (SIGSEGV)"),
        (Loader("", -99), "a driver crashed (signal 99)"),
        (Loader("", 0xC0000005), "a driver crashed (exception 0xc0000005)"),
        (Loader(json.dumps({"devices": [RADEON]}), -6), "a driver crashed (SIGABRT)"),
        (Loader(""), "no answer from the loader"),
        (Loader("", 1, "Traceback\nKeyError: 7\n"), "no answer from the loader (KeyError: 7)"),
        (
            Loader(json.dumps({"call": "vkCreateInstance", "result": -1})),
            "vkCreateInstance answered -1",
        ),
    ],
)
def test_a_driver_that_fails_is_told(loader: Loader, detail: str, tmp_path: Path) -> None:
    answer = ask(tmp_path, loader, VK_DRIVER_FILES="x")
    state = state_of(answer)
    assert (state.state, state.detail) == (State.FAILED, detail)
    assert "driver" in state.advice
    assert [caveat.code for caveat in answer.caveats] == ["vulkan_failed"]
    assert detail in answer.caveats[0].message


def test_lines_that_drivers_print_are_passed_over(tmp_path: Path) -> None:
    noise = "WARNING: radv is not a conformant implementation\n{}\n"
    text = noise + json.dumps({"devices": [RADEON]}) + "\nbye\n"
    assert len(ask(tmp_path, Loader(text), VK_DRIVER_FILES="x").sightings) == 1


# Any text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from([0, 1, 2, 3, 4, AMD, NVIDIA, DOZEN, MOLTENVK, UUID_A])
    | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*RADEON, *heap(1), "devices", "call"]), inner)
    ),
    max_leaves=20,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(sorted(RADEON)), JSON), max_size=5)


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    parse_listing(text)
    parse_listing("{" + text)
    assert all(0 <= number < 3 for number in vulkan.parse_visible(text, 3))


@given(st.builds(lambda rows: {"devices": rows}, ROWS | JSON) | JSON, st.none() | st.text())
def test_any_document_is_survived(document: object, variable: str | None) -> None:
    listing = parse_listing(json.dumps(document))
    if listing is None:
        return
    for seen in vulkan.sight(listing.gpus, variable, RAM):
        assert seen.total is None or seen.total > 0
        assert seen.usable is None or (seen.total is not None and seen.usable <= seen.total)
        assert seen.free is None or (seen.total is not None and 0 <= seen.free <= seen.total)


@pytest.mark.parametrize(
    "text",
    ["", "[" * 10**6, '{"devices":' + "[" * 10**6, "{" * 10**6, "{\n" * 10**6, "9" * 10**6],
    ids=["empty", "lists", "devices", "braces", "lines", "digits"],
)
def test_megabytes_are_survived(text: str) -> None:
    assert parse_listing(text) is None
    assert vulkan.parse_visible(text, 3) == frozenset()
