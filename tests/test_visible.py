"""Which NVIDIA devices programs get under CUDA_VISIBLE_DEVICES and its companions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.visible import Unit, hides_devices, parse_visible_devices, visible_units

ALIKE = [Unit(n, "A", uuid) for n, uuid in enumerate(("GPU-aa11", "GPU-aa22", "GPU-bb33"))]
MIXED = [Unit(0, "A", "GPU-aa11"), Unit(1, "B", "GPU-aa22"), Unit(2, "C", "GPU-bb33")]
#: Two whole cards around one with two slices.
SLICED = [
    Unit(0, "A", "GPU-aa11"),
    Unit(1, "A", "MIG-1", "GPU-aa22", is_slice=True),
    Unit(1, "A", "MIG-2", "GPU-aa22", is_slice=True),
    Unit(2, "A", "GPU-bb33"),
]
PCI_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("setting", "order"),
    [
        ("", ()),
        ("  ", ()),
        ("0", (0,)),
        ("1", (1,)),
        ("2,0", (2, 0)),
        (" 1 , 2 ", (1, 2)),
        ("0,-1,1", (0,)),
        ("0,7,1", (0,)),
        ("0,,1", (0,)),
        ("-1", ()),
        ("1x,2", (1, 2)),
        ("none", ()),
        ("99999999999999999999", ()),
        ("GPU-bb33,GPU-aa11", (2, 0)),
        ("GPU-bb", (2,)),
        ("GPU-aa", ()),
        ("GPU-aa1,GPU-aa", (0,)),
        ("GPU-aa1,2", (0,)),
        ("2,GPU-aa1", (2,)),
        ("gpu-aa1", ()),
        ("MIG-1", ()),
    ],
)
def test_programs_get_what_is_listed_up_to_the_first_bad_entry(
    setting: str, order: tuple[int, ...]
) -> None:
    visible = visible_units(ALIKE, {"CUDA_VISIBLE_DEVICES": setting})
    assert visible.order == order
    others = {0, 1, 2} - set(order)
    assert visible.hidden == dict.fromkeys(others, f"CUDA_VISIBLE_DEVICES={setting}")
    assert visible.caveat is None


def test_unset_they_get_all() -> None:
    assert visible_units(MIXED, {}) == ((0, 1, 2), {}, None)


@pytest.mark.parametrize("setting", ["0,0", "2,1,2", "GPU-aa1,GPU-aa11", "0,00"])
def test_a_device_named_twice_leaves_none(setting: str) -> None:
    visible = visible_units(ALIKE, {"CUDA_VISIBLE_DEVICES": setting})
    assert visible.order == ()
    assert set(visible.hidden) == {0, 1, 2}
    assert all("twice" in why for why in visible.hidden.values())
    assert visible.caveat is not None
    assert visible.caveat.code == "visible_devices_invalid"
    assert f"CUDA_VISIBLE_DEVICES={setting}" in visible.caveat.message


def test_what_comes_after_a_bad_entry_is_no_second_naming() -> None:
    assert visible_units(ALIKE, {"CUDA_VISIBLE_DEVICES": "1,-1,1"}).order == (1,)


@pytest.mark.parametrize("units", [MIXED, [u._replace(model=None) for u in ALIKE]])
@pytest.mark.parametrize("order", [{}, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}])
@pytest.mark.parametrize("setting", ["0", "1", "2,1"])
def test_numbers_of_different_cards_are_not_guessed(
    setting: str, order: dict[str, str], units: list[Unit]
) -> None:
    visible = visible_units(units, {"CUDA_VISIBLE_DEVICES": setting, **order})
    assert (visible.order, visible.hidden) == ((0, 1, 2), {})
    assert visible.caveat is not None
    assert visible.caveat.code == "visible_devices_unclear"
    assert all(word in visible.caveat.message for word in ("PCI_BUS_ID", "UUID", "--engine"))


@pytest.mark.parametrize(
    ("env", "order"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,0", **PCI_ORDER}, (2, 0)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bb"}, (2,)),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1,0"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "7"}, ()),
        # All are named, and who is first is not known.
        ({"CUDA_VISIBLE_DEVICES": "2,1,0"}, (0, 1, 2)),
    ],
)
def test_of_different_cards_what_is_sure_is_told(
    env: dict[str, str], order: tuple[int, ...]
) -> None:
    visible = visible_units(MIXED, env)
    assert (visible.order, visible.caveat) == (order, None)
    assert set(visible.hidden) == {0, 1, 2} - set(order)


@pytest.mark.parametrize(
    ("setting", "order"),
    [
        (None, (1,)),
        ("0,2", (0, 3)),
        ("1", (1,)),
        ("0,1", (1,)),
        ("GPU-aa22", (1,)),
        ("MIG-2", (2,)),
        ("MIG-2,MIG-1", (2,)),
        ("MIG-2,GPU-bb33", (2,)),
        ("MIG-", ()),
        ("MIG-3,GPU-bb33", ()),
        ("GPU-bb33", (3,)),
    ],
)
def test_of_mig_slices_programs_get_one_and_nothing_beside_it(
    setting: str | None, order: tuple[int, ...]
) -> None:
    env = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    visible = visible_units(SLICED, env)
    assert visible.order == order
    assert set(visible.hidden) == {0, 1, 2, 3} - set(order)


def test_what_is_listed_and_not_used_beside_a_slice_is_told_apart() -> None:
    hidden = visible_units(SLICED, {"CUDA_VISIBLE_DEVICES": "0,1"}).hidden
    assert "whole card" in hidden[0]
    assert hidden[2] == "a CUDA program uses one MIG slice"
    assert hidden[3] == "CUDA_VISIBLE_DEVICES=0,1"


def test_without_devices_no_setting_matters() -> None:
    for setting in ("", "0", "0,0", "GPU-x"):
        assert visible_units([], {"CUDA_VISIBLE_DEVICES": setting}) == ((), {}, None)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (None, ""),
        ("", ""),
        ("all", ""),
        ("void", "NVIDIA_VISIBLE_DEVICES=void"),
        ("none", "NVIDIA_VISIBLE_DEVICES=none"),
    ],
)
def test_the_variable_that_empties_a_container_is_named(setting: str | None, said: str) -> None:
    env = {} if setting is None else {"NVIDIA_VISIBLE_DEVICES": setting}
    assert hides_devices(env) == said


SETTINGS = st.text() | st.lists(
    st.sampled_from(["0", "1", "2", "3", "-1", "GPU-aa1", "GPU-bb", "MIG-1", "MIG-2", ""])
).map(",".join)


@given(SETTINGS, st.sampled_from([ALIKE, MIXED, SLICED, []]), st.sampled_from([{}, PCI_ORDER]))
def test_every_device_is_given_or_hidden(
    setting: str, units: list[Unit], env: dict[str, str]
) -> None:
    visible = visible_units(units, {"CUDA_VISIBLE_DEVICES": setting, **env})
    assert sorted([*visible.order, *visible.hidden]) == list(range(len(units)))


@pytest.mark.parametrize("text", ["0," * 500_000, "9" * 10**6, "GPU-" * 10**6, "\0" * 10**6])
def test_a_long_setting_is_read_to_its_end(text: str) -> None:
    assert len(parse_visible_devices(text)) <= 500_000
    assert visible_units(MIXED, {"CUDA_VISIBLE_DEVICES": text}).order == ()
