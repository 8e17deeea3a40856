"""Intervals from few values hold as often as they say."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from lmtune.evaluation.audit.canaries import _measure_group
from lmtune.evaluation.audit.shares import Exposure
from lmtune.evaluation.comparison import DocumentBits, bound_bits, compare_documents
from lmtune.evaluation.intervals import bound_resampled
from lmtune.reporting.language import EN, PT

PAIRS = 400


@pytest.mark.parametrize(("count", "student"), [(5, 2.7764), (10, 2.2622), (60, 2.0010)])
def test_the_interval_of_a_mean_of_normal_values_is_that_of_student(count, student):
    """A bootstrap shows sqrt((count - 1) / count) of the standard error, which is 1 here."""
    spread = NormalDist(0, math.sqrt((count - 1) / count))
    tail, grid = spread.cdf(-student), 1 << 18
    resampled = np.array([spread.inv_cdf((each + 0.5) / grid) for each in range(int(4 * tail * grid) + 50)])
    middle = np.zeros(grid - 2 * len(resampled))
    low, high = bound_resampled(np.concatenate([resampled, middle, -resampled]), count)
    assert (low, high) == pytest.approx((-student, student), rel=0.01)


def test_of_ten_documents_95_in_100_intervals_hold():
    """The percentiles that would be plain hold in 90."""
    draw, sizes = np.random.default_rng(0), np.full(10, 1_000)
    one = two = 0
    for _ in range(PAIRS):
        theirs = draw.normal(1.0, 0.2, len(sizes))
        ours = theirs - 0.01 + draw.normal(0, 0.02, len(sizes))
        told = [DocumentBits(bits * math.log(2) * sizes, sizes) for bits in (ours, theirs)]
        low, high = bound_bits(told[1])
        one += low <= 1.0 <= high
        found = compare_documents(*told)
        two += found.low <= -0.01 <= found.high
    assert (one / PAIRS, two / PAIRS) == pytest.approx((0.95, 0.95), abs=0.025)


def test_of_eight_canaries_that_nobody_knows_nine_in_ten_intervals_hold():
    """Exposure of a text that is not known is 1 / ln 2 in the mean, and skewed; the percentiles that would be plain hold in 84 of 100."""
    draw, held = np.random.default_rng(1), 0
    for _ in range(PAIRS):
        group = _measure_group(1, [Exposure(int(better), 1_000) for better in draw.integers(0, 1_001, 8)], 0.01)
        held += group["low"] <= 1 / math.log(2) <= group["high"]
    assert held / PAIRS == pytest.approx(0.9, abs=0.03)


def test_the_mean_exposure_of_unknown_texts_is_the_one_that_the_page_tells():
    bits = np.mean([Exposure(better, 1_000).bits for better in range(1_001)])
    assert bits == pytest.approx(1 / math.log(2), abs=0.01)
    assert f"{bits:.1f} in the mean" in EN.say("audit_canaries_note", digits=10, n=1_000, most="10.0", allowed="1 %")
    assert f"{PT.number(bits, 1)} em média" in PT.say(
        "audit_canaries_note", digits=10, n="1.000", most="10,0", allowed="1%"
    )
