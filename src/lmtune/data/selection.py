"""From rows of a source to documents: what is empty, repeated, unwanted or too much is left out, and counted."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from lmtune.config import DataConfig, UnicodeForm
from lmtune.data.columns import Texts, build_texts, count_bytes, count_chars, hash_texts, sum_bytes
from lmtune.data.ledger import Ledger
from lmtune.data.tables import Rows
from lmtune.versions import compose_letters


class Selection:
    """Takes documents from rows, shard by shard; what it leaves out is counted in the ledger by its reason.

    Repetitions and limits count over all shards; a run of rows that make one document ends with its shard.
    """

    def __init__(self, config: DataConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._seen: set[int] = set()
        self._taken = self._bytes = 0

    def take(self, shard: Iterable[Rows]) -> Iterator[Texts]:
        """Batches of the documents of one shard that are kept; none is empty.

        Once data.max_documents or data.max_bytes is reached, the rest of the shard is not read.
        """
        rows = (kept for batch in shard if len(kept := self._with_text(batch)))
        for documents in self._joined(rows):
            kept = self._within_limits(self._long_enough(documents))
            if len(kept):
                yield kept
            if self._is_full and self._config.rows_per_document == 1:  # else rows wait to be joined, and counted
                return

    @property
    def _is_full(self) -> bool:
        limits = ((self._taken, self._config.max_documents), (self._bytes, self._config.max_bytes))
        return any(limit and taken >= limit for taken, limit in limits)

    def _joined(self, rows: Iterable[Texts]) -> Iterator[Texts]:
        """Documents of data.rows_per_document rows; counts the line ends between rows, which are added."""
        many, ledger = self._config.rows_per_document, self._ledger
        if many == 1:
            yield from rows
            return

        def counted() -> Iterator[Texts]:
            for batch in rows:
                ledger.leave_out("joined", sum_bytes(batch))  # until it comes out, below
                yield batch

        for documents in join_rows(counted(), many):
            ledger.leave_out("joined", -sum_bytes(documents))
            yield documents

    def _with_text(self, batch: Rows) -> Texts:
        """Rows with text, in the form asked for, each once where data.deduplicate asks so."""
        import pyarrow.compute as pc

        texts, ledger = batch.texts, self._ledger
        full = np.asarray(pc.invert(pc.utf8_is_space(texts))) & (count_bytes(texts) > 0)
        ledger.count_read(sum_bytes(texts), batch.beside)
        ledger.rows_read += len(texts) + batch.unwanted
        ledger.rows_unwanted += batch.unwanted
        ledger.rows_empty += len(texts) - int(full.sum())
        kept = self._normalized(self._without("empty", texts, full))
        if self._config.deduplicate:
            fresh = np.array([self._is_new(mark) for mark in hash_texts(kept, seed=0).tolist()], bool)
            ledger.rows_repeated += len(kept) - int(fresh.sum())
            kept = self._without("repeated", kept, fresh)
        ledger.rows_used += len(kept)
        return kept

    def _without(self, kind: str, texts: Texts, mask: np.ndarray) -> Texts:
        """Texts of the mask; counts the bytes of the others."""
        kept = _keep(texts, mask)
        if kept is not texts:
            self._ledger.leave_out(kind, sum_bytes(texts) - sum_bytes(kept))
        return kept

    def _normalized(self, texts: Texts) -> Texts:
        import pyarrow.compute as pc

        if self._config.unicode is UnicodeForm.as_is:
            return texts
        normal = compose_letters(texts)
        self._ledger.rows_normalized += int(pc.sum(pc.not_equal(texts, normal)).as_py() or 0)
        self._ledger.leave_out("normalized", sum_bytes(texts) - sum_bytes(normal))
        return normal

    def _is_new(self, mark: int) -> bool:
        known = mark in self._seen
        self._seen.add(mark)
        return not known

    def _long_enough(self, documents: Texts) -> Texts:
        self._ledger.documents_read += len(documents)
        if not self._config.min_chars:
            return documents
        long = count_chars(documents) >= self._config.min_chars
        self._ledger.documents_short += len(documents) - int(long.sum())
        return self._without("short", documents, long)

    def _within_limits(self, documents: Texts) -> Texts:
        sizes = count_bytes(documents)
        within = np.ones(len(documents), bool)
        if self._config.max_documents:
            within &= self._taken + np.arange(len(documents)) < self._config.max_documents
        if self._config.max_bytes:
            within &= self._bytes + np.cumsum(sizes) - sizes < self._config.max_bytes
        taken, size = int(within.sum()), int(sizes[within].sum())
        self._taken, self._bytes = self._taken + taken, self._bytes + size
        self._ledger.documents_over_limit += len(documents) - taken
        self._ledger.documents_kept += taken
        self._ledger.bytes_kept += size
        return self._without("over_limit", documents, within)


def join_rows(batches: Iterable[Texts], many: int) -> Iterator[Texts]:
    """Runs of `many` consecutive rows as one document each, the last one shorter."""
    waiting: list[str] = []
    for batch in batches:
        waiting += batch.to_pylist()
        full = len(waiting) // many * many
        if full:
            yield build_texts("\n".join(waiting[start : start + many]) for start in range(0, full, many))
            waiting = waiting[full:]
    if waiting:
        yield build_texts(["\n".join(waiting)])


def leave_out(batches: Iterable[Texts], left_out: np.ndarray, seed: int, ledger: Ledger) -> Iterator[Texts]:
    """Documents that are not held out elsewhere; the others are counted as such. left_out: their hashes with the seed, uint64."""
    if not len(left_out):
        yield from batches
        return
    for texts in batches:
        known = np.isin(hash_texts(texts, seed), left_out)
        ledger.documents_held_elsewhere += int(known.sum())
        if len(kept := withdraw(texts, known, "held_elsewhere", ledger)):
            yield kept


def withdraw(texts: Texts, mask: np.ndarray, kind: str, ledger: Ledger) -> Texts:
    """Kept documents without those of the mask, which are counted as left out after all, by a kind of LEFT_OUT."""
    ledger.withdraw(kind, int(mask.sum()), int(count_bytes(texts)[mask].sum()))
    return _keep(texts, ~mask)


def _keep(texts: Texts, mask: np.ndarray) -> Texts:
    return texts if mask.all() else texts.filter(pa.array(mask))
