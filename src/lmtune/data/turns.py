"""Which row of which source comes when, in sequences without end; pure arithmetic.

Sources take turns as evenly as their weights allow, so that every batch holds its shares, and rows of a text that lies on disk
come in one permutation of it after another, each once before any comes again.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np


class Turns:
    """Which source each row of each lane comes from: a function of the weights alone.

    Of the first n rows of a lane the first source has n times its share, rounded; the second has its part of the others
    likewise, and so on. Lanes round at different places, so that together they keep the shares as one would.
    """

    def __init__(self, weights: Sequence[float], lanes: int = 1) -> None:
        exact = [Fraction(weight) for weight in weights]
        self._lanes = lanes
        self._parts = [weight / sum(exact[number:]) for number, weight in enumerate(exact)]
        """The share of each source in the rows that those before it leave."""

    def count(self, lane: int, rows: int) -> list[int]:
        """How many of the first `rows` rows of a lane come from each source."""
        counts, left, shift = [], rows, 2 * lane + 1
        for part in self._parts:
            above, below = part.as_integer_ratio()
            counts.append((2 * self._lanes * left * above + shift * below) // (2 * self._lanes * below))
            left -= counts[-1]
        return counts

    def find(self, lane: int, row: int) -> tuple[int, int]:
        """(source, row of that source) of a row of a lane."""
        before, after = self.count(lane, row), self.count(lane, row + 1)
        source = next(number for number, count in enumerate(before) if after[number] > count)
        return source, before[source]


def draw_rows(numbers: Iterable[int], count: int, *seeds: int) -> list[int]:
    """Which of `count` rows stand at these places of an endless sequence of their permutations, which the seeds draw."""
    return [int(_permute(number // count, count, *seeds)[number % count]) for number in numbers]


@lru_cache(maxsize=4)
def _permute(turn: int, count: int, *seeds: int) -> np.ndarray:
    return np.random.default_rng([*seeds, turn]).permutation(count)
