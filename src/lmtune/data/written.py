"""Rows that a model has written, kept in the cache as prepared text is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmtune.data import blocks, cache
from lmtune.storage import checksum
from lmtune.vocabulary import count_ids, hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "train.arrow"


class Written(NamedTuple):
    """Text of a model's own."""

    blocks: blocks.PaddedBlocks
    tokens: int
    """Sampled tokens; what opens a row was not sampled."""
    checksum: str
    """xxh3-128 of the rows."""


def build_key(tokenizer: "PreTrainedTokenizerBase", parts: dict[str, Any]) -> str:
    """The key of the cache entry. parts: the hash of the weights, and all settings that decide what they write."""
    return cache.key_of({"written": parts, "tokenizer": hash_tokenizer(tokenizer)})


def is_kept(key: str) -> bool:
    """True for an entry that the cache holds whole."""
    root = cache.find_folder()
    return root is not None and cache.find_content(root / key) is not None


def load_written(
    key: str, tokenizer: "PreTrainedTokenizerBase", block_size: int, write: Callable[[], Iterator[np.ndarray]]
) -> Written:
    """The rows of an entry, which are written where the cache does not hold them.

    write: gives batches of rows, [rows, block_size + 1] ids each. Every token of a row but the first is learned.
    """
    dtype, end = blocks.id_type(count_ids(tokenizer)), tokenizer.eos_token_id

    def build(folder: Path) -> dict[str, Any]:
        count, targets = blocks.write_padded(
            folder / FILE, map(_as_documents, write()), block_size, dtype, end, opening=1
        )
        return {"rows": count, "targets": targets, "checksum": checksum(folder / FILE)}

    def load(folder: Path, content: dict[str, Any]) -> Written:
        rows = blocks.PaddedBlocks.load(folder / FILE, block_size, content["targets"])
        return Written(rows, content["targets"], content["checksum"])

    return cache.cached(key, build, load)


def _as_documents(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids, documents) of rows, each of them a document that opens with its first token."""
    documents = np.zeros(len(rows), [("tokens", np.int64)])
    documents["tokens"] = rows.shape[1]
    return rows.reshape(-1), documents
