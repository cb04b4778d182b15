"""The quant that trades speed and quality: never dominated, whatever the order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantpick.domain.speed import FLUENT, NEAR, Trade, balanced

if TYPE_CHECKING:
    from random import Random

#: Mean KL divergence and size of six quants of one model, each twice as fast as the one before.
LADDER = [
    Trade(5.0 * 2**step, kld, 10**9 * 2 ** (6 - step))
    for step, kld in enumerate([0.0, 0.001, 0.006, 0.02, 0.1, 0.5])
]


KNOWN = st.floats(0.1, 500)


def trades(speeds: st.SearchStrategy[float | None]) -> st.SearchStrategy[list[Trade]]:
    trade = st.builds(Trade, speeds, st.floats(0, 5), st.integers(10**6, 10**12))
    return st.lists(trade, min_size=1, max_size=12)


@given(trades(KNOWN))
def test_balance_is_never_dominated(candidates: list[Trade]) -> None:
    pick = candidates[balanced(candidates)]
    for other in candidates:
        as_good = (other.speed or 0) >= (pick.speed or 0) and other.kld <= pick.kld
        assert not (as_good and other.size <= pick.size and other != pick)


@given(trades(KNOWN | st.none()), st.randoms())
def test_balance_does_not_depend_on_the_order(candidates: list[Trade], random: Random) -> None:
    pick = candidates[balanced(candidates)]
    random.shuffle(candidates)
    # Without all speeds, two of one size and one loss are the same to it.
    assert candidates[balanced(candidates)][1:] == pick[1:]


def test_balance_takes_the_fastest_that_is_near_the_best_of_the_fluent() -> None:
    # 20 tokens a second are fluent, so the third is the best there; its neighbour loses too much.
    assert LADDER[2].speed == FLUENT
    assert balanced(LADDER) == 2
    closer = LADDER[3]._replace(kld=LADDER[2].kld + NEAR)
    assert balanced([*LADDER[:3], closer, *LADDER[4:]]) == 3
    # Where nothing is fluent, half the fastest will do.
    assert balanced(LADDER[:2]) == 1
    assert balanced([LADDER[0], LADDER[1]._replace(kld=0.5)]) == 0
    with pytest.raises(ValueError, match="nothing"):
        balanced([])


def test_without_speeds_sizes_tell_what_is_fast() -> None:
    unknown = [trade._replace(speed=None) for trade in LADDER]
    # What loses too much sets no pace.
    assert balanced([LADDER[0], *unknown[1:]]) == balanced(unknown[:4]) == 2
