"""How much of the held-out text also stands in the training text, word sequence by word sequence.

The measure of Radford et al. 2019 (section 4 of the GPT-2 paper, 8-grams) and Brown et al. 2020 (arXiv:2005.14165,
appendix C, 13-grams), computed on ids in NumPy: words are runs of tokens up to the next one that opens with white space.
"""

from typing import Any

import numpy as np

WORDS = 13
"""Words in a sequence; long enough that equal ones were copied."""
_TOKEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = np.uint64(0xC2B2AE3D27D4EB4F)


def find_word_starts(tokenizer: Any) -> np.ndarray:
    """[vocabulary] of bool: True where a token opens a word, that is, decodes to leading white space."""
    texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
    return np.array([text[:1].isspace() for text in texts])


def hash_sequences(ids: np.ndarray, opens: np.ndarray, separator: int, words: int = WORDS) -> np.ndarray:
    """[sequences] uint64: a hash of each sequence of `words` consecutive words that stays inside one document."""
    if len(ids) == 0:
        return np.empty(0, np.uint64)
    ends = ids == separator
    begins = opens[ids] | ends
    begins[0] = True
    begins[1:] |= ends[:-1]
    starts = np.flatnonzero(begins)
    place = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
    with np.errstate(over="ignore"):
        mixed = (ids.astype(np.uint64) + np.uint64(1)) * _TOKEN
        mixed ^= mixed >> np.uint64(29)
        hashes = np.add.reduceat(mixed * _powers(_TOKEN, int(place.max()) + 1)[place], starts)
        count = len(starts) - words + 1
        if count <= 0:
            return np.empty(0, np.uint64)
        sequences = np.zeros(count, np.uint64)
        for offset, power in enumerate(_powers(_WORD, words)):
            sequences += hashes[offset : offset + count] * power
    borders = np.concatenate([[0], np.cumsum(ends[starts])])
    return sequences[borders[words : words + count] == borders[:count]]


def share_seen(held_out: np.ndarray, training: np.ndarray) -> float:
    """Share of held-out sequences that stand in the training text; nan where the held-out text has none."""
    return float(np.isin(held_out, training).mean()) if len(held_out) else float("nan")


def _powers(base: np.uint64, count: int) -> np.ndarray:
    return np.cumprod(np.full(count, base, np.uint64)) | np.uint64(1)
