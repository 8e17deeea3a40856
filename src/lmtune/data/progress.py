"""How much of a text has been worked on, in bytes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lmtune.data.columns import Texts, sum_bytes
from lmtune.data.pieces import Advance
from lmtune.gauges import MEGABYTES
from lmtune.patience import saying


def show_progress(batches: Iterable[Texts], doing: str, total: int | None = None) -> Iterator[Texts]:
    """The batches, with their progress meanwhile, as `showing` has it."""
    with showing(doing, total) as advance:
        for texts in batches:
            yield texts
            advance(sum_bytes(texts))


@contextmanager
def showing(doing: str, total: int | None = None) -> Iterator[Advance]:
    """A function to be told of bytes that are done.

    total: bytes expected in all; without it their number is only counted.
    """
    with saying(doing, total or None, MEGABYTES) as work:
        yield work.advance
