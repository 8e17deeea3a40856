"""Documents as a stream for a vocabulary without an end-of-text token, with nothing between them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lmtune.data.columns import Texts, build_texts, hash_texts, iterate_strings
from lmtune.data.losses import LossMeter, check_any_tokens
from lmtune.errors import DataError
from lmtune.token_stream import LOSSES, MEASURED_TABLE, NO_SEPARATOR, PLAIN_TEXT, TokenStream
from lmtune.vocabulary import decode_plain, encode_opening, encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_unseparated(batches: Iterable[Texts], tokenizer: "PreTrainedTokenizerBase", seed: int) -> TokenStream:
    """All documents of the batches as a stream without separators, each behind what the tokenizer itself opens a text with.

    Where it opens none, nothing predicts the very first token, and its text is in no count.
    """
    texts = [text for text in iterate_strings(batches) if text]
    if not texts:
        raise DataError("There is nothing to score: expected text, found none. Check data.files and eval.split.")
    opening = encode_opening(tokenizer)
    rows = encode_plain(tokenizer, texts)
    table = np.zeros(len(rows), dtype=MEASURED_TABLE)
    for number, (text, row) in enumerate(zip(texts, rows, strict=True)):
        counted = text if number or opening else _leave_first(tokenizer, text, row)
        for name, count in _count(counted).items():
            table[number][name] = count
        table[number]["tokens"] = len(opening) + len(row)
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.array([index for row in rows for index in row], np.uint32)
    check_any_tokens("the text", len(ids), int(table["bytes"].sum()))
    given = build_texts(texts)
    table["order"] = hash_texts(given, seed)
    losses = LossMeter(tokenizer).measure(given, ids, lengths)
    for name in LOSSES.names or ():
        table[name] = losses[name]
    laid_out = [np.array([*opening, *row], np.uint32) for row in rows]
    return TokenStream(np.concatenate(laid_out), table, NO_SEPARATOR, opening)


def _count(text: str) -> dict[str, int]:
    return {"bytes": len(text.encode()), "characters": len(text), "words": len(text.split())}


def _leave_first(tokenizer: "PreTrainedTokenizerBase", text: str, ids: list[int]) -> str:
    """The text without that of its first token."""
    if tokenizer.is_fast:
        offsets = tokenizer(text, **PLAIN_TEXT, return_offsets_mapping=True)["offset_mapping"]
        return text[offsets[0][1] :] if offsets else ""
    rest = decode_plain(tokenizer, ids[1:])
    return (
        text[len(text) - len(rest) :]
        if rest and text.endswith(rest)
        else text[min(len(text), _letters(tokenizer, ids)) :]
    )


def _letters(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> int:
    """Letters of the first token, for a tokenizer that does not give back the blanks of a text."""
    return len(decode_plain(tokenizer, ids[:1]).strip())
