"""How much of its RAM a Mac's GPU may use: the estimate against what llama.cpp logs there."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.working_set import working_set

MIB, GIB = 2**20, 2**30
PAGE = 16 * 2**10

#: RAM in GiB, macOS, and what public logs say of it, in MiB where nothing else is said.
LOGGED = [
    (16, 15, "10922.7 MiB"),
    (24, 15, "16384 MiB"),
    (32, 15, "21845.3 MiB"),
    (32, 15, "21845.34 MiB"),
    (36, 15, "27648 MiB"),
    (48, 15, "36864 MiB"),
    (64, 15, "49152 MiB"),
    (96, 15, "73728 MiB"),
    (128, 15, "98304 MiB"),
    (192, 15, "147456 MiB"),
    (512, 15, "498216.21 MB"),
    (16, 26, "12124.2 MiB"),
    (16, 26, "12713.12 MB"),
    (24, 26, "18186.3 MiB"),
    (32, 26, "25559.0 MiB"),
    (36, 26, "28754 MiB"),
    (48, 26, "38338.6 MiB"),
    (48, 26, "40200.90 MB"),
    (64, 26, "53084.2 MiB"),
    (128, 26, "110100.5 MiB"),
    (128, 26, "107.52 GiB"),
]

UNITS = {"MB": 10**6, "MiB": MIB, "GiB": GIB}


@pytest.mark.parametrize(("ram", "macos", "logged"), LOGGED)
def test_a_logged_figure_is_met_to_its_last_digit(ram: int, macos: int, logged: str) -> None:
    figure, unit = logged.split()
    estimate = Decimal(working_set(ram * GIB, macos)) / UNITS[unit]
    assert estimate.quantize(Decimal(figure), ROUND_HALF_UP) == Decimal(figure)


def test_192_gib_is_listed_in_whole_mib_that_are_rounded_down() -> None:
    assert working_set(192 * GIB, 26) // MIB == 165150


def test_pages_count_whole() -> None:
    assert working_set(16 * GIB, 15) == 699051 * PAGE
    assert working_set(16 * GIB, 26) == 775947 * PAGE


@pytest.mark.parametrize(("ram", "percent"), [(96, 81), (256, 84), (512, 84)])
def test_a_size_that_nobody_logged_has_its_lower_neighbours_share(ram: int, percent: int) -> None:
    exact = Decimal(ram * GIB * percent) / 100
    assert exact <= working_set(ram * GIB, 26) < exact + PAGE


def test_an_unknown_system_has_the_smaller_share() -> None:
    for ram in (16, 24, 32, 36, 48, 64, 96, 128, 192):
        assert working_set(ram * GIB, None) == working_set(ram * GIB, 15)
        assert working_set(ram * GIB, None) < working_set(ram * GIB, 26)


def test_later_systems_are_as_26() -> None:
    assert working_set(64 * GIB, 27) == working_set(64 * GIB, 26)


@given(st.integers(0, 2**50), st.none() | st.integers(0, 99))
def test_it_is_a_part_of_the_ram(ram: int, macos: int | None) -> None:
    assert 0 <= working_set(ram, macos) <= ram
