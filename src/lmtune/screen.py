"""The last lines of a terminal, painted over and over, while everything else is written above them."""

import os
import threading
from collections.abc import Callable
from typing import Protocol

from lmtune.gauges import Glyphs, choose_glyphs, cut_to

USUAL_WIDTH = 80


class Terminal(Protocol):
    """A terminal to draw on."""

    @property
    def encoding(self) -> str: ...

    def fileno(self) -> int: ...

    def write_plain(self, text: str) -> None: ...

    def flush(self) -> None: ...


class Screen:
    """The bottom of a terminal.

    What is written through `above` pushes it down; while that stands in the middle of a line, nothing is painted. A process
    that was forked from this one writes past it.
    """

    def __init__(self, stream: Terminal) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._in_line = False
        """The cursor stands in a line that somebody else has begun."""
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
        """Show these lines in place of those before."""
        width = self.width
        with self._guard:
            before, self._lines = self._lines, [cut_to(line, width) for line in lines]
            if not self._in_line:
                fewer = len(before) - len(self._lines)
                self._send(_go_up(before) + (_erase(before) if fewer > 0 else "") + self._draw())

    def above(self, text: str, write: Callable[[str], None] | None = None) -> None:
        """Have a text written by `write`, or on the terminal, with the painted lines below it."""
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
    """Blank them, from the beginning of the first one and back to it. What lies below was never written on."""
    return "\n".join("\x1b[K" for _ in lines) + _go_up(lines)


def _go_up(lines: list[str]) -> str:
    """The control sequence that moves the cursor to the beginning of the first of these lines."""
    return f"\x1b[{len(lines) - 1}A\r" if len(lines) > 1 else "\r"
