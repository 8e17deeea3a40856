"""The bottom lines of a terminal, repainted in place, while everything else is written above them."""

import os
import threading
from collections.abc import Callable
from typing import Protocol

from lmtune.gauges import Glyphs, choose_glyphs, cut_to

USUAL_WIDTH = 80


class Terminal(Protocol):
    """A stream that a Screen paints on."""

    @property
    def encoding(self) -> str: ...

    def fileno(self) -> int: ...

    def write_plain(self, text: str) -> None: ...

    def flush(self) -> None: ...


class Screen:
    """The bottom of a terminal.

    Text written through `above` pushes it down; while that text ends in the middle of a line, nothing is painted. A forked
    process writes without repainting.
    """

    def __init__(self, stream: Terminal) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._in_line = False
        """True while the cursor is in an unfinished line of other output."""
        self._guard = threading.RLock()
        self._process = os.getpid()
        self.glyphs: Glyphs = choose_glyphs(stream.encoding)

    @property
    def width(self) -> int:
        """Columns that a line may take: one less than there are, since a full line would wrap."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return (columns or USUAL_WIDTH) - 1

    def paint(self, lines: list[str]) -> None:
        """Replace the painted lines by these."""
        width = self.width
        with self._guard:
            before, self._lines = self._lines, [cut_to(line, width) for line in lines]
            if not self._in_line:
                fewer = len(before) - len(self._lines)
                self._send(_go_up(before) + (_erase(before) if fewer > 0 else "") + self._draw())

    def above(self, text: str, write: Callable[[str], None] | None = None) -> None:
        """Write a text with `write`, or on the terminal, and keep the painted lines below it."""
        if os.getpid() != self._process:
            (write or self._send)(text)
            return
        with self._guard:
            if self._lines and not self._in_line:
                self._send(_go_up(self._lines) + _erase(self._lines))
            (write or self._send)(text)
            if text:
                self._in_line = not text.endswith(("\n", "\r"))
            if self._lines and not self._in_line:
                self._send(self._draw())

    def _draw(self) -> str:
        return "\n".join(f"{line}\x1b[K" for line in self._lines)

    def _send(self, text: str) -> None:
        self._stream.write_plain(text)
        self._stream.flush()


def _erase(lines: list[str]) -> str:
    """Codes that clear the lines and return to the start of the first. Nothing was ever written below them."""
    return "\n".join("\x1b[K" for _ in lines) + _go_up(lines)


def _go_up(lines: list[str]) -> str:
    """Codes that move the cursor up to the start of the first line."""
    return f"\x1b[{len(lines) - 1}A\r" if len(lines) > 1 else "\r"
