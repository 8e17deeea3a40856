"""What counting n-grams makes of a text: a yardstick for what a small model can learn from as many tokens."""

import numpy as np

DISCOUNT = 0.75
"""Taken from each count, for what was not seen (Ney, Essen, Kneser 1994)."""


def measure_ngrams(learned: np.ndarray, scored: np.ndarray, vocabulary: int, orders: int = 3) -> list[float]:
    """[orders] nats a token of `scored`, from counts of 1, 2, ... tokens in `learned`, each order interpolated with the one below.

    learned: [rows, tokens], the context of a token ends where its row starts; scored: [tokens].
    """
    assert float(vocabulary + 1) ** orders < 2**63, "n-grams of so large a vocabulary have no 64-bit numbers"
    stream = scored[None]
    found = np.full(len(scored), 1 / vocabulary)
    losses = []
    for order in range(1, orders + 1):
        below, found = found, np.full(len(scored), np.nan)
        found[: order - 1] = below[: order - 1]
        seen, asked = _number(learned, order, vocabulary), _number(stream, order, vocabulary)
        found[order - 1 :] = _interpolate(seen, asked, vocabulary, below[order - 1 :])
        losses.append(float(-np.log(found).mean()))
    return losses


def _number(rows: np.ndarray, order: int, vocabulary: int) -> np.ndarray:
    """[n-grams] each of the rows as one number; without its last token it is the number divided by the vocabulary."""
    width = rows.shape[1] - order + 1
    numbers = np.zeros((rows.shape[0], width), np.int64)
    for place in range(order):
        numbers = numbers * vocabulary + rows[:, place : place + width]
    return numbers.reshape(-1)


def _interpolate(seen: np.ndarray, asked: np.ndarray, vocabulary: int, below: np.ndarray) -> np.ndarray:
    """[asked] probability of the last token of each, by absolute discounting; below: [asked] that of one token less."""
    grams, counts = np.unique(seen, return_counts=True)
    contexts, first = np.unique(grams // vocabulary, return_index=True)
    totals = np.add.reduceat(counts, first)
    kinds = np.diff(np.append(first, len(grams)))
    total, kind = _look_up(contexts, totals, asked // vocabulary), _look_up(contexts, kinds, asked // vocabulary)
    count = _look_up(grams, counts, asked)
    with np.errstate(invalid="ignore", divide="ignore"):
        mixed = (np.maximum(count - DISCOUNT, 0) + DISCOUNT * kind * below) / total
    return np.where(total > 0, mixed, below)


def _look_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """[asked] the value of each key, 0 where there is none. keys: sorted."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0)
