"""How much of the held-out text is also in the training text, word sequence by word sequence.

The measure of Radford et al. 2019 (section 4 of the GPT-2 paper, 8-grams) and Brown et al. 2020 (arXiv:2005.14165,
appendix C, 13-grams), computed on ids in NumPy: words are runs of tokens up to the next one that opens with white space.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtune.data.blocks import StoredRows
from lmtune.data.passages import build_powers
from lmtune.data.prepared import Prepared
from lmtune.patience import saying
from lmtune.token_stream import TokenStream
from lmtune.vocabulary import count_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WORDS = 13
"""Words in a sequence; long enough that equal ones were copied."""
MOST_TOKENS = 20_000_000
"""Most tokens of training text that a run compares with what it holds out."""
_AT_ONCE, _AGAIN = 1 << 16, 512
"""Tokens at once, so that what is computed of them stays near the processor, and how many of the next are seen with them."""
_SIEVE = 1 << 22
"""A table by the last bits of a hash, which tells of most training sequences that they are not looked for."""
_TOKEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = np.uint64(0xC2B2AE3D27D4EB4F)


class Overlap:
    """Looks for the word sequences of held-out streams in training text that is added piece by piece."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", held_out: dict[str, TokenStream], words: int = WORDS
    ) -> None:
        self._words = words
        self._opens = mark_word_starts(tokenizer)
        self._separator = tokenizer.eos_token_id
        self._held = {split: self._hash(stream.ids) for split, stream in held_out.items()}
        self._wanted = np.unique(np.concatenate([np.empty(0, np.uint64), *self._held.values()]))
        self._seen = np.zeros(len(self._wanted), bool)
        self._sieve = np.zeros(_SIEVE, bool)
        self._sieve[self._wanted & np.uint64(_SIEVE - 1)] = True

    def add(self, ids: np.ndarray) -> None:
        """Add whole training documents. ids: [tokens], a separator after each document."""
        for start in range(0, len(ids), _AT_ONCE):
            hashes = self._hash(ids[start : start + _AT_ONCE + _AGAIN])
            likely = hashes[self._sieve[hashes & np.uint64(_SIEVE - 1)]]
            if len(likely):
                places = np.minimum(np.searchsorted(self._wanted, likely), len(self._wanted) - 1)
                self._seen[places[self._wanted[places] == likely]] = True

    def shares(self) -> dict[str, float]:
        """The share of each stream's sequences that were added, 0 to 1; NaN where it has none."""
        return {
            split: float(self._seen[np.searchsorted(self._wanted, hashes)].mean()) if len(hashes) else float("nan")
            for split, hashes in self._held.items()
        }

    def _hash(self, ids: np.ndarray) -> np.ndarray:
        return hash_sequences(ids, self._opens, self._separator, self._words)


@dataclass(frozen=True, slots=True)
class Seen:
    """How much of the held-out text is also in the training text."""

    share: float | None
    """Share of the 13-word sequences of the held-out text, 0 to 1; None if it was not measured."""
    reason: str = ""
    """Why it was not."""

    def render(self) -> str:
        """A line for people."""
        if self.share is None:
            return f"how much of the held-out text also stands in the training text was not measured: {self.reason}"
        return f"{100 * self.share:.3f} % of the {WORDS}-word sequences of the held-out text also stand in the training text"


def measure_overlap(
    tokenizer: "PreTrainedTokenizerBase", prepared: Prepared, held_out: dict[str, TokenStream]
) -> dict[str, Seen]:
    """How much of each held-out text is also in the training rows, where measuring it takes a few seconds at most."""
    rows, tokens = prepared.blocks, prepared.ledger.sides["train"].tokens
    if not isinstance(rows, StoredRows):
        return dict.fromkeys(held_out, Seen(None, "the text is streamed"))
    if tokens > MOST_TOKENS:
        reason = f"the training text has {tokens:,} tokens, more than {MOST_TOKENS:,}; `lmtune data` measures it"
        return dict.fromkeys(held_out, Seen(None, reason))
    if not held_out:
        return {}
    overlap = Overlap(tokenizer, held_out)
    for ids in rows.read():
        overlap.add(ids)
    unmeasured = Seen(None, f"it has no {WORDS} words in a row")
    return {name: unmeasured if math.isnan(share) else Seen(share) for name, share in overlap.shares().items()}


def mark_word_starts(tokenizer: "PreTrainedTokenizerBase") -> np.ndarray:
    """[vocabulary] of bool: True where a token opens a word, that is, decodes to leading white space."""
    with saying("reading the vocabulary"):
        texts = tokenizer.batch_decode([[index] for index in range(count_ids(tokenizer))])
    return np.array([text[:1].isspace() for text in texts])


def hash_sequences(ids: np.ndarray, opens: np.ndarray, separator: int, words: int = WORDS) -> np.ndarray:
    """[sequences] uint64: a hash of each sequence of `words` consecutive words that stays inside one document."""
    if len(ids) == 0:
        return np.empty(0, np.uint64)
    ends = ids == separator
    word_starts = opens[ids] | ends
    word_starts[0] = True
    word_starts[1:] |= ends[:-1]
    starts = np.flatnonzero(word_starts)
    place = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
    with np.errstate(over="ignore"):
        mixed = (ids.astype(np.uint64) + np.uint64(1)) * _TOKEN
        mixed ^= mixed >> np.uint64(29)
        hashes = np.add.reduceat(mixed * build_powers(_TOKEN, int(place.max()) + 1)[place], starts)
        count = len(starts) - words + 1
        if count <= 0:
            return np.empty(0, np.uint64)
        sequences = np.zeros(count, np.uint64)
        for offset, power in enumerate(build_powers(_WORD, words)):
            sequences += hashes[offset : offset + count] * power
    borders = np.concatenate([[0], np.cumsum(ends[starts])])
    return sequences[borders[words : words + count] == borders[:count]]
