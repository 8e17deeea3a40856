"""Is one way of training better than another? Runs of both on the same documents, by seeds and by documents at once.

Two runs that differ in their seed alone differ in their numbers too. An interval over documents says how far two runs
differ; that of compare_runs says how far two ways of training do, of which there are a few runs each.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
    runs: tuple[int, int]
    """How many there are, and how many they are compared with."""
    baseline: float
    """Mean bits per byte of those."""
    run_deviation: float
    """Sample standard deviation of a run among those of its way of training, in bits per byte; pooled over both."""
    documents: int
    effective_documents: float
    low: float | None = None
    """Ends of the interval, in bits per byte; None where the documents are too few for one, as is what follows."""
    high: float | None = None
    p: float | None = None
    """How often a difference as large would come by chance between runs of one way of training, from 0 to 1."""
    document_error: float | None = None
    """Standard error that other documents would bring into the difference, whatever the number of runs."""
    seeds_needed: int | None = None
    """Runs of each that would show SOUGHT with POWER; None also for more than MOST_SEEDS, or where no number would."""
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES

    def as_dict(self) -> Record:
        return asdict(self)


class Spread(NamedTuple):
    """What makes a mean over runs, or the difference of two, uncertain."""

    run: float
    """Variance of a run among those of its way of training."""
    run_freedom: int
    document: float
    """Variance of the mean or difference over documents, whatever the number of runs."""
    document_freedom: float

    def measure_error(self, weight: float) -> tuple[float, int]:
        """(standard error, its degrees of freedom) for a sum of 1 / runs over the sides (Satterthwaite 1946)."""
        seeds = self.run * weight
        variance = seeds + self.document
        parts = seeds**2 / self.run_freedom + self.document**2 / self.document_freedom
        freedom = min(variance**2 / parts, _MOST_FREEDOM) if parts else _MOST_FREEDOM
        return math.sqrt(variance), max(1, int(freedom))


def compare_runs(runs: Sequence[DocumentBits], others: Sequence[DocumentBits], seed: int = 0) -> RunsDifference:
    """The mean of `runs` less that of `others`, three runs or more in all, each scored on the same documents.

    Documents are drawn with replacement, the same draw for all runs. The spread of runs is taken from their variance,
    pooled, and not by drawing runs: of three, a draw would show two thirds of it. What the runs of one side differ in by
    document is in both parts and is counted once. The interval is Student's.
    """
    sides = [runs, others]
    ours, theirs = (float(_measure(side).mean()) for side in sides)
    effective = count_effective(others[0].sizes)
    found = RunsDifference(
        difference=ours - theirs,
        runs=(len(runs), len(others)),
        baseline=theirs,
        run_deviation=math.sqrt(_pool(sides)),
        documents=len(others[0].nll),
        effective_documents=effective,
    )
    if effective < MIN_DOCUMENTS:
        return found
    spread = _measure_spread(sides, seed)
    error, freedom = spread.measure_error(1 / len(runs) + 1 / len(others))
    reach = find_quantile(CONFIDENCE, freedom) * error
    return replace(
        found,
        low=found.difference - reach,
        high=found.difference + reach,
        p=_find_chance(found.difference, error, freedom),
        document_error=math.sqrt(spread.document),
        seeds_needed=count_seeds(spread, SOUGHT * theirs),
    )


def bound_runs(runs: Sequence[DocumentBits], seed: int = 0) -> tuple[float, float] | None:
    """An interval of the mean bits per byte of two runs or more, over runs and over texts like this one.

    None for too few documents. It is wider than that of a difference: compare_runs tells more.
    """
    if count_effective(runs[0].sizes) < MIN_DOCUMENTS:
        return None
    error, freedom = _measure_spread([runs], seed).measure_error(1 / len(runs))
    mean, reach = float(_measure(runs).mean()), find_quantile(CONFIDENCE, freedom) * error
    return mean - reach, mean + reach


def count_seeds(spread: Spread, gain: float) -> int | None:
    """The fewest runs of each side whose interval would leave out zero with POWER, for a gain in bits per byte."""
    power = NormalDist().inv_cdf(POWER)
    for runs in range(2, MOST_SEEDS + 1):
        error, freedom = spread._replace(run_freedom=2 * runs - 2).measure_error(2 / runs)
        if (find_quantile(CONFIDENCE, freedom) + power) * error <= gain:
            return runs
    return None


def plan_seeds(deviation: float, mean: float) -> int | None:
    """Runs of each side that would show SOUGHT of `mean` if sides differed alike on all documents; None for more than MOST_SEEDS.

    deviation: sample standard deviation of runs, in bits per byte.
    """
    return count_seeds(Spread(deviation**2, 1, 0.0, 1.0), SOUGHT * mean)


def _measure(runs: Sequence[DocumentBits]) -> np.ndarray:
    """[runs] bits per byte."""
    return np.array([each.bits_per_byte(np.arange(len(each.nll))) for each in runs])


def _pool(sides: Sequence[Sequence[DocumentBits]]) -> float:
    """The variance of a run among those of its side."""
    squares = sum(float(((bits - bits.mean()) ** 2).sum()) for bits in map(_measure, sides))
    return squares / _count_freedom(sides)


def _count_freedom(sides: Sequence[Sequence[DocumentBits]]) -> int:
    return sum(map(len, sides)) - len(sides)


def _measure_spread(sides: Sequence[Sequence[DocumentBits]], seed: int) -> Spread:
    every = [each for side in sides for each in side]

    def measure(chosen: np.ndarray) -> np.ndarray:
        return np.stack([each.bits_per_byte(chosen) for each in every], axis=-1)

    drawn = resample(measure, len(every[0].nll), seed)  # [resamples, runs]
    halves = np.split(drawn, [len(sides[0])], axis=1)[: len(sides)]
    means = [half.mean(axis=1) for half in halves]
    apart = sum(
        float((half - mean[:, None]).var(axis=0, ddof=1).sum()) for half, mean in zip(halves, means, strict=True)
    )
    freedom = _count_freedom(sides)
    shared = apart / freedom * sum(1 / len(side) for side in sides)
    whole = means[0] - means[1] if len(means) > 1 else means[0]
    document = max(0.0, float(whole.var(ddof=1)) - shared)
    return Spread(_pool(sides), freedom, document, count_effective(every[0].sizes) - 1)


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
    """The t within which a share of Student's distribution lies, to 1e-7."""
    low, high = 0.0, 1.0
    while find_share(high, freedom) < share:
        low, high = high, 2 * high
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if find_share(middle, freedom) < share else (low, middle)
    return low
