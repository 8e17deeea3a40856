"""Is one way of training better than another? Runs of both on the same documents, by seeds and by documents at once.

Two runs that differ in their seed alone differ in their numbers too. An interval over documents says how far two runs
differ; that of compare_runs says how far two ways of training do, of which there are a few runs each.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from lmtune.evaluation.comparison import (
    CONFIDENCE,
    MIN_DOCUMENTS,
    RESAMPLES,
    DocumentBits,
    count_effective,
    resample,
)
from lmtune.storage import Record

SOUGHT = 0.005
"""The gain that seeds_needed is about, as a share of the bits per byte compared with: half a percent."""
POWER = 0.8
"""Share of comparisons in which that many seeds would show it."""
MOST_SEEDS = 100
_MOST_FREEDOM = 200
"""Above, Student's distribution is taken as that of 200 degrees of freedom: 1.972 where the normal one has 1.960."""


@dataclass(frozen=True, slots=True)
class RunsDifference:
    """Mean bits per byte of some runs, less that of those that they are compared with; below zero is better."""

    difference: float
    low: float | None
    """Ends of the interval, in bits per byte; None where the documents are too few for one."""
    high: float | None
    p: float | None
    """How often a difference as large would come by chance between runs of one way of training, from 0 to 1."""
    runs: tuple[int, int]
    """How many there are, and how many they are compared with."""
    baseline: float
    """Mean bits per byte of those."""
    run_deviation: float
    """Sample standard deviation of a run among those of its way of training, in bits per byte; pooled over both."""
    document_error: float | None
    """Standard error that other documents would bring into the difference, whatever the number of runs."""
    seeds_needed: int | None
    """Runs of each that would show SOUGHT with POWER; None for more than MOST_SEEDS, or where no number would."""
    documents: int
    effective_documents: float
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES

    def as_dict(self) -> Record:
        return asdict(self)


class Spread(NamedTuple):
    """What makes the difference of two means uncertain."""

    run: float
    """Variance of a run among those of its way of training."""
    run_freedom: int
    document: float
    """Variance of the difference over documents, whatever the number of runs."""
    document_freedom: float

    def measure_error(self, runs: int, others: int) -> tuple[float, int]:
        """(standard error of the difference, its degrees of freedom) for so many runs (Satterthwaite 1946)."""
        seeds = self.run * (1 / runs + 1 / others)
        variance = seeds + self.document
        parts = seeds**2 / self.run_freedom + self.document**2 / self.document_freedom
        return math.sqrt(variance), max(1, int(min(variance**2 / parts, _MOST_FREEDOM))) if parts else _MOST_FREEDOM


def compare_runs(runs: Sequence[DocumentBits], others: Sequence[DocumentBits], seed: int = 0) -> RunsDifference:
    """The mean of `runs` less that of `others`, three runs or more in all, each scored on the same documents.

    Documents are drawn with replacement, the same draw for all runs. The spread of runs is taken from their variance,
    pooled, and not by drawing runs: of three, a draw would show two thirds of it. What the runs of one side differ in by
    document is in both parts and is counted once. The interval is Student's.
    """
    sides = [np.array([each.bits_per_byte(np.arange(len(each.nll))) for each in side]) for side in (runs, others)]
    ours, theirs = float(sides[0].mean()), float(sides[1].mean())
    effective = count_effective(others[0].sizes)
    enough = effective >= MIN_DOCUMENTS
    spread = _measure_spread(runs, others, sides, seed) if enough else None
    error, freedom = spread.measure_error(len(runs), len(others)) if spread else (math.nan, 1)
    reach = find_quantile(CONFIDENCE, freedom) * error
    return RunsDifference(
        difference=ours - theirs,
        low=ours - theirs - reach if enough else None,
        high=ours - theirs + reach if enough else None,
        p=_find_chance(ours - theirs, error, freedom) if enough else None,
        runs=(len(runs), len(others)),
        baseline=theirs,
        run_deviation=math.sqrt(_pool(sides)),
        document_error=math.sqrt(spread.document) if spread else None,
        seeds_needed=count_seeds(spread, SOUGHT * theirs) if spread else None,
        documents=len(others[0].nll),
        effective_documents=effective,
    )


def count_seeds(spread: Spread, gain: float) -> int | None:
    """The fewest runs of each side whose interval would leave out zero with POWER, for a gain in bits per byte."""
    power = NormalDist().inv_cdf(POWER)
    for runs in range(2, MOST_SEEDS + 1):
        planned = spread._replace(run_freedom=2 * runs - 2)
        error, freedom = planned.measure_error(runs, runs)
        if (find_quantile(CONFIDENCE, freedom) + power) * error <= gain:
            return runs
    return None


def _measure_spread(
    runs: Sequence[DocumentBits], others: Sequence[DocumentBits], sides: list[np.ndarray], seed: int
) -> Spread:
    every, first = [*runs, *others], len(runs)

    def measure(chosen: np.ndarray) -> np.ndarray:
        return np.stack([each.bits_per_byte(chosen) for each in every], axis=-1)

    drawn = resample(measure, len(others[0].nll), seed)  # [resamples, runs]
    halves = [drawn[:, :first], drawn[:, first:]]
    means = [half.mean(axis=1, keepdims=True) for half in halves]
    freedom = len(every) - 2
    apart = sum(float((half - mean).var(axis=0, ddof=1).sum()) for half, mean in zip(halves, means, strict=True))
    shared = apart / freedom * (1 / first + 1 / len(others))
    document = max(0.0, float((means[0] - means[1]).var(ddof=1)) - shared)
    return Spread(_pool(sides), freedom, document, count_effective(others[0].sizes) - 1)


def _pool(sides: list[np.ndarray]) -> float:
    squares = sum(float(((side - side.mean()) ** 2).sum()) for side in sides)
    return squares / (sum(map(len, sides)) - 2)


def _find_chance(difference: float, error: float, freedom: int) -> float:
    if error == 0:
        return float(difference == 0)
    return 1 - find_share(abs(difference) / error, freedom)


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
    """The t within which a share of Student's distribution lies, to 1e-9."""
    low, high = 0.0, 1e6
    while high - low > 1e-9 * max(1.0, low):
        middle = (low + high) / 2
        low, high = (middle, high) if find_share(middle, freedom) < share else (low, middle)
    return low
