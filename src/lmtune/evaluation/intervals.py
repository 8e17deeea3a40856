"""Intervals from few values: Student's distribution, and the bootstrap interval that is as wide as it."""

import math
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 2_000
MOST_FREEDOM = 200
"""Above, Student's distribution is taken as that of 200 degrees of freedom: 1.972 where the normal one has 1.960."""


def bound_resampled(resampled: np.ndarray, count: float) -> tuple[float, float]:
    """The expanded percentile interval (Hesterberg 2015, arXiv:1411.5279) of what was resampled [resamples].

    Of `count` values, a bootstrap shows sqrt((count - 1) / count) of the spread of their mean, and its percentiles are those
    of a normal distribution: from ten values, nine in ten plain intervals of 95 % hold, and of five, five in six. Here the
    tails are so small that the interval of a mean of normal values is Student's. count: 2 or more; where values weigh
    unevenly, the effective number of them.
    """
    freedom = min(max(1, int(count) - 1), MOST_FREEDOM)
    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * find_quantile(CONFIDENCE, freedom))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def find_share(t: float, freedom: int) -> float:
    """The share of Student's distribution within -t and t, by its finite series (Abramowitz and Stegun 1964, 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = (cosine if odd else 1.0) if freedom > 1 else 0.0
    for power in range(2 + odd, freedom - 1, 2):
        term *= (power - 1) / power * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def find_quantile(share: float, freedom: int) -> float:
    """The t within which a share of Student's distribution lies, to 1e-7."""
    low, high = 0.0, 1.0
    while find_share(high, freedom) < share:
        low, high = high, 2 * high
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if find_share(middle, freedom) < share else (low, middle)
    return low
