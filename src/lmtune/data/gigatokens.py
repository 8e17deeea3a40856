"""Ids by gigatoken, of byte-level vocabularies with gaps too.

gigatoken reads none in which a byte has no entry, as in SmolLM2's, whose tokenizer passes over such a byte. The vocabulary is
completed for it, and documents that hold such a byte are left to the tokenizer itself.
"""

import json
from typing import TYPE_CHECKING

import numpy as np

from lmtune.data.columns import Texts, sum_bytes
from lmtune.data.pieces import Advance, PieceEncoder, ignore
from lmtune.vocabulary import count_ids, describe_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Gigatoken:
    """gigatoken's encoder for a tokenizer with a fast backend.

    Raises ValueError, RuntimeError or NotImplementedError where it has none.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        import gigatoken.gigatoken_rs as gigatoken

        self._known = count_ids(tokenizer)
        self._rest = PieceEncoder(tokenizer)
        described = describe_tokenizer(tokenizer, len(tokenizer)).plain
        try:
            self._fast = gigatoken.load_hf_json(described)
        except (ValueError, RuntimeError, NotImplementedError):
            completed = _complete_bytes(described, self._known)
            if completed is None:
                raise
            self._fast = gigatoken.load_hf_json(completed)

    def encode(self, texts: Texts, advance: Advance = ignore) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths), as Encoder.encode."""
        import awkward as ak

        # Arrow's buffer goes to gigatoken as it is, ten times faster than Python strings.
        rows = self._fast.encode_batch(ak.from_arrow(texts))
        ids, lengths = np.asarray(ak.flatten(rows), dtype=np.uint32), np.asarray(ak.num(rows), dtype=np.int64)
        if np.any(unknown := ids >= self._known):
            ids, lengths = self._leave(texts, ids, lengths, np.flatnonzero(unknown))
        advance(sum_bytes(texts))
        return ids, lengths

    def _leave(
        self, texts: Texts, ids: np.ndarray, lengths: np.ndarray, unknown: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths) where the documents that have ids at the places `unknown` are encoded by the tokenizer itself."""
        ends = np.cumsum(lengths)
        left = np.unique(np.searchsorted(ends, unknown, side="right"))
        own, own_lengths = self._rest.encode(texts.take(left))
        rows = np.split(ids, ends[:-1])
        for number, row in zip(left, np.split(own, np.cumsum(own_lengths)[:-1]), strict=True):
            rows[number] = row
        lengths[left] = own_lengths
        return np.concatenate(rows), lengths


def _complete_bytes(described: str, known: int) -> str | None:
    """A tokenizer.json with entries, from id `known` on, for bytes that have none; None where each has one or none needs one."""
    from tokenizers import pre_tokenizers

    whole = json.loads(described)
    model, split = whole["model"], whole["pre_tokenizer"] or {}
    lacking = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(model["vocab"]))
    kinds = {each["type"] for each in (split, *split.get("pretokenizers", []))}
    if model["type"] != "BPE" or "ByteLevel" not in kinds or not lacking:
        return None
    model["vocab"].update((letter, known + number) for number, letter in enumerate(lacking))
    return json.dumps(whole)
