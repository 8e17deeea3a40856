"""The layout of documents in a stream of ids, and what is counted of them."""

import numpy as np

from lmtune.data.columns import Texts, count_bytes, count_chars, hash_texts
from lmtune.token_stream import MEASURED_TABLE, TokenStream


def lay_out(ids: np.ndarray, lengths: np.ndarray, separator: int, opening: tuple[int, ...]) -> np.ndarray:
    """[tokens]: the ids of documents, each between what opens it and a separator. lengths: [documents] tokens of each."""
    ends = np.cumsum(lengths)
    if not opening:
        return np.insert(ids, ends, separator)
    closed = np.insert(ids, ends, separator)
    starts = ends - lengths + np.arange(len(ends))
    return np.insert(closed, np.repeat(starts, len(opening)), np.tile(opening, len(starts)))


def build_table(texts: Texts, lengths: np.ndarray, seed: int | None, opening: tuple[int, ...] = ()) -> np.ndarray:
    """[documents] of MEASURED_TABLE, nothing lost yet; characters, words and order only with a seed.

    lengths: [documents] tokens of each, without its separator and what opens it.
    """
    rows = np.zeros(len(lengths), dtype=MEASURED_TABLE)
    rows["tokens"], rows["bytes"] = lengths + 1 + len(opening), count_bytes(texts)
    if seed is not None:
        rows["characters"] = count_chars(texts)
        rows["words"] = [len(text.split()) for text in texts.to_pylist()]
        rows["order"] = hash_texts(texts, seed)
    return rows


def unigram_bits_per_byte(counts: np.ndarray, held_out: TokenStream) -> float:
    """Bits per byte of held-out text under a unigram model of the training tokens, with add-one smoothing.

    counts: [vocabulary] training counts. What any model of the same tokens should beat.
    """
    probabilities = (counts + 1) / (counts.sum() + len(counts))
    text = np.bincount(held_out.ids, minlength=len(counts)).astype(np.float64)
    text[[held_out.separator, *held_out.opening]] = 0
    return float(-(text @ np.log2(probabilities)) / held_out.documents["bytes"].sum())
