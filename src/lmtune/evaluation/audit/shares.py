"""Counts and what they tell: intervals of shares and of their differences, ranks, exposures. Pure functions.

Wilson 1927 for a share, Newcombe 1998 (method 10, of two Wilson intervals) for the difference of two independent ones, Carlini et
al. 2019 (arXiv:1802.08232) for the exposure of a canary.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of some have a property."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """Between 0 and 1; None if there are no items."""
        return self.count / self.of if self.of else None

    def bound(self) -> tuple[float, float]:
        """Wilson's interval; (0, 1) of none."""
        return bound_share(self.count, self.of)

    def as_dict(self) -> dict[str, float | int | None]:
        """The count, of how many, the share and its interval."""
        low, high = self.bound()
        return {"count": self.count, "of": self.of, "share": self.value, "low": low, "high": high}


def count_true(marks: np.ndarray) -> Share:
    """How many of [items] bool are true."""
    return Share(int(marks.sum()), len(marks))


def bound_share(count: int, of: int) -> tuple[float, float]:
    """Wilson's interval of a share, from 0 to 1; (0, 1) of none."""
    if not of:
        return 0.0, 1.0
    share, square = count / of, _Z * _Z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = _Z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return (0.0 if count == 0 else middle - half, 1.0 if count == of else middle + half)


class Excess(NamedTuple):
    """The difference of two shares of different items."""

    difference: float
    low: float
    high: float


def compare_shares(one: Share, other: Share) -> Excess | None:
    """The difference of two independent shares with Newcombe's interval; None where one is of none."""
    if one.value is None or other.value is None:
        return None
    difference, (low, high), (other_low, other_high) = one.value - other.value, one.bound(), other.bound()
    below = math.hypot(one.value - low, other_high - other.value)
    above = math.hypot(high - one.value, other.value - other_low)
    return Excess(difference, difference - below, difference + above)


class Exposure(NamedTuple):
    """How far a text stands out among others of its form, in bits."""

    better: int
    """How many of the others have a lower loss."""
    others: int

    @property
    def p(self) -> float:
        """Estimated probability that a text which was never planted ranks as high: (better + 1) / (others + 1), never 0."""
        return (self.better + 1) / (self.others + 1)

    @property
    def bits(self) -> float:
        """-log2 of p: 1 for a text in the middle, at most log2(others + 1), where no other one is better."""
        return -math.log2(self.p)

    def bound(self) -> tuple[float, float | None]:
        """Its interval in bits, from Wilson's of the share that is better; no upper end where no other one is better."""
        low, high = bound_share(self.better, self.others)
        return max(0.0, -math.log2(high)), -math.log2(low) if low > 0 else None


def rank_among(nll: np.ndarray, others: np.ndarray) -> list[Exposure]:
    """The exposure of each text. nll: [texts] nats of each; others: [others] of texts of the same form."""
    better = np.searchsorted(np.sort(others), nll, side="left")
    return [Exposure(int(count), len(others)) for count in better]


def comes_back(nll: np.ndarray, tries: int) -> np.ndarray:
    """[rows] of bool: True where `tries` samples of the model hold the text with a probability of 1/2 or more (arXiv:2410.19482).

    nll: [rows] nats of the text behind its prefix, so exp(-nll) is the probability of one sample.
    """
    chance = np.exp(-np.asarray(nll, np.float64))
    with np.errstate(divide="ignore"):
        missed: np.ndarray = tries * np.log1p(-np.minimum(chance, 1.0))
    return missed <= math.log(0.5)
