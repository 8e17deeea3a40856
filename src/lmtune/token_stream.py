"""Token ids laid end to end, with a table of the documents they come from.

lmtune.data writes streams, lmtune.evaluation scores them, and neither imports the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xxhash

DOCUMENT_TABLE = np.dtype(
    [("tokens", "<i8"), ("bytes", "<i8"), ("characters", "<i8"), ("words", "<i8"), ("order", "<u8")]
)
"""One row a document: tokens with its separator, UTF-8 bytes, code points, white-space words, and a hash to draw subsets by."""

LOSSES = np.dtype([("unknown", "<i8"), ("lost", "<i8")])
"""One row a document: unknown tokens, and UTF-8 bytes of the text that its ids do not decode to."""

MEASURED_TABLE = np.dtype(DOCUMENT_TABLE.descr + LOSSES.descr)
"""A document's row of DOCUMENT_TABLE with its losses."""

PLAIN_TEXT = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
"""Arguments with which a tokenizer of transformers encodes plain text: nothing is added, special tokens typed in it are text."""

Decode = Callable[[np.ndarray], str]
"""Decodes ids to their text, character by character."""

CUT_TRIES, CUT_CONTEXT = 64, 8
"""Positions at which a document may be cut, and tokens on either side of it that show whether a character is divided."""

NO_SEPARATOR = -1
"""Stands for the id in a vocabulary without an end-of-text token."""


@dataclass(frozen=True, slots=True)
class TokenStream:
    """Documents laid end to end, a separator after each.

    ids: [tokens], unsigned integers, possibly memory-mapped.
    documents: [documents] of DOCUMENT_TABLE or MEASURED_TABLE, in the order of the stream.
    separator: id after each document. With NO_SEPARATOR nothing is between documents, and the very
        first token, which nothing predicts, is left out: of the scores, and of the counts of bytes, characters and words
        in the table.
    opening: ids that the tokenizer puts before each document, such as a BOS. They are read and not scored, and the first
        token of the text is predicted from them.
    """

    ids: np.ndarray
    documents: np.ndarray
    separator: int
    opening: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert int(self.documents["tokens"].sum()) == len(self.ids), "the table of documents does not cover the stream"

    @property
    def ends(self) -> np.ndarray:
        """Position after the separator of each document."""
        return np.cumsum(self.documents["tokens"])

    @property
    def unpredicted(self) -> int:
        """Number of tokens at the start of the stream that have no context to be predicted from."""
        return 1 if self.opening or self.separator == NO_SEPARATOR else 0

    @property
    def unscored(self) -> int:
        """Tokens that are no targets: openings of documents, or the one without a context."""
        return len(self.opening) * len(self.documents) if self.opening else self.unpredicted

    @property
    def first(self) -> list[int]:
        """What the first scored token is predicted from."""
        if self.opening:
            return list(self.opening)
        return [self.separator] if self.separator != NO_SEPARATOR else []

    def is_opening(self) -> np.ndarray:
        """[tokens] of bool: True for what opens a document."""
        mask = np.zeros(len(self.ids), dtype=bool)
        starts = self.ends - self.documents["tokens"]
        for place in range(len(self.opening)):
            mask[starts + place] = True
        return mask

    def is_separator(self) -> np.ndarray:
        """[tokens] of bool: True where a document ends. Text never encodes to the separator, so the place decides."""
        mask = np.zeros(len(self.ids), dtype=bool)
        if self.separator != NO_SEPARATOR:
            mask[self.ends - 1] = True
        return mask

    def identify(self) -> str:
        """xxh3-128 of which text it is, by a hash and the bytes of each document: the same in every vocabulary."""
        digest = xxhash.xxh3_128()
        for column in ("order", "bytes"):
            digest.update(np.ascontiguousarray(self.documents[column]).tobytes())
        return digest.hexdigest()

    def draw(self, max_tokens: int) -> np.ndarray:
        """Numbers of whole documents of at most `max_tokens` together, drawn by their hash, in order; one at least."""
        drawn = np.argsort(self.documents["order"], kind="stable")
        whole = int((np.cumsum(self.documents["tokens"][drawn]) <= max_tokens).sum())
        return np.sort(drawn[: max(1, whole)])

    def take(self, numbers: np.ndarray) -> "TokenStream":
        """Some of the documents, in the order of the stream."""
        starts = self.ends - self.documents["tokens"]
        pieces = [self.ids[starts[i] : self.ends[i]] for i in numbers]
        return TokenStream(np.concatenate(pieces), self.documents[numbers], self.separator)

    def select(self, max_tokens: int, decode: Decode) -> "TokenStream":
        """Documents of at most `max_tokens` together (0: all), drawn by their hash, in the order of the stream.

        The same ones for the same stream, so that evaluations of one run compare. Documents are whole; but where whole
        ones come to less than half of the limit, the next one drawn is represented by its end.
        """
        if not max_tokens or len(self.ids) <= max_tokens:
            return self
        lengths, ends = self.documents["tokens"], self.ends
        drawn = np.argsort(self.documents["order"], kind="stable")
        summed = np.cumsum(lengths[drawn])
        whole = int((summed <= max_tokens).sum())
        left = max_tokens - (int(summed[whole - 1]) if whole else 0)
        cut = self._cut_start(int(drawn[whole]), left, decode) if 2 * left > max_tokens else None
        rows = self.documents.copy()
        if cut is not None:
            rows[drawn[whole]] = cut
        count = max(1, whole) if cut is None else whole + 1  # at least one document, whatever its length
        chosen = np.sort(drawn[:count])
        pieces = [self.ids[ends[i] - rows["tokens"][i] : ends[i]] for i in chosen]
        if cut is not None and self.opening:
            pieces = [self._open(ids) for ids in pieces]
        return TokenStream(np.concatenate(pieces), rows[chosen], self.separator, self.opening)

    def _open(self, ids: np.ndarray) -> np.ndarray:
        """The ids of a document behind what opens it, which the cut one has lost."""
        size = len(self.opening)
        return np.concatenate([np.array(self.opening, ids.dtype), ids[size:]])

    def _cut_start(self, number: int, tokens: int, decode: Decode) -> np.void | None:
        """Row of the table for at most the last `tokens` of a document, which do not start inside a character.

        None where no such place is nearby: text that cannot be read in parts has no honest count of bytes.
        """
        end, opened = int(self.ends[number]), len(self.opening)
        ids = self.ids[end - int(self.documents["tokens"][number]) : end]
        for start in range(len(ids) - tokens + opened, min(len(ids) - 1, len(ids) - tokens + CUT_TRIES)):
            before, after = ids[max(0, start - CUT_CONTEXT) : start], ids[start : start + CUT_CONTEXT]
            if decode(before) + decode(after) == decode(np.concatenate([before, after])):
                text = decode(ids[start : len(ids) - (self.separator != NO_SEPARATOR)])
                row = self.documents[number].copy()
                share = len(text.encode()) / max(1, int(row["bytes"]))
                row["tokens"], row["bytes"] = len(ids) - start + opened, len(text.encode())
                row["characters"], row["words"] = len(text), len(text.split())
                for name in set(LOSSES.names or ()) & set(row.dtype.names or ()):  # their positions in it are not known
                    row[name] = np.ceil(row[name] * share)
                return row
        return None


def sum_losses(documents: np.ndarray) -> tuple[int, int]:
    """(unknown tokens, bytes lost) of a table of documents; (0, 0) for one in which they were not measured."""
    if not set(LOSSES.names or ()) <= set(documents.dtype.names or ()):
        return 0, 0
    return int(documents["unknown"].sum()), int(documents["lost"].sum())
