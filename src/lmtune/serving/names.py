"""Tokens as text in an answer: one that is a part of a character is named by its bytes, as OpenAI's completions API names it."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from lmtune.serving.output import BROKEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
"""An entry that stands for a byte, in vocabularies over characters that fall back to bytes."""


def name_token(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    r"""The text of a token, or `bytes:\xc3` for bytes that are no text: decoded alone, all of those would have one name."""
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    known = _find_bytes(str(tokenizer.convert_ids_to_tokens(token))) if BROKEN in text else None
    return text if known is None else "bytes:" + "".join(f"\\x{value:02x}" for value in known)


def _find_bytes(entry: str) -> bytes | None:
    """The bytes that an entry of a vocabulary stands for; None where it is written in no alphabet that is known here."""
    if (match := FALLBACK.fullmatch(entry)) is not None:
        return bytes.fromhex(match.group(1))
    letters = _list_letters()
    return bytes(letters[letter] for letter in entry) if all(letter in letters for letter in entry) else None


@cache
def _list_letters() -> dict[str, int]:
    """Letter to byte, as byte-level vocabularies write bytes (GPT-2, encoder.py).

    Visible characters stand for themselves; the others are written as U+0100 and up.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in visible]
    return {chr(value): value for value in visible} | {chr(256 + place): value for place, value in enumerate(hidden)}
