"""Targets that are left out of the training loss, by the tokens before them: training.goldfish.

Goldfish loss with the hashed mask (Hans et al. 2024, arXiv:2406.10209): a passage that is met often loses the same tokens each
time, so the model has to guess there, and cannot go on with the passage as it stands. The mask is a function of token ids
alone: no seed, device or process has a part in it.

The context of a target is what stands before it in its document, CONTEXT tokens at most; it goes on over the edges of rows,
and never over the end of a document, so that copies of a document lose the same tokens wherever they stand. Near its start the
context is shorter. The first token of a document, and those that the tokenizer opens it with, are always learned: with nothing of
a document before them they would be left out of all documents, or of none.
"""

from dataclasses import dataclass

import numpy as np

CONTEXT = 13
"""Tokens that decide about the next one: the width that Hans et al. trained with."""

FACTOR = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
SPREAD = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Multipliers of SplitMix64's last steps (Steele, Lea and Flood 2014), after which each bit of a hash depends on all of it."""


@dataclass(frozen=True, slots=True)
class Goldfish:
    """Which targets are left out.

    one_in: of so many targets one is left out. separator: the id that ends a document. opening: tokens that open each document.
    """

    one_in: int
    separator: int
    opening: int = 0

    def choose(self, ids: np.ndarray) -> np.ndarray:
        """[rows, targets] bool: True where a target is left out.

        ids: [rows, CONTEXT + 1 + targets], of which the last `targets` are the targets; what stands before a text is filled up
        with separators.
        """
        inputs = ids[:, :-1]
        places = np.arange(inputs.shape[1])
        ends = np.maximum.accumulate(np.where(inputs == self.separator, places, -1), axis=1)
        known = places - ends  # [rows, places]: tokens of its document up to each place
        hashes = _hash(inputs, np.minimum(known, CONTEXT))
        chosen = (hashes < np.uint64(2**64 // self.one_in)) & (known > self.opening)
        return np.asarray(chosen[:, CONTEXT:])


def _hash(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[rows, places] uint64: a hash of the last `lengths` ids up to each place. All arithmetic is modulo 2^64.

    The difference of two sums of id * FACTOR^place is that of a window; dividing by FACTOR^place makes it the same anywhere.
    """
    places = ids.shape[1]
    powers = _list_powers(FACTOR, places)
    sums = np.zeros((len(ids), places + 1), np.uint64)
    np.cumsum((ids.astype(np.uint64) + np.uint64(1)) * powers, axis=1, out=sums[:, 1:])
    begin = np.maximum(np.arange(1, places + 1) - lengths, 0)
    window = sums[:, 1:] - np.take_along_axis(sums, begin, axis=1)
    mixed = window * _list_powers(pow(FACTOR, -1, 2**64), places)
    for shift, factor in zip((30, 27), SPREAD, strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _list_powers(base: int, count: int) -> np.ndarray:
    """[count] uint64: base^0, base^1, ... modulo 2^64."""
    return np.cumprod(np.concatenate([[np.uint64(1)], np.full(count - 1, base, np.uint64)]), dtype=np.uint64)
