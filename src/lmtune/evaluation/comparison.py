"""Is one model better than another on the same documents? A paired bootstrap of bits per byte."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from lmtune.storage import Record

RESAMPLES = 2_000
CONFIDENCE = 0.95
MIN_DOCUMENTS = 10
"""With fewer, resampling them says little about another text."""
_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Difference:
    """Bits per byte of a model, less those of the one it is compared with; below zero is better."""

    difference: float
    low: float | None
    """Ends of the interval, in bits per byte; None where the documents are too few for one."""
    high: float | None
    documents: int
    effective_documents: float
    """Effective sample size (Kish 1965): the number of documents of one size that would weigh as much."""
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES

    def as_dict(self) -> Record:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DocumentBits:
    """Negative log-likelihood and size of each document, for one model."""

    nll: np.ndarray
    """[documents] nats of the text."""
    sizes: np.ndarray
    """[documents] UTF-8 bytes scored; the same for all models whose vocabulary has an end-of-text token."""

    def bits_per_byte(self, chosen: np.ndarray) -> np.ndarray:
        """Of the documents in each row of `chosen` [..., documents]."""
        return self.nll[chosen].sum(axis=-1) / math.log(2) / self.sizes[chosen].sum(axis=-1)


def compare_documents(model: DocumentBits, baseline: DocumentBits, seed: int = 0) -> Difference:
    """Bits per byte of `model` less those of `baseline` on the same documents, with a percentile interval.

    Documents are drawn with replacement, the same draw for both models, since a hard document is hard for both (paired
    percentile bootstrap: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13).
    """
    documents = len(model.nll)
    effective = count_effective(baseline.sizes)

    def differ(chosen: np.ndarray) -> np.ndarray:
        return model.bits_per_byte(chosen) - baseline.bits_per_byte(chosen)

    whole = float(differ(np.arange(documents)))
    if effective < MIN_DOCUMENTS:
        return Difference(whole, None, None, documents, effective)
    low, high = _bound(resample(differ, documents, seed))
    return Difference(whole, low, high, documents, effective)


def bound_bits(model: DocumentBits, seed: int = 0) -> tuple[float, float] | None:
    """A percentile interval of the bits per byte of one model, over texts like this one; None for too few documents.

    Intervals of two models that overlap do not tell that the models are alike: compare_documents tells more.
    """
    if count_effective(model.sizes) < MIN_DOCUMENTS:
        return None
    return _bound(resample(model.bits_per_byte, len(model.nll), seed))


def resample(measure: Callable[[np.ndarray], np.ndarray], documents: int, seed: int) -> np.ndarray:
    """[RESAMPLES, ...] what `measure` gives [rows, ...] for rows [rows, documents] of places drawn with replacement."""
    draw = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // documents)
    sizes = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    return np.concatenate([measure(draw.integers(documents, size=(size, documents))) for size in sizes])


def _bound(resampled: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def count_effective(sizes: np.ndarray) -> float:
    """Kish's effective sample size for documents of `sizes` [documents] bytes; 0 where there are none."""
    squares = float((sizes.astype(np.float64) ** 2).sum())
    return float(sizes.sum()) ** 2 / squares if squares else 0.0
