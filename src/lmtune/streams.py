"""Token ids laid end to end, with a table of the documents they come from.

The data room writes streams, the evaluation room scores them, and neither knows the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DOCUMENT_TABLE = np.dtype(
    [("tokens", "<i8"), ("bytes", "<i8"), ("characters", "<i8"), ("words", "<i8"), ("order", "<u8")]
)
"""One row a document: tokens with its separator, UTF-8 bytes, code points, white-space words, and a hash to draw subsets by."""

PLAIN_TEXT = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
"""How a tokenizer of transformers encodes a text as it stands: nothing is added, special tokens typed in it are text."""

Decode = Callable[[np.ndarray], str]
"""From ids to the text that they stand for, character by character."""

CUT_TRIES, CUT_CONTEXT = 64, 8
"""Places at which a document may be cut, and tokens on either side of it that show whether a character is divided."""

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

    def select(self, max_tokens: int, decode: Decode) -> "TokenStream":
        """Documents of at most `max_tokens` together (0: all), drawn by their hash, in the order of the stream.

        The same ones for the same stream, so that evaluations of one run compare. Documents are whole; but where whole
        ones come to less than half of the limit, the next one drawn is represented by its end.
        """
        if not max_tokens or len(self.ids) <= max_tokens:
            return self
        drawn = np.argsort(self.documents["order"], kind="stable")
        summed = np.cumsum(self.documents["tokens"][drawn])
        whole = int((summed <= max_tokens).sum())
        left = max_tokens - (int(summed[whole - 1]) if whole else 0)
        cut = self._cut_begin(int(drawn[whole]), left, decode) if 2 * left > max_tokens else None
        pieces = {int(number): self._document(int(number)) for number in drawn[:whole]}
        if cut is not None:
            pieces[int(drawn[whole])] = cut
        elif not whole:  # whatever its length: no honest count of bytes could be had for a part of it
            pieces[int(drawn[0])] = self._document(int(drawn[0]))
        ids, rows = zip(*(pieces[number] for number in sorted(pieces)), strict=True)
        return TokenStream(np.concatenate(ids), np.stack(rows), self.separator)

    def _document(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, row of the table) of a document."""
        end = int(self.documents["tokens"][: number + 1].sum())
        return self.ids[end - int(self.documents["tokens"][number]) : end], self.documents[number]

    def _cut_begin(self, number: int, tokens: int, decode: Decode) -> tuple[np.ndarray, np.ndarray] | None:
        """At most the last `tokens` of a document, from a place where no character is divided; None without one nearby."""
        ids, row = self._document(number)
        for start in range(len(ids) - tokens, min(len(ids) - 1, len(ids) - tokens + CUT_TRIES)):
            around = ids[start - CUT_CONTEXT : start], ids[start : start + CUT_CONTEXT]
            if decode(around[0]) + decode(around[1]) == decode(np.concatenate(around)):
                text = decode(ids[start : len(ids) - (self.separator != NO_SEPARATOR)])
                kept = row.copy()
                kept["tokens"], kept["bytes"] = len(ids) - start, len(text.encode())
                kept["characters"], kept["words"] = len(text), len(text.split())
                return ids[start:], kept
        return None
