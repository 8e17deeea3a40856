"""What is said while text is worked on: a bar on a terminal, lines elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from lmtune.data.columns import Texts, sum_bytes
from lmtune.data.pieces import Advance
from lmtune.patience import saying

DELAY = 1.0
"""Seconds of work before the bar appears."""


def show_progress(batches: Iterable[Texts], doing: str, total: int | None = None) -> Iterator[Texts]:
    """The batches, with their progress meanwhile, as `showing` has it."""
    with showing(doing, total) as advance:
        for texts in batches:
            yield texts
            advance(sum_bytes(texts))


@contextmanager
def showing(doing: str, total: int | None = None) -> Iterator[Advance]:
    """A function to be told of bytes that are done: a bar shows them; where stderr is no terminal, a line every two seconds.

    total: bytes expected in all; without it their number is only counted.
    """
    console = Console(stderr=True)
    with _show_bar(doing, total, console) if console.is_terminal else _say_lines(doing, total) as advance:
        yield advance


@contextmanager
def _say_lines(doing: str, total: int | None) -> Iterator[Advance]:
    done = 0
    with saying(doing) as work:

        def advance(size: int) -> None:
            nonlocal done
            done += size
            work.done = f"{done / 1e6:,.1f}{f' of {total / 1e6:,.1f}' if total else ''} MB"

        yield advance


@contextmanager
def _show_bar(doing: str, total: int | None, console: Console) -> Iterator[Advance]:
    columns = [TextColumn(doing), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(doing, total=total or None)
    appears = time.monotonic() + DELAY

    def advance(size: int) -> None:
        bar.advance(task, size)
        if not bar.live.is_started and time.monotonic() > appears:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
