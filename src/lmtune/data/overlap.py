"""How much of the held-out text also stands in the training text, word sequence by word sequence.

The measure of Radford et al. 2019 (section 4 of the GPT-2 paper, 8-grams) and Brown et al. 2020 (arXiv:2005.14165,
appendix C, 13-grams), computed on ids in NumPy: words are runs of tokens up to the next one that opens with white space.
"""

from typing import Any

import numpy as np

from lmtune.patience import saying
from lmtune.streams import TokenStream
from lmtune.vocabulary import count_ids

WORDS = 13
"""Words in a sequence; long enough that equal ones were copied."""
_TOKEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = np.uint64(0xC2B2AE3D27D4EB4F)


class Overlap:
    """Looks for the sequences of held-out streams in training text that comes piece by piece."""

    def __init__(self, tokenizer: Any, held_out: dict[str, TokenStream], words: int = WORDS) -> None:
        self._words = words
        self._opens = find_word_starts(tokenizer)
        self._separator = tokenizer.eos_token_id
        self._held = {side: self._hash(stream.ids) for side, stream in held_out.items()}
        self._seen = {side: np.zeros(len(hashes), bool) for side, hashes in self._held.items()}

    def add(self, ids: np.ndarray) -> None:
        """Training documents, whole ones, with a separator after each."""
        training = np.unique(self._hash(ids))
        for side, hashes in self._held.items():
            self._seen[side] |= np.isin(hashes, training)

    def shares(self) -> dict[str, float]:
        """The share of each stream's sequences that have come; nan where it has none."""
        return {side: float(seen.mean()) if len(seen) else float("nan") for side, seen in self._seen.items()}

    def _hash(self, ids: np.ndarray) -> np.ndarray:
        return hash_sequences(ids, self._opens, self._separator, self._words)


def find_word_starts(tokenizer: Any) -> np.ndarray:
    """[vocabulary] of bool: True where a token opens a word, that is, decodes to leading white space."""
    with saying("reading the vocabulary"):
        texts = tokenizer.batch_decode([[index] for index in range(count_ids(tokenizer))])
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


def _powers(base: np.uint64, count: int) -> np.ndarray:
    return np.cumprod(np.full(count, base, np.uint64)) | np.uint64(1)
