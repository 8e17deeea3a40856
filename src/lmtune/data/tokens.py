"""Text to ids: gigatoken, proven equal to the model's own tokenizer on a sample of the very text, else the latter."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

BATCH_CHARS = 16_000_000
"""Characters encoded at once: enough to keep all cores busy, little enough to keep memory flat."""
PROOF_DOCUMENTS = 64
PROOF_CHARS = 20_000
"""Of each document in the sample that both tokenizers encode."""

Encode = Callable[[list[str]], list[np.ndarray]]


class Encoder:
    """Encodes documents to ids, special tokens typed inside a document read as plain text.

    tokenizer: a transformers tokenizer.
    proof: documents to compare both ways of encoding on; a difference means the slow way, with a warning.
    """

    def __init__(self, tokenizer: Any, proof: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._encode: Encode = self._encode_own
        fast = _find_gigatoken(tokenizer)
        if fast is not None and self._agrees(fast, proof):
            self._encode = fast

    @property
    def name(self) -> str:
        """Which tokenizer does the work."""
        return "tokenizers" if self._encode == self._encode_own else "gigatoken"

    def encode_batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids, lengths) for batches of consecutive documents: ids [tokens] uint32 end to end, lengths [documents]."""
        for batch in _batches(texts):
            encoded = self._encode(batch)
            lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
            yield (np.concatenate(encoded) if encoded else np.empty(0, np.uint32)), lengths

    def _encode_own(self, texts: list[str]) -> list[np.ndarray]:
        rows = self._tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return [np.asarray(row, dtype=np.uint32) for row in rows]

    def _agrees(self, fast: Encode, proof: Sequence[str]) -> bool:
        step = max(1, len(proof) // PROOF_DOCUMENTS)
        sample = [text[:PROOF_CHARS] for text in proof[::step]]
        sample.append("<|endoftext|> typed in a text")
        for text, ours, theirs in zip(sample, fast(sample), self._encode_own(sample), strict=True):
            if not np.array_equal(ours, theirs):
                logger.warning(
                    "gigatoken and this tokenizer disagree on %r; encoding with the tokenizer itself, which is slower",
                    text[:60],
                )
                return False
        return True


def _find_gigatoken(tokenizer: Any) -> Encode | None:
    """gigatoken's encoder for this tokenizer, None where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        logger.warning("%s has no fast backend; encoding will be slow", type(tokenizer).__name__)
        return None
    import awkward as ak
    import gigatoken.gigatoken_rs as gigatoken

    # Without added tokens, a special token typed in a text is read as text, as split_special_tokens=True does.
    description = {**json.loads(backend.to_str()), "added_tokens": [], "truncation": None, "padding": None}
    try:
        fast = gigatoken.load_hf_json(json.dumps(description))
    except (ValueError, RuntimeError, NotImplementedError) as error:
        logger.warning(
            "gigatoken does not read this tokenizer (%s); encoding with the tokenizer itself, which is slower", error
        )
        return None

    def encode(texts: list[str]) -> list[np.ndarray]:
        rows = fast.encode_batch(texts)
        flat = np.asarray(ak.flatten(rows), dtype=np.uint32)
        return np.split(flat, np.cumsum(np.asarray(ak.num(rows)))[:-1]) if texts else []

    return encode


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
