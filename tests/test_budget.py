"""A forgetting budget is held by arithmetic on what was measured: shares, rows, and what a toy world does under them."""

import math
import random
from itertools import pairwise

import pytest

from lmtune.config import ForgettingConfig
from lmtune.config.forgetting import read_share
from lmtune.errors import ConfigError
from lmtune.training.budget import FASTEST, LEAST, START, Gauge, count_rows, decide, divide, find_share, measure_rise

BUDGET, MOST = 0.01, 0.5


def histories(count=200):
    """Made-up evaluations, each with the shares that were decided on them."""
    draw = random.Random(7)
    for _ in range(count):
        bits, past = draw.uniform(0.5, 4), []
        for number in range(draw.randint(1, 8)):
            measured = bits if number == 0 else bits * (1 + draw.gauss(0.5, 1) * BUDGET)
            past.append(Gauge(number * 10, measured, decide(past, measured, BUDGET, MOST)))
        yield past


def test_a_share_lies_between_its_bounds_and_changes_by_a_factor_of_two_at_most():
    for past in histories():
        shares = [gauge.share for gauge in past]
        assert all(MOST * LEAST <= share <= MOST for share in shares)
        assert shares[0] == START
        for before, after, gauge in zip(shares, shares[1:], past[1:], strict=False):
            spent = measure_rise(past[0].bits, gauge.bits) > BUDGET
            assert after == MOST if spent else before / FASTEST <= after <= before * FASTEST


def test_the_first_share_is_no_larger_than_the_largest():
    assert decide([], 2.0, BUDGET, most=0.1) == 0.1
    assert decide([], 2.0, BUDGET, most=0.9) == START


def test_more_is_forgotten_never_less_is_learned_again():
    for past in histories():
        shares = [decide(past, past[0].bits * (1 + rise / 1000), BUDGET, MOST) for rise in range(-20, 21)]
        assert shares == sorted(shares)


def test_what_counts_is_the_rise_and_not_the_size_of_the_measure():
    for past in histories():
        scaled = [gauge._replace(bits=4 * gauge.bits) for gauge in past]
        assert decide(scaled, 8.0, BUDGET, MOST) == decide(past, 2.0, BUDGET, MOST)


def test_a_measure_that_is_no_number_asks_for_all_there_is():
    assert decide([Gauge(0, 2.0, 0.01)], math.nan, BUDGET, MOST) == MOST


def test_nothing_forgotten_lets_the_share_sink_to_its_floor_and_no_further():
    past = []
    for number in range(20):
        past.append(Gauge(number, 2.0, decide(past, 2.0, BUDGET, MOST)))
    assert past[1].share == START / 2
    assert past[-1].share == MOST * LEAST


@pytest.mark.parametrize("drift", [0.002, 0.01, 0.03])
@pytest.mark.parametrize("pull", [0.3, 1.0])
def test_in_a_world_that_some_share_keeps_the_budget_holds_at_the_end(drift, pull):
    """Each interval forgets `drift`, less the lower the rate, and recovers with the share of old text."""
    rise, past, intervals = 0.0, [], 20
    for number in range(intervals + 1):
        past.append(Gauge(number, 2 * (1 + rise), decide(past, 2 * (1 + rise), BUDGET, MOST)))
        rate = 0.5 * (1 + math.cos(math.pi * number / intervals))
        needed = 0.8 * MOST * drift / 0.03
        rise = max(0.0, rise + drift * rate * (1 - past[-1].share / needed) - pull * rate * past[-1].share * rise)
    assert measure_rise(past[0].bits, past[-1].bits) <= BUDGET
    assert sum(gauge.share for gauge in past) < MOST * len(past)


def test_rows_of_old_text_make_up_their_share_whatever_steps_they_fall_into():
    past = [Gauge(0, 2.0, 0.25), Gauge(10, 2.0, 0.125), Gauge(30, 2.0, 0.0)]
    counts = [count_rows(past, 8, step) for step in range(61)]
    assert counts[0] == 0
    assert counts[10] == 26  # 80 rows of new text, a third of it on top
    assert counts[30] == counts[60] == math.floor(80 / 3 + 160 / 7)
    steps = [after - before for before, after in pairwise(counts)]
    assert set(steps[:10]) == {2, 3}
    assert set(steps[10:30]) == {1, 2}
    assert [find_share(past, step) for step in (0, 9, 10, 29, 30)] == [0.25, 0.25, 0.125, 0.125, 0.0]
    assert find_share([], 5) == 0.0
    assert count_rows([], 8, 5) == 0


def test_later_evaluations_change_no_rows_of_earlier_steps():
    for past in histories(50):
        for length in range(1, len(past)):
            known = past[:length]
            for step in range(past[length].step + 1):
                assert count_rows(known, 8, step) == count_rows(past, 8, step)


def test_rows_are_divided_evenly_and_none_is_left():
    for count in range(12):
        parts = divide(5, 5 + count, 4)
        assert [number for part in parts for number in part] == list(range(5, 5 + count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.01", 0.01), ("12.5%", 0.125), ("100%", 1.0)])
def test_a_share_is_a_percentage_or_a_part_of_one(text, share):
    assert read_share("forgetting.budget", text) == share


@pytest.mark.parametrize(
    "given", [{"budget": "one"}, {"budget": "0"}, {"budget": "-1%"}, {"most": "100%"}, {"budget": "inf"}]
)
def test_anything_else_is_refused_by_its_key(given):
    (name,) = given
    with pytest.raises(ConfigError, match=rf"forgetting\.{name}=.*: expected a share"):
        ForgettingConfig(**given)
