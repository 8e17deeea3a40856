"""Text to ids: gigatoken, proven equal to the model's own tokenizer on a sample of the very text, else the latter."""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lmtune.data.columns import Texts, build_texts
from lmtune.data.losses import LossMeter
from lmtune.errors import DataError, first_line
from lmtune.vocabulary import describe_tokenizer, encode_plain, find_document_opening, render_own
from lmtune.vocabulary import hash_tokenizer as hash_tokenizer

logger = logging.getLogger(__name__)

PROOF_DOCUMENTS = 64
PROOF_CHARS = 4_000
"""Of each document in the sample that both tokenizers encode."""


Encode = Callable[[Any], tuple[np.ndarray, np.ndarray]]
"""From texts to (ids, lengths)."""


class Encoder:
    """Encodes documents to ids, special tokens typed inside a document read as plain text.

    tokenizer: a transformers tokenizer.
    proof: documents to compare both ways of encoding on; a difference means the slow way, with a warning.
    """

    def __init__(self, tokenizer: Any, proof: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self.opening = find_document_opening(tokenizer)
        self._meter: LossMeter | None = None
        self._encode: Encode = self._encode_own
        fast = _find_gigatoken(tokenizer)
        if fast is not None and self._agrees(fast, proof):
            self._encode = fast

    @property
    def name(self) -> str:
        """Which tokenizer does the work."""
        return "tokenizers" if self._encode == self._encode_own else "gigatoken"

    def encode(self, texts: Texts) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths): [tokens] uint32, documents end to end with nothing between them, and [documents] int64 tokens of each.

        Raises DataError where a text has the id of the separator or of what opens documents, which then could not be told apart.
        """
        # Arrow's buffer goes to gigatoken as it is, ten times faster than Python strings.
        ids, lengths = self._encode(texts)
        for structural in {self._tokenizer.eos_token_id, *self.opening} - {None}:
            if np.any(found := ids == structural):
                raise self._refuse(texts, lengths, int(found.argmax()), structural)
        return ids, lengths

    def measure(self, texts: Texts, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[documents] of LOSSES: what the ids of each text do not give back."""
        if self._meter is None:
            self._meter = LossMeter(self._tokenizer)
        return self._meter.measure(texts, ids, lengths)

    def _refuse(self, texts: Texts, lengths: np.ndarray, place: int, structural: int) -> DataError:
        number = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
        token = self._tokenizer.convert_ids_to_tokens(structural)
        return DataError(
            f"The text {texts[number].as_py()[:60]!r} has a token {token!r} inside, which is how this vocabulary marks where a "
            "document begins or ends; expected one that reads all text as text. Take the words that become it out of the text, or "
            "choose another model."
        )

    def _encode_own(self, column: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = encode_plain(self._tokenizer, column.to_pylist())
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum())), lengths

    def _agrees(self, fast: Encode, proof: Sequence[str]) -> bool:
        sample = [*(text[:PROOF_CHARS] for text in proof[:PROOF_DOCUMENTS]), *render_own(self._tokenizer)]
        column = build_texts(sample)
        (ours, our_lengths), (theirs, their_lengths) = fast(column), self._encode_own(column)
        if np.array_equal(ours, theirs) and np.array_equal(our_lengths, their_lengths):
            return True
        place = _first_difference(ours, our_lengths, theirs, their_lengths)
        logger.warning(
            "gigatoken and this tokenizer disagree on %r; encoding with the tokenizer itself, which is slower",
            sample[place][:60],
        )
        return False


def _first_difference(ours: np.ndarray, our_lengths: np.ndarray, theirs: np.ndarray, their_lengths: np.ndarray) -> int:
    pairs = zip(
        np.split(ours, np.cumsum(our_lengths)[:-1]), np.split(theirs, np.cumsum(their_lengths)[:-1]), strict=False
    )
    return next((place for place, (one, other) in enumerate(pairs) if not np.array_equal(one, other)), 0)


def _find_gigatoken(tokenizer: Any) -> Encode | None:
    """gigatoken's encoder for this tokenizer, None where it has none."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        logger.warning("%s has no fast backend; encoding will be slow", type(tokenizer).__name__)
        return None
    import awkward as ak
    import gigatoken.gigatoken_rs as gigatoken

    try:
        fast = gigatoken.load_hf_json(describe_tokenizer(tokenizer, len(tokenizer)).plain)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        logger.warning(
            "gigatoken does not read this tokenizer (%s); encoding with the tokenizer itself, which is slower",
            first_line(error),
        )
        return None

    def encode(column: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = fast.encode_batch(ak.from_arrow(column))
        return np.asarray(ak.flatten(rows), dtype=np.uint32), np.asarray(ak.num(rows), dtype=np.int64)

    return encode
