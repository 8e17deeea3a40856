"""What a vocabulary loses of a text: bytes that its ids do not give back, and so no model of them ever predicts.

Bits per byte divide by all bytes of the text. Where the ids decode to fewer, the number is too good, so each document is
compared with what its ids decode to. Its form may differ by one blank that the vocabulary puts before a text, no more.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lmtune.data.columns import Texts, count_bytes
from lmtune.errors import DataError
from lmtune.token_stream import LOSSES, sum_losses
from lmtune.vocabulary import PROBE, count_ids, decode_plain, encode_plain, find_unknown, open_backend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""A token of a SentencePiece vocabulary for one byte."""
BLANK = "\u2581"
"""What SentencePiece vocabularies write for a blank."""
DECODERS = {"ByteLevel", "Metaspace", "Replace"}
"""Those that give back what the letters of a token say: bytes, or text with another sign for blanks."""
PLAIN_NORMALIZERS = {"NFC", "Prepend", "Replace"}
"""Those after which equal counts of bytes mean an equal text, as they change it seldom, or by its blanks alone."""
REMEDY = (
    "Choose a model with a byte-level vocabulary; where only the form of letters differs, data.unicode=NFC may do. To have such "
    "numbers all the same, raise eval.max_lost=."
)


class LossMeter:
    """Compares documents with what their ids decode to."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._unknown = find_unknown(tokenizer)
        self._sizes = _find_sizes(tokenizer, len(tokenizer))
        self._blank = (
            0 if self._sizes is None else int(self._sizes[encode_plain(tokenizer, [PROBE])[0]].sum()) - len(PROBE)
        )
        """Bytes that the vocabulary puts before a text."""

    def measure(self, texts: Texts, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[documents] of LOSSES. ids: [tokens] of all of them, end to end; lengths: [documents] tokens of each."""
        losses = np.zeros(len(lengths), dtype=LOSSES)
        starts = np.cumsum(lengths) - lengths
        if self._unknown is not None:
            losses["unknown"] = _sum_runs(ids == self._unknown, starts, lengths)
        doubtful = np.arange(len(lengths))
        if self._sizes is not None:
            short = count_bytes(texts) - _sum_runs(self._sizes[ids], starts, lengths)
            doubtful = np.flatnonzero((short != -self._blank) & (count_bytes(texts) > 0))
        rows = [ids[starts[place] : starts[place] + lengths[place]] for place in doubtful]
        given = texts.take(doubtful).to_pylist() if len(doubtful) else []
        for place, text, back in zip(doubtful, given, self._decode(rows), strict=True):
            losses["lost"][place] = count_lost(text, back)
        return losses

    def _decode(self, rows: Sequence[np.ndarray]) -> list[str]:
        """The text of each row of ids, of which unknown ones give back nothing."""
        known = [row[row != self._unknown] if self._unknown is not None else row for row in rows]
        ids = [row.astype(np.int64).tolist() for row in known]
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is not None:
            return list(backend.decode_batch(ids, skip_special_tokens=False))
        return [decode_plain(self._tokenizer, row) for row in ids]


def count_lost(text: str, back: str) -> int:
    """UTF-8 bytes of characters in which a text differs from what its ids give back, whatever their order; 0 where it is equal.

    A blank at the start that the vocabulary adds by itself is no difference.
    """
    if back == text or back == " " + text:
        return 0
    given, got = Counter(text), Counter(back)
    missing, added = given - got, got - given
    if back.startswith(" ") and added[" "]:
        added[" "] -= 1
    differs = max(_count_bytes(missing), _count_bytes(added), 1)
    return min(differs, len(text.encode()))


def render_losses(unknown: int, lost: int, size: int) -> str:
    """What a text loses, in words."""
    share = lost / max(1, size)
    tokens = f"{unknown:,} unknown tokens; " if unknown else ""
    return f"{tokens}{lost:,} of {size:,} bytes ({share:.2%}) are not given back by the ids"


def assess_losses(name: str, documents: np.ndarray, most: float) -> str | None:
    """A warning about what the vocabulary loses of a scored text, None if nothing; raise DataError if that is too much.

    name: of the text, for the message. most: the share of its bytes.
    """
    unknown, lost = sum_losses(documents)
    size = int(documents["bytes"].sum())
    if not (unknown or lost):
        return None
    said = f"{name}: the vocabulary does not hold all of this text: {render_losses(unknown, lost, size)}"
    if lost > most * size:
        raise DataError(
            f"{said}, so no model predicts them and bits per byte would be too good. Expected at most {most:.2%}. {REMEDY}"
        )
    return said


def check_any_tokens(name: str, tokens: int, size: int) -> None:
    """Raise DataError where text has become no tokens at all."""
    if size and not tokens:
        raise DataError(
            f"{name}: its {size:,} bytes become no tokens, so the vocabulary is empty or was made for another script; expected "
            "one that has entries for this text. Put the tokenizer of the model beside it, or choose another model."
        )


def _count_bytes(characters: Counter[str]) -> int:
    return sum(count * len(character.encode("utf-8", "surrogatepass")) for character, count in characters.items())


def _sum_runs(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[documents] int64: the sum of the values of each; runs without values have none."""
    sums = np.zeros(len(lengths), np.int64)
    filled = np.flatnonzero(lengths)
    if len(filled):
        sums[filled] = np.add.reduceat(values, starts[filled], dtype=np.int64)
    return sums


@lru_cache(maxsize=4)
def _find_sizes(tokenizer: "PreTrainedTokenizerBase", size: int) -> np.ndarray | None:
    """[vocabulary] uint16: UTF-8 bytes of each token, 0 for the unknown one; None where the normalizer may change them.

    size: entries of the tokenizer now.
    """
    unknown = find_unknown(tokenizer)
    backend = open_backend(tokenizer).head
    decoders = set(_list_kinds(backend.get("decoder")))
    if not decoders & DECODERS or not set(_list_kinds(backend.get("normalizer"))) <= PLAIN_NORMALIZERS:
        return None
    sizes = np.zeros(count_ids(tokenizer), np.uint16)
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    for entry, index in tokenizer.get_vocab().items():
        if index != unknown:
            sizes[index] = _count_entry(entry, "ByteLevel" in decoders and entry not in added)
    return sizes


def _count_entry(entry: str, byte_level: bool) -> int:
    if byte_level:
        return len(entry)  # its alphabet has one letter for each byte
    return 1 if BYTE_TOKEN.fullmatch(entry) else len(entry.replace(BLANK, " ").encode())


def _list_kinds(part: dict[str, Any] | None) -> list[str]:
    """Kinds of a normalizer or decoder; of a sequence, those of all its parts."""
    if not part:
        return []
    inner = part.get("normalizers") or part.get("decoders")
    return [kind for each in inner for kind in _list_kinds(each)] if inner else [str(part["type"])]
