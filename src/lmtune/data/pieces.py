"""Ids by the model's own tokenizer, on all threads that its library may use, in pieces of bounded memory.

A long text is cut only where the tokenizer itself starts a new word: both sides then have the ids that they have as a whole.
Each cut is tried on the text around it, and cutting as such on the first long text, against the ids of the whole.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from lmtune.data.columns import Texts, count_utf8
from lmtune.vocabulary import open_plain_backend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Advance = Callable[[int], None]
"""Told the UTF-8 bytes that have been encoded since it was last called."""


def ignore(size: int) -> None:
    """The Advance of an encoding that nobody watches."""


class Encode(Protocol):
    """A way from texts to (ids, lengths), as Encoder.encode."""

    def __call__(self, texts: Texts, advance: Advance = ignore) -> tuple[np.ndarray, np.ndarray]: ...


PIECE = 50_000
"""Characters of a piece of a text, at least: a few for each thread in what is encoded at once."""
AT_ONCE = 2_000_000
"""Characters that are encoded at once, of which the library holds some 70 bytes each meanwhile."""
AROUND, TRIES = 100, 16
"""Characters to each side of a cut that is tried, and places that are tried before the piece becomes longer."""
PROOF = 500
"""Characters of a piece where cutting as such is tried."""
EDGE = re.compile(r"(?<=\S)(?=\s\S)|(?<=\S\n)(?=\S)")
"""Before a single blank, or after a single end of a line."""


class Piece(NamedTuple):
    """A text or a part of one."""

    document: int
    text: str


class PieceEncoder:
    """Encodes as `lmtune.vocabulary.encode_plain` does. tokenizer: with a fast backend."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._backend = open_plain_backend(tokenizer)
        self._around = max(AROUND, *map(len, tokenizer.get_added_vocab()), 0)
        self._cuts: bool | None = None
        """Whether long texts are cut; None until there was one."""

    def encode(self, texts: Texts, advance: Advance = ignore) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths), as Encoder.encode."""
        self._backend = open_plain_backend(self._tokenizer)  # any call of the tokenizer sets it up for its own ends
        rows: list[np.ndarray] = []
        lengths = np.zeros(len(texts), np.int64)
        for pieces in _batch(self._list_pieces(texts)):
            for piece, ids in zip(pieces, self._encode([piece.text for piece in pieces]), strict=True):
                rows.append(ids)
                lengths[piece.document] += len(ids)
            advance(sum(count_utf8(piece.text) for piece in pieces))
        return np.concatenate([np.empty(0, np.uint32), *rows]), lengths

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(each.ids, np.uint32) for each in encoded]

    def _list_pieces(self, texts: Texts) -> Iterator[Piece]:
        for document, text in enumerate(texts):
            whole = text.as_py()
            pieces = self._cut(whole, PIECE) if len(whole) > PIECE and self._may_cut(whole) else iter([whole])
            yield from (Piece(document, piece) for piece in pieces)

    def _may_cut(self, text: str) -> bool:
        """Whether many small pieces of a text have the ids of the whole; found out once."""
        if self._cuts is None:
            start = text[:PIECE]
            whole, *pieces = self._encode([start, *self._cut(start, PROOF)])
            self._cuts = np.array_equal(whole, np.concatenate(pieces))
        return self._cuts

    def _cut(self, text: str, size: int) -> Iterator[str]:
        """Pieces of a text of `size` characters or more, which together are the text."""
        start, target = 0, size
        while target < len(text):
            edges = (edge.start() for edge in islice(EDGE.finditer(text, target, target + size), TRIES))
            place = next((edge for edge in edges if self._starts_word(text, edge)), None)
            if place is None:
                target += size
                continue
            yield text[start:place]
            start, target = place, place + size
        yield text[start:]

    def _starts_word(self, text: str, place: int) -> bool:
        """Whether a new word of the tokenizer starts at a place, and the ids on both sides are those of the whole."""
        left, right = text[max(0, place - self._around) : place], text[place : place + self._around]
        tried = (left + right, left, right)
        whole, before, after = (self._backend.encode(each, add_special_tokens=False) for each in tried)
        if whole.ids != before.ids + after.ids or not before.ids or not after.ids:
            return False
        return bool(whole.word_ids[len(before.ids) - 1] != whole.word_ids[len(before.ids)])


def _batch(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Consecutive pieces, of AT_ONCE characters or a little more."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
