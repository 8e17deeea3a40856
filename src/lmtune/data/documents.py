"""From rows of a source to documents: what is empty, repeated, unwanted or too much is left out, and counted."""

import unicodedata
from collections.abc import Iterable, Iterator

from lmtune.config import DataConfig, UnicodeForm
from lmtune.data.ledger import Ledger
from lmtune.data.splits import hash_of


def select_documents(rows: Iterable[str], config: DataConfig, ledger: Ledger) -> tuple[int, list[str]]:
    """(documents read, documents kept); every other one is counted in the ledger by its reason."""
    documents = list(join_rows(_with_text(rows, config, ledger), config.rows_per_document))
    return len(documents), list(_wanted(documents, config, ledger))


def join_rows(rows: Iterable[str], many: int) -> Iterator[str]:
    """Runs of `many` consecutive rows as one document each, the last one shorter."""
    batch: list[str] = []
    for row in rows:
        batch.append(row)
        if len(batch) == many:
            yield "\n".join(batch)
            batch = []
    if batch:
        yield "\n".join(batch)


def _with_text(rows: Iterable[str], config: DataConfig, ledger: Ledger) -> Iterator[str]:
    """Rows with text, in the form asked for, each once where data.deduplicate asks so."""
    seen: set[int] = set()
    for row in rows:
        ledger.rows_read += 1
        if not row or row.isspace():
            ledger.rows_empty += 1
            continue
        text = _normalize(row, config, ledger)
        if config.deduplicate:
            mark = hash_of(text, seed=0)
            if mark in seen:
                ledger.rows_repeated += 1
                continue
            seen.add(mark)
        ledger.rows_used += 1
        yield text


def _normalize(row: str, config: DataConfig, ledger: Ledger) -> str:
    if config.unicode is UnicodeForm.as_is or unicodedata.is_normalized("NFC", row):
        return row
    ledger.rows_normalized += 1
    return unicodedata.normalize("NFC", row)


def _wanted(documents: Iterable[str], config: DataConfig, ledger: Ledger) -> Iterator[str]:
    taken = size = 0
    for text in documents:
        full = (config.max_documents and taken >= config.max_documents) or (
            config.max_bytes and size >= config.max_bytes
        )
        if len(text) < config.min_chars:
            ledger.documents_short += 1
        elif full:
            ledger.documents_over_limit += 1
        else:
            taken += 1
            size += len(text.encode()) if config.max_bytes else 0
            yield text
