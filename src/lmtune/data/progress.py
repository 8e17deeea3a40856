"""A bar on stderr for work on text that takes more than a moment."""

import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lmtune.data.texts import Texts, edges_of

DELAY = 1.0
"""Seconds of work before the bar appears."""


def show_progress(batches: Iterable[Texts], doing: str, total: int | None = None) -> Iterator[Texts]:
    """The batches, with a bar of their bytes meanwhile; none where stderr is no terminal.

    total: bytes expected in all; without it the bar only counts.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from batches
        return
    columns = [TextColumn(doing), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(doing, total=total or None)
    appears = time.monotonic() + DELAY
    try:
        for texts in batches:
            yield texts
            if len(texts):
                begin, end = edges_of(texts)[[0, -1]].tolist()
                bar.advance(task, end - begin)
            if not bar.live.is_started and time.monotonic() > appears:
                bar.start()
    finally:
        bar.stop()
