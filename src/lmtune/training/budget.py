"""How much old text a training learns again, so that it does not forget more than it may: a pure function of what was measured.

The share starts at a quarter, since learning is fast then and nothing has been measured, and falls as long as the rise of the
watched text's bits per byte leaves room; it grows again before the budget is spent, and is the largest where it is. Which rows of
old text belong to a step follows from the shares alone, so a resumed run cannot differ.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

START = 0.25
"""The share before anything was measured, unless `most` is less."""
AIM = 0.75
"""Fraction of the budget that the share aims for; the rest is for what shows only at the next evaluation."""
FASTEST = 2.0
"""Largest factor by which a share changes between evaluations, up or down, unless the budget is spent."""
LEAST = 1 / 32
"""The smallest share, as a fraction of the largest. Not 0, which no factor could raise."""


class Gauge(NamedTuple):
    """One evaluation of the watched text."""

    step: int
    bits: float
    """Bits per byte."""
    share: float
    """Share of old text in the steps that follow, decided on this evaluation."""


def measure_rise(before: float, after: float) -> float:
    """The relative increase of bits per byte."""
    return after / before - 1


def decide(past: Sequence[Gauge], bits: float, budget: float, most: float) -> float:
    """The share of old text from this evaluation on, from `most * LEAST` to `most`.

    past: the evaluations before it, that of the untouched model first. bits: measured now. budget: the rise that is allowed.
    Never less for a higher measure.
    """
    if not past:
        return min(START, most)
    rise = measure_rise(past[0].bits, bits)
    if not rise <= budget:  # also true of NaN
        return most
    ahead = rise + max(0.0, rise - measure_rise(past[0].bits, past[-1].bits))
    factor = min(FASTEST, max(1 / FASTEST, ahead / (AIM * budget)))
    return min(most, max(most * LEAST, past[-1].share * factor))


def find_share(past: Sequence[Gauge], step: int) -> float:
    """The share of old text in the step that follows `step` steps; 0 before anything was measured."""
    return next((gauge.share for gauge in reversed(past) if gauge.step <= step), 0.0)


def count_rows(past: Sequence[Gauge], rows: int, step: int) -> int:
    """Rows of old text in the first `step` steps, each of which has `rows` of new text besides."""
    ends = [gauge.step for gauge in past[1:]] + [step]
    steps = [(gauge.share, max(0, min(end, step) - gauge.step)) for gauge, end in zip(past, ends, strict=False)]
    return math.floor(rows * sum(count * share / (1 - share) for share, count in steps) + 1e-6)


def divide(first: int, last: int, parts: int) -> list[range]:
    """range(first, last) in `parts` consecutive ranges of nearly equal length."""
    bounds = [first + part * (last - first) // parts for part in range(parts + 1)]
    return [range(start, end) for start, end in pairwise(bounds)]
