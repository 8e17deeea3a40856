"""Ids by gigatoken, of two kinds of byte-level tokenizers too that it does not read, such as SmolLM2's.

Where bytes have no entry, which the tokenizer passes over, the vocabulary is completed, and documents that hold such a byte are
left to the tokenizer itself. Where digits are split from all else first, that is done here.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lmtune.data.columns import Texts, sum_bytes
from lmtune.data.digits import cut_digits
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
        self._digits = False
        described = describe_tokenizer(tokenizer, len(tokenizer)).plain
        try:
            self._fast = gigatoken.load_hf_json(described)
        except (ValueError, RuntimeError, NotImplementedError):
            whole = json.loads(described)
            self._digits = _take_digits_out(whole)
            _complete_bytes(whole, self._known)
            self._fast = gigatoken.load_hf_json(json.dumps(whole))

    def encode(self, texts: Texts, advance: Advance = ignore) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths), as Encoder.encode."""
        ids, lengths = self._encode(texts)
        ends = np.cumsum(lengths)
        left = np.unique(np.searchsorted(ends, np.flatnonzero(ids >= self._known), side="right"))
        own = texts.take(left)
        advance(sum_bytes(texts) - sum_bytes(own))
        if not len(own):
            return ids, lengths
        own_ids, lengths[left] = self._rest.encode(own, advance)
        rows = np.split(ids, ends[:-1])
        for number, row in zip(left, np.split(own_ids, np.cumsum(lengths[left])[:-1]), strict=True):
            rows[number] = row
        return np.concatenate(rows), lengths

    def _encode(self, texts: Texts) -> tuple[np.ndarray, np.ndarray]:
        import awkward as ak

        parts, counts = cut_digits(texts) if self._digits else (texts, None)
        # Arrow's buffer goes to gigatoken as it is, ten times faster than Python strings.
        rows = self._fast.encode_batch(ak.from_arrow(parts))
        ids, lengths = np.asarray(ak.flatten(rows), dtype=np.uint32), np.asarray(ak.num(rows), dtype=np.int64)
        if counts is not None:
            ends = np.append(0, np.cumsum(lengths))
            lengths = np.diff(ends[np.append(0, np.cumsum(counts))])
        return ids, lengths


def _take_digits_out(whole: dict[str, Any]) -> bool:
    """Take from a tokenizer.json that it splits digits from all else first; return whether it did and nothing comes before."""
    parts = (whole["pre_tokenizer"] or {}).get("pretokenizers", [])
    if whole["normalizer"] or whole["added_tokens"] or len(parts) != 2:
        return False
    digits, rest = parts
    if not digits.get("individual_digits") or rest["type"] != "ByteLevel" or rest["add_prefix_space"]:
        return False
    whole["pre_tokenizer"] = rest
    return True


def _complete_bytes(whole: dict[str, Any], known: int) -> None:
    """Give a tokenizer.json of byte-level BPE entries, from id `known` on, for bytes that have none."""
    from tokenizers.pre_tokenizers import ByteLevel

    split = whole["pre_tokenizer"] or {}
    kinds = {part["type"] for part in (split, *split.get("pretokenizers", [])) if part}
    if whole["model"]["type"] == "BPE" and "ByteLevel" in kinds:
        vocabulary = whole["model"]["vocab"]
        lacking = sorted(set(ByteLevel.alphabet()) - set(vocabulary))
        vocabulary.update((letter, known + number) for number, letter in enumerate(lacking))
