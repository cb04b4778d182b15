"""The table of picks reads right, and is what the rules give today."""

from __future__ import annotations

import csv

from tests.picks import MACHINES, MODELS, TABLE, table


def test_the_table_of_picks_is_what_the_rules_give() -> None:
    assert TABLE.read_text("utf-8").splitlines() == table().splitlines()


def test_the_table_has_thirty_models_and_six_machines() -> None:
    rows = list(csv.reader(TABLE.read_text("utf-8").splitlines()))
    assert (len(rows) - 1, len(rows[0]) - 1) == (len(MODELS), len(MACHINES)) == (30, 6)
