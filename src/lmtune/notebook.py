"""What a notebook shows: the words of a command while it runs, in one output that is brought up to date, and pages inline.

IPython is not needed: outside a kernel nothing of this does anything.
"""

import html
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("lmtune")

MOST_LINES = 100
"""Most lines of one output: a notebook is kept and mailed, and train.log holds all of them."""
EVERY = 0.2
"""Seconds between two updates."""
HEIGHT = 640
"""Height of a page, in pixels."""


def is_notebook() -> bool:
    """True in a kernel of Jupyter, whose front end displays what it is sent."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


@contextmanager
def saying() -> Iterator[None]:
    """Show what is said in here below the cell, unless the user has set up logging, which shows it already."""
    if not is_notebook() or (logger.isEnabledFor(logging.INFO) and logger.hasHandlers()):
        yield
        return
    output = _Output()
    before = logger.level, logger.propagate
    logger.addHandler(output)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # some notebooks come with a handler of warnings on the root logger
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "IProgress not found"
            )  # tqdm would have ipywidgets, for bars that are off
            yield
    finally:
        logger.removeHandler(output)
        logger.level, logger.propagate = before
        output.close()


def show_page(page: str) -> None:
    """Show an HTML page below the cell, in a frame of its own, so that its style stays inside."""
    from IPython.display import display

    frame = f'style="width: 100%; border: 0" height="{HEIGHT}" srcdoc="{html.escape(page)}"'
    display({"text/plain": "the report, as a page", "text/html": f"<iframe {frame}></iframe>"}, raw=True)


class _Output(logging.Handler):
    """One output of a cell, with the last lines that were said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.shown = 0.0
        self.display: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        self.lines = [*self.lines, *record.getMessage().splitlines()][-MOST_LINES:]
        if time.monotonic() - self.shown >= EVERY:
            self._show()

    def close(self) -> None:
        self._show()
        super().close()

    def _show(self) -> None:
        from IPython.display import display

        self.shown = time.monotonic()
        text = "\n".join(self.lines)
        bundle = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        if self.display is None:
            self.display = display(bundle, raw=True, display_id=True)
        else:
            self.display.update(bundle, raw=True)
