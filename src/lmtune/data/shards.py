"""What the readers of shards share: rows as the lines of a text, and what is said of a source."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator

from lmtune.config import DocumentRule
from lmtune.data.boundaries import split_text
from lmtune.data.columns import batch_strings, build_texts, iterate_strings, sum_bytes
from lmtune.data.tables import Rows

logger = logging.getLogger(__name__)

_said: set[str] = set()
"""Remarks that this process has made."""


def say_remark(remark: str) -> None:
    """Log what was guessed about a source, or looks odd, once per process."""
    if remark not in _said:
        _said.add(remark)
        logger.warning(remark)


def split_rows(batches: Iterator[Rows], rule: DocumentRule) -> Iterator[Rows]:
    """Rows of a table, or documents of the text that they are the lines of."""
    if rule is DocumentRule.row:
        yield from batches
        return
    unwanted, left = 0, Counter[str]()

    def lines() -> Iterable[str]:
        nonlocal unwanted
        for batch in batches:
            unwanted += batch.unwanted
            left.update(batch.beside)
            lines = [line if line.endswith("\n") else line + "\n" for line in iterate_strings([batch.texts])]
            text = "".join(lines)
            left["joined"] -= len(text.encode()) - sum_bytes(batch.texts)
            yield text

    for documents in batch_strings(split_text(lines(), rule, left)):
        yield Rows(documents, unwanted, dict(left))
        unwanted = 0
        left.clear()
    yield Rows(build_texts([]), unwanted, dict(left))
