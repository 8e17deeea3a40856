"""Text to ids: by gigatoken where it equals the model's own tokenizer on a sample of the very text, else by the latter.

The tokenizer itself encodes in pieces, on all threads, where that equals it on the same sample.
"""

import itertools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmtune.data.columns import Texts, build_texts, sum_bytes
from lmtune.data.gigatokens import Gigatoken
from lmtune.data.layout import build_table, lay_out
from lmtune.data.losses import LossMeter
from lmtune.data.pieces import Advance, Encode, PieceEncoder, ignore
from lmtune.errors import DataError, first_line
from lmtune.token_stream import LOSSES
from lmtune.vocabulary import PROBES, encode_document_opening, encode_plain, render_own
from lmtune.vocabulary import hash_tokenizer as hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SAMPLE_DOCUMENTS = 64
SAMPLE_CHARS = 4_000
"""Characters of each document in the sample that both tokenizers encode."""


class Encoder:
    """Encodes documents to ids, special tokens typed inside a document read as plain text.

    tokenizer: with an end-of-text token, which separates documents.
    sample: documents to compare both ways of encoding on; a difference means the slow way, with a warning.
    name: of the library that does the work, gigatoken or tokenizers.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", sample: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self.separator: int = tokenizer.eos_token_id
        self.opening = encode_document_opening(tokenizer)
        self._meter: LossMeter | None = None
        self.name, self._encode = self._choose(sample)

    def encode(self, texts: Texts, advance: Advance = ignore) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths): [tokens] uint32, documents end to end with nothing between them, and [documents] int64 tokens of each.

        Raises DataError where a text has the id of the separator or of what opens documents, which then could not be told apart.
        """
        ids, lengths = self._encode(texts, advance)
        for structural in {self.separator, *self.opening} - {None}:
            if np.any(found := ids == structural):
                raise self._refuse(texts, lengths, int(found.argmax()), structural)
        return ids, lengths

    def encode_documents(
        self, texts: Texts, seed: int | None = None, advance: Advance = ignore
    ) -> tuple[np.ndarray, np.ndarray]:
        """(ids, documents): [tokens] uint32 with a separator after each document, and [documents] of MEASURED_TABLE.

        seed: with it words, characters and order are filled in, which cost more than the encoding itself.
        """
        ids, lengths = self.encode(texts, advance)
        table = build_table(texts, lengths, seed, self.opening)
        table[list(LOSSES.names or ())] = self.measure(texts, ids, lengths)
        return lay_out(ids, lengths, self.separator, self.opening), table

    def measure(self, texts: Texts, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[documents] of LOSSES: what the ids of each text do not give back. ids, lengths: as `encode` returns them."""
        if self._meter is None:
            self._meter = LossMeter(self._tokenizer)
        return self._meter.measure(texts, ids, lengths)

    def _refuse(self, texts: Texts, lengths: np.ndarray, position: int, structural: int) -> DataError:
        number = int(np.searchsorted(np.cumsum(lengths), position, side="right"))
        token = self._tokenizer.convert_ids_to_tokens(structural)
        return DataError(
            f"The text {texts[number].as_py()[:60]!r} has a token {token!r} inside, which is how this vocabulary marks where a "
            "document begins or ends; expected one that reads all text as text. Take the words that become it out of the text, or "
            "choose another model."
        )

    def _choose(self, sample: Sequence[str]) -> tuple[str, Encode]:
        """(library, encode): the fastest encoder whose ids on a sample are those of the tokenizer."""
        if getattr(self._tokenizer, "backend_tokenizer", None) is None:
            logger.warning("%s has no fast backend; encoding will be slow", type(self._tokenizer).__name__)
            return "tokenizers", self._encode_reference
        texts = [text[:SAMPLE_CHARS] for text in sample[:SAMPLE_DOCUMENTS]]
        texts += [*PROBES, *render_own(self._tokenizer)]
        fast, pieces = _build_gigatoken(self._tokenizer), PieceEncoder(self._tokenizer).encode
        if fast is not None and self._agrees(fast, texts, "gigatoken"):
            return "gigatoken", fast
        alike = self._agrees(pieces, texts, "its own library")
        return "tokenizers", pieces if alike else self._encode_reference

    def _encode_reference(self, texts: Texts, advance: Advance = ignore) -> tuple[np.ndarray, np.ndarray]:
        rows = encode_plain(self._tokenizer, texts.to_pylist())
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        advance(sum_bytes(texts))
        return np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum())), lengths

    def _agrees(self, encode: Encode, texts: list[str], name: str) -> bool:
        column = build_texts(texts)
        (ids, lengths), (expected, expected_lengths) = encode(column), self._encode_reference(column)
        if np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths):
            return True
        first = _first_difference(_split_ids(ids, lengths), _split_ids(expected, expected_lengths))
        logger.warning(
            "%s and this tokenizer disagree on %r; encoding with the tokenizer itself, which is slower",
            name,
            texts[first][:60],
        )
        return False


def _split_ids(ids: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(ids, np.cumsum(lengths)[:-1])


def _first_difference(ids: list[np.ndarray], expected: list[np.ndarray]) -> int:
    """Number of the first document whose ids differ."""
    pairs = enumerate(zip(ids, expected, strict=False))
    return next((number for number, (one, other) in pairs if not np.array_equal(one, other)), 0)


def _build_gigatoken(tokenizer: "PreTrainedTokenizerBase") -> Encode | None:
    """gigatoken's encoder for this tokenizer, None where it has none."""
    try:
        return Gigatoken(tokenizer).encode
    except (ValueError, RuntimeError, NotImplementedError) as error:
        logger.warning(
            "gigatoken does not read this tokenizer (%s); encoding with the tokenizer itself, which is slower",
            first_line(error),
        )
        return None
