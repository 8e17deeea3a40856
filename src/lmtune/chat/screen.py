"""Input and output of a chat: a terminal, or lines from a file and texts to one."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmtune.errors import ConfigError, DataError, one_line
from lmtune.gauges import make_harmless

PROMPT = "> "
NARROWEST = 40
"""Minimum width of a column, in characters; with less, texts are shown one below the other."""
BOLD, PLAIN = "\033[1m", "\033[0m"


class Screen:
    """Reads prompts and shows texts. stdout: the stream for results."""

    def __init__(self, stdout: IO[str]) -> None:
        self._stdout = stdout
        self.interactive = sys.stdin is not None and sys.stdin.isatty()
        """True if a person types the lines, and can correct mistakes."""
        self.live = self.interactive and sys.__stdout__ is not None and sys.__stdout__.isatty()
        """True if texts are shown in the terminal where they are typed."""

    def read_lines(self) -> Iterator[str]:
        """The typed lines, until the end of input. Raises DataError for bytes that do not decode in the stream's encoding."""
        if sys.stdin is None:
            raise ConfigError(
                "lmtune chat reads prompts from stdin, found it closed. Type them, or give a file: < prompts.txt."
            )
        if self.live:
            with suppress(ImportError):  # Python built without readline: no history
                import readline  # noqa: F401  input() edits lines with it
        while True:
            try:
                yield self._read_line()
            except EOFError:
                return
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                self.end_line()  # abandons the line, as in a shell

    def show(self, text: str) -> None:
        """Show a text, followed by an empty line."""
        self._stdout.write(f"{make_harmless(text) if self.live else text}\n\n")

    def show_beside(self, texts: Mapping[str, str]) -> None:
        """Show texts of several checkpoints under their names: in columns, if the terminal is wide enough."""
        width = shutil.get_terminal_size().columns
        if self.live and width // len(texts) >= NARROWEST:
            self._stdout.write(
                render_columns({name: make_harmless(text) for name, text in texts.items()}, width) + "\n"
            )
            return
        for name, text in texts.items():
            self.show(f"== {name} ==\n\n{text}")

    def open_text(self, prompt: str) -> None:
        """Show the prompt of a text whose continuation is streamed."""
        self._stdout.write(f"{BOLD}{make_harmless(prompt)}{PLAIN}")

    def add(self, piece: str) -> None:
        """Show a piece of a text."""
        self._stdout.write(make_harmless(piece))

    def end_text(self) -> None:
        """End a text, complete or interrupted."""
        self._stdout.write("\n\n")

    def end_line(self) -> None:
        """End a line that may have been begun."""
        self._stdout.write("\n")

    def _read_line(self) -> str:
        if self.live:
            with redirect_stdout(sys.__stdout__):  # input() edits lines only on the terminal itself
                return input(PROMPT)
        if self.interactive:
            sys.stderr.write(PROMPT)
            sys.stderr.flush()
        try:
            line = sys.stdin.readline()
        except UnicodeError as error:
            raise DataError(
                f"stdin: expected prompts in {sys.stdin.encoding}, found other bytes ({one_line(error)}). Convert them first."
            ) from error
        if not line:
            raise EOFError
        return line.removesuffix("\n").removesuffix("\r")


def render_columns(texts: Mapping[str, str], width: int) -> str:
    """Texts side by side, each wrapped to its share of the width, their names above."""
    table = Table.grid(padding=(0, 2), expand=True)
    for _ in texts:
        table.add_column(ratio=1, overflow="fold")
    table.add_row(*(Text(name, style="bold") for name in texts))
    table.add_row(*map(Text, texts.values()))
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"
