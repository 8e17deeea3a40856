"""What is said while text is worked on: a bar on a terminal, lines elsewhere."""

import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lmtune.data.columns import Texts, sum_bytes
from lmtune.patience import saying

DELAY = 1.0
"""Seconds of work before the bar appears."""


def show_progress(batches: Iterable[Texts], doing: str, total: int | None = None) -> Iterator[Texts]:
    """The batches, with a bar of their bytes meanwhile; where stderr is no terminal, a line every two seconds.

    total: bytes expected in all; without it their number is only counted.
    """
    console = Console(stderr=True)
    shown = _show_bar(batches, doing, total, console) if console.is_terminal else _say_lines(batches, doing, total)
    yield from shown


def _say_lines(batches: Iterable[Texts], doing: str, total: int | None) -> Iterator[Texts]:
    size = 0
    with saying(doing) as work:
        for texts in batches:
            yield texts
            size += sum_bytes(texts)
            work.done = f"{size / 1e6:,.1f}{f' of {total / 1e6:,.1f}' if total else ''} MB"


def _show_bar(batches: Iterable[Texts], doing: str, total: int | None, console: Console) -> Iterator[Texts]:
    columns = [TextColumn(doing), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(doing, total=total or None)
    appears = time.monotonic() + DELAY
    try:
        for texts in batches:
            yield texts
            bar.advance(task, sum_bytes(texts))
            if not bar.live.is_started and time.monotonic() > appears:
                bar.start()
    finally:
        bar.stop()
