"""Text to ids: gigatoken, proven equal to the model's own tokenizer on a sample of the very text, else the latter."""

import itertools
import json
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lmtune.data.texts import Texts, build_texts
from lmtune.records import checksum_of
from lmtune.streams import PLAIN_TEXT

logger = logging.getLogger(__name__)

PROOF_DOCUMENTS = 64
PROOF_CHARS = 4_000
"""Of each document in the sample that both tokenizers encode."""


Encode = Callable[[Any], tuple[np.ndarray, np.ndarray]]
"""From texts to (ids, lengths)."""


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

    def encode(self, texts: Texts) -> tuple[np.ndarray, np.ndarray]:
        """(ids, lengths): [tokens] uint32, documents end to end without separators, and [documents] int64 tokens of each."""
        # Arrow's buffer goes to gigatoken as it is, ten times faster than Python strings.
        return self._encode(texts)

    def _encode_own(self, column: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = self._tokenizer(column.to_pylist(), **PLAIN_TEXT)["input_ids"]
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return np.fromiter(itertools.chain.from_iterable(rows), dtype=np.uint32, count=int(lengths.sum())), lengths

    def _agrees(self, fast: Encode, proof: Sequence[str]) -> bool:
        sample = [*(text[:PROOF_CHARS] for text in proof[:PROOF_DOCUMENTS]), "<|endoftext|> typed in a text"]
        column = build_texts(sample)
        (ours, our_lengths), (theirs, their_lengths) = fast(column), self._encode_own(column)
        if np.array_equal(ours, theirs) and np.array_equal(our_lengths, their_lengths):
            return True
        place = _first_difference(ours, our_lengths, theirs, their_lengths)
        logger.warning(
            "gigatoken and this tokenizer disagree on %r; encoding with the tokenizer itself, which is slower",
            sample[place][:60],
        )
        return False


def _first_difference(ours: np.ndarray, our_lengths: np.ndarray, theirs: np.ndarray, their_lengths: np.ndarray) -> int:
    pairs = zip(
        np.split(ours, np.cumsum(our_lengths)[:-1]), np.split(theirs, np.cumsum(their_lengths)[:-1]), strict=False
    )
    return next((place for place, (one, other) in enumerate(pairs) if not np.array_equal(one, other)), 0)


def hash_tokenizer(tokenizer: Any) -> str:
    """Changes with what decides the ids: vocabulary, merges, normalisation, separator; not with names or truncation."""
    described = describe_tokenizer(tokenizer, len(tokenizer))
    return checksum_of(json.dumps([described.text, described.added, tokenizer.eos_token_id]))


class Description(NamedTuple):
    """A tokenizer without what does not touch the ids of plain text."""

    text: str
    """tokenizer.json without added tokens, so that a special token typed in a text is read as text."""
    added: list[str]
    """Words that were added and are no special tokens."""


@lru_cache(maxsize=4)
def describe_tokenizer(tokenizer: Any, size: int) -> Description:
    """The description of a tokenizer that has `size` entries now; made once, as it takes a while."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return Description(json.dumps(sorted(tokenizer.get_vocab().items())), [])
    # The model, which holds megabytes of merges, comes last and stays as it is written; quotes inside strings are escaped,
    # so its beginning stands nowhere else.
    head, begin, model = backend.to_str().partition(',"model":{')
    described = json.loads(head + "}")
    added = [token["content"] for token in described["added_tokens"] if not token["special"]]
    left_out: dict[str, Any] = {"added_tokens": [], "truncation": None, "padding": None, "post_processor": None}
    return Description(json.dumps({**described, **left_out})[:-1] + begin + model, added)


def _find_gigatoken(tokenizer: Any) -> Encode | None:
    """gigatoken's encoder for this tokenizer, None where it has none."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        logger.warning("%s has no fast backend; encoding will be slow", type(tokenizer).__name__)
        return None
    import awkward as ak
    import gigatoken.gigatoken_rs as gigatoken

    try:
        fast = gigatoken.load_hf_json(describe_tokenizer(tokenizer, len(tokenizer)).text)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        logger.warning(
            "gigatoken does not read this tokenizer (%s); encoding with the tokenizer itself, which is slower", error
        )
        return None

    def encode(column: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = fast.encode_batch(ak.from_arrow(column))
        return np.asarray(ak.flatten(rows), dtype=np.uint32), np.asarray(ak.num(rows), dtype=np.int64)

    return encode
