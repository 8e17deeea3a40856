"""How much of a text has been worked on, in bytes."""

from collections.abc import Iterable, Iterator

from lmtune.data.columns import Texts, sum_bytes
from lmtune.gauges import MEGABYTES
from lmtune.patience import saying


def show_progress(batches: Iterable[Texts], doing: str, total: int | None = None) -> Iterator[Texts]:
    """The batches, with their progress meanwhile. total: bytes expected in all; without it their number is only counted."""
    with saying(doing, total, MEGABYTES) as work:
        for texts in batches:
            yield texts
            work.advance(sum_bytes(texts))
