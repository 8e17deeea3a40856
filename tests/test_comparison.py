"""The paired bootstrap against figures known otherwise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtune.evaluation.comparison import DocumentBits, compare_documents

SIZES = np.full(400, 1_000)


def draw_bits(mean, seed):
    return DocumentBits(np.random.default_rng(seed).normal(mean, 100.0, len(SIZES)), SIZES)


def test_the_difference_is_that_of_the_sums():
    ours, theirs = (
        DocumentBits(np.array([30.0, 10.0]), np.array([10, 30])),
        DocumentBits(np.array([20.0, 25.0]), np.array([10, 30])),
    )
    assert compare_documents(ours, theirs).difference == pytest.approx((40 - 45) / math.log(2) / 40, rel=1e-12)


def test_the_interval_is_that_of_the_normal_distribution():
    """Equal sizes make the difference a mean, whose interval is known: 1.96 standard errors either way."""
    ours, theirs = draw_bits(700, 1), draw_bits(720, 2)
    each = (ours.nll - theirs.nll) / math.log(2) / 1_000
    error = each.std(ddof=1) / math.sqrt(len(each))
    found = compare_documents(ours, theirs)
    assert found.difference == pytest.approx(each.mean(), rel=1e-12)
    assert found.low == pytest.approx(each.mean() - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(each.mean() + 1.96 * error, abs=0.3 * error)


def test_documents_are_paired():
    """A model better by the same on every document is better for certain, however the documents differ."""
    theirs = draw_bits(700, 1)
    found = compare_documents(DocumentBits(theirs.nll - 1.0, SIZES), theirs)
    assert found.low == pytest.approx(found.high) == pytest.approx(found.difference)
    assert found.high < 0


def test_the_same_seed_gives_the_same_interval():
    ours, theirs = draw_bits(700, 1), draw_bits(720, 2)
    assert compare_documents(ours, theirs) == compare_documents(ours, theirs)
    assert compare_documents(ours, theirs, seed=1).low != compare_documents(ours, theirs).low


@pytest.mark.parametrize(
    "sizes", [[10], [10] * 9, [10] * 100 + [100_000], [0, 10], [10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
)
def test_too_few_documents_have_no_interval(sizes):
    """One that dwarfs the others counts for all of them, and an empty one for none."""
    table = np.array(sizes)
    found = compare_documents(*(DocumentBits(table * bits, table) for bits in (0.5, 0.6)))
    assert found.difference < 0
    assert (found.low, found.high) == (None, None)
    assert found.effective_documents < 10


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any), st.integers(0, 9))
def test_an_interval_is_finite_or_not_there(sizes, seed):
    table, draw = np.array(sizes), np.random.default_rng(seed)
    found = compare_documents(*(DocumentBits(table * draw.random(len(table)), table) for _ in range(2)))
    assert math.isfinite(found.difference)
    assert (found.low is None) == (found.effective_documents < 10)
    assert found.low is None or (math.isfinite(found.low) and found.low <= found.high)
