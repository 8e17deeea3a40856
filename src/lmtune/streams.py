"""Token ids laid end to end, with a table of the documents they come from.

The data room writes streams, the evaluation room scores them, and neither knows the other.
"""

from dataclasses import dataclass

import numpy as np

DOCUMENT_TABLE = np.dtype(
    [("tokens", "<i8"), ("bytes", "<i8"), ("characters", "<i8"), ("words", "<i8"), ("order", "<u8")]
)
"""One row a document: tokens with its separator, UTF-8 bytes, code points, white-space words, and a hash to draw subsets by."""

PLAIN_TEXT = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
"""How a tokenizer of transformers encodes a text as it stands: nothing is added, special tokens typed in it are text."""

NO_SEPARATOR = -1
"""In place of the id, for a vocabulary without an end-of-text token."""


@dataclass(frozen=True, slots=True)
class TokenStream:
    """Documents laid end to end, a separator after each.

    ids: [tokens], unsigned integers, possibly memory-mapped.
    documents: [documents] of DOCUMENT_TABLE, in the order of the stream.
    separator: id that stands after each document. With NO_SEPARATOR nothing stands between documents, and the very
        first token, which nothing predicts, is left out: of the scores, and of the counts of bytes, characters and words
        in the table.
    """

    ids: np.ndarray
    documents: np.ndarray
    separator: int

    def __post_init__(self) -> None:
        assert int(self.documents["tokens"].sum()) == len(self.ids), "the table of documents does not cover the stream"

    @property
    def ends(self) -> np.ndarray:
        """Position after the separator of each document."""
        return np.cumsum(self.documents["tokens"])

    @property
    def unscored(self) -> int:
        """Tokens at the begin that nothing predicts."""
        return 1 if self.separator == NO_SEPARATOR else 0

    def is_separator(self) -> np.ndarray:
        """[tokens] of bool: True where a document ends. Text never encodes to the separator, so the place decides."""
        mask = np.zeros(len(self.ids), dtype=bool)
        if self.separator != NO_SEPARATOR:
            mask[self.ends - 1] = True
        return mask

    def select(self, max_tokens: int) -> "TokenStream":
        """Whole documents of at most `max_tokens` together (0: all), drawn by their hash, in the order of the stream.

        The same documents for the same stream, so that evaluations of one run compare. A first document longer than
        the limit is taken alone, whole: text cut inside would have no honest count of bytes.
        """
        if not max_tokens or len(self.ids) <= max_tokens:
            return self
        drawn = np.argsort(self.documents["order"], kind="stable")
        fits = np.cumsum(self.documents["tokens"][drawn]) <= max_tokens
        chosen = np.sort(drawn[: max(1, int(fits.sum()))])
        ends = self.ends
        pieces = [self.ids[ends[i] - self.documents["tokens"][i] : ends[i]] for i in chosen]
        return TokenStream(np.concatenate(pieces), self.documents[chosen], self.separator)
