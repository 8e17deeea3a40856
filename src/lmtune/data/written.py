"""Rows that a model has written, kept in the cache as prepared text is.

Each batch is kept on its own until all are there, so that a process that was killed meanwhile has not written in vain.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmtune.data import blocks, cache
from lmtune.storage import checksum
from lmtune.vocabulary import count_ids, hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

FILE = "train.arrow"
BATCH_FILE = "rows.npy"

Write = Callable[[int], Iterator[np.ndarray]]
"""Gives batches of rows, [rows, block_size + 1] ids each, from the row with this number on."""


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


def load_written(key: str, tokenizer: "PreTrainedTokenizerBase", block_size: int, count: int, write: Write) -> Written:
    """The `count` rows of an entry, which are written where the cache does not hold them.

    Every token of a row but the first is learned.
    """
    dtype, end = blocks.id_type(count_ids(tokenizer)), tokenizer.eos_token_id

    def build(folder: Path) -> dict[str, Any]:
        documents = map(_as_documents, _write_on(key, count, write))
        rows, targets = blocks.write_padded(folder / FILE, documents, block_size, dtype, end, opening=1)
        return {"rows": rows, "targets": targets, "checksum": checksum(folder / FILE)}

    def load(folder: Path, content: dict[str, Any]) -> Written:
        rows = blocks.PaddedBlocks.load(folder / FILE, block_size, content["targets"])
        return Written(rows, content["targets"], content["checksum"])

    written = cache.cached(key, build, load)
    if is_kept(key):
        _remove_batches(key, count)
    return written


def _write_on(key: str, count: int, write: Write) -> Iterator[np.ndarray]:
    """All batches: those that an earlier process has kept, then new ones, which are kept too."""
    done = 0
    while done < count and (rows := _find_batch(key, done)) is not None:
        yield rows
        done += len(rows)
    if 0 < done < count:
        logger.info(
            "%s of %s rows of the old text were written before; going on with the others", f"{done:,}", f"{count:,}"
        )
    for rows in write(done) if done < count else ():
        with suppress(OSError):  # what finds no place is written again
            _keep_batch(key, done, rows)
        yield rows
        done += len(rows)


def _find_batch(key: str, first: int) -> np.ndarray | None:
    """The batch of an entry that begins with this row, [rows, block_size + 1] ids; None where none was kept whole."""
    folder = _batch_folder(key, first)
    if folder is None or cache.find_content(folder) is None:
        return None
    rows: np.ndarray = np.load(folder / BATCH_FILE, allow_pickle=False)
    return rows


def _keep_batch(key: str, first: int, rows: np.ndarray) -> None:
    def build(aside: Path) -> dict[str, Any]:
        np.save(aside / BATCH_FILE, rows)
        return {"rows": len(rows)}

    folder = _batch_folder(key, first)
    if folder is not None:
        cache.build_entry(folder, build, sweeps=True)  # the lock of the whole entry guards its batches


def _remove_batches(key: str, count: int) -> None:
    """Delete the batches of an entry that is there as a whole; the first goes last, and tells whether there are any."""
    folder = _batch_folder(key, 0)
    if folder is None or not folder.exists():
        return
    for first in reversed(range(count)):
        folder = _batch_folder(key, first)
        if folder is not None:
            with suppress(OSError):
                cache.remove_files(folder)


def _batch_folder(key: str, first: int) -> Path | None:
    root = cache.find_folder()
    return None if root is None else root / cache.key_of({"written": key, "first": first})


def _as_documents(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids, documents) of rows, each of them a document that opens with its first token."""
    documents = np.zeros(len(rows), [("tokens", np.int64)])
    documents["tokens"] = rows.shape[1]
    return rows.reshape(-1), documents
