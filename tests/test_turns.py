"""Sources take turns by their weights, and rows on disk come once before any comes again."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtune.data.turns import Turns, draw_rows

WEIGHTS = st.lists(st.integers(1, 9999).map(lambda hundreds: hundreds / 100), min_size=1, max_size=5)


@given(weights=WEIGHTS, lanes=st.integers(1, 6), lane=st.integers(0, 5), rows=st.integers(1, 60))
def test_rows_of_each_source_come_in_their_order(weights, lanes, lane, rows):
    turns, lane = Turns(weights, lanes), lane % lanes
    following = [0] * len(weights)
    for row in range(rows):
        source, number = turns.find(lane, row)
        assert number == following[source]
        following[source] += 1
    assert turns.count(lane, rows) == following


@given(weights=WEIGHTS, lanes=st.integers(1, 6), rows=st.integers(0, 10**12))
def test_shares_are_kept_from_the_first_row_on_and_over_all_lanes(weights, lanes, rows):
    turns, whole = Turns(weights, lanes), sum(weights)
    counts = [turns.count(lane, rows) for lane in range(lanes)]
    for source, weight in enumerate(weights):
        for count in counts:
            assert count[source] == pytest.approx(rows * weight / whole, abs=source + 1.01)
    of_first = sum(count[0] for count in counts)
    assert of_first == pytest.approx(lanes * rows * weights[0] / whole, abs=0.51)


def test_sources_are_spread_evenly():
    turns = Turns([3, 1])
    assert [turns.find(0, row)[0] for row in range(8)] == [0, 0, 1, 0, 0, 0, 1, 0]


@given(count=st.integers(1, 9), rows=st.integers(1, 40))
def test_each_row_comes_once_before_any_comes_again(count, rows):
    drawn = Counter(draw_rows(range(rows), count, 3, 1))
    assert max(drawn.values()) - min(drawn.get(row, 0) for row in range(count)) <= 1
    assert draw_rows(range(rows - 1, rows), count, 3, 1) == draw_rows(range(rows), count, 3, 1)[-1:]
