"""What lmtune says to people, and the streams it goes through: words that cannot be delivered never end a run.

    logger = logging.getLogger(__name__)
    logger.info("resuming from checkpoint-40")

Everything below the logger `lmtune` reaches stderr as plain lines, from rank 0 alone, above what is painted at the bottom
of a terminal (`screen.py`). Results go to stdout, whose failures are told to the caller.
"""

import codecs
import io
import logging
import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO, cast

from lmtune.errors import OutputError
from lmtune.screen import Screen

logger = logging.getLogger("lmtune")

_lent: list[Any] = []
"""Streams for results, the one in force last."""
_screens: list[Screen | None] = []
"""Terminals that are painted on, the one in force last; None where stderr is no terminal."""

WIDEST = 100
"""Characters of a line of prose."""

ESCAPES = "lmtune-escapes"
"""Name of the error handler that writes what an encoding lacks as `\\uXXXX`, which JSON reads back."""


@contextmanager
def speaking(*, paints: bool = True) -> Iterator[IO[str]]:
    """Say what is logged on stderr, and lend out stdout for results; what libraries print meanwhile goes to stderr too.

    paints: show how far work is at the bottom of stderr, where that is a terminal.
    """
    _open_descriptors()
    codecs.register_error(ESCAPES, _escape)
    outer = sys.stdout, sys.stderr
    words: Any = WordStream(sys.stderr)
    words.screen = screen = open_screen(words) if paints else None
    results: Any = ResultStream(sys.stdout, screen)
    _lent.append(results)
    handler = _Handler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries put handlers of their own on the root logger
    sys.stdout, sys.stderr = words, words
    _screens.append(screen)
    try:
        yield results
    finally:
        _screens.pop()
        _lent.pop()
        sys.stdout, sys.stderr = outer
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


@contextmanager
def lend_results() -> Iterator[IO[str]]:
    """The stream for results, in a process that a launcher has started for a job as well."""
    if _lent:
        yield _lent[-1]
    else:
        with speaking(paints=False) as results:  # others of its kind share the terminal
            yield results


@contextmanager
def painting() -> Iterator[None]:
    """Show how far work is at the bottom of stderr, where that is a terminal, in a program that logs by itself."""
    outer, words = sys.stderr, WordStream(sys.stderr)
    words.screen = open_screen(words)
    if words.screen is None:
        yield
        return
    sys.stderr = cast("TextIO", words)
    _screens.append(words.screen)
    try:
        yield
    finally:
        _screens.pop()
        sys.stderr = outer


@contextmanager
def compiled_code_aside() -> Iterator[None]:
    """What compiled code prints on stdout goes to stderr in here: gloo of torch 2.8 says whom it is connected to."""
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def open_screen(words: "WordStream") -> Screen | None:
    """The terminal that people look at; None where stderr is none that can be painted on, and for ranks that do not speak."""
    paints = words.isatty() and os.environ.get("TERM", "dumb") != "dumb" and is_first_process()
    return Screen(words) if paints else None


def find_screen() -> Screen | None:
    """The terminal in force, None where lines are written instead."""
    return _screens[-1] if _screens else None


def log_progress(teller: logging.Logger, text: str, *, painted: bool = True) -> None:
    """Say how far a work is, with the time of day in a log. painted: a terminal shows it anyway, so only train.log is told."""
    teller.info("%s", text, extra={"painted": painted})


def last_word() -> float:
    """When the last line was said, in seconds of time.monotonic()."""
    return max((each.last_word for each in logger.handlers if isinstance(each, _Handler)), default=-math.inf)


class WordStream(io.TextIOBase):
    """A stream for people: a reader that has gone, a full disk or an encoding that lacks a letter make it silent."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = _tolerant(stream, "backslashreplace")
        self.screen: Screen | None = None
        """Whose painted lines stay below what is written."""

    def write(self, text: str) -> int:
        """Write what can be written; always the whole text as far as the caller knows."""
        if self.screen is None:
            self.write_plain(text)
        else:
            self.screen.above(text)
        return len(text)

    def write_plain(self, text: str) -> None:
        """The same, whatever is painted."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        """True for a terminal that is still there."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """The descriptor below; raise io.UnsupportedOperation where there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation("no descriptor: the stream was closed when the process began")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property here, an attribute there
        """The encoding of the stream below."""
        return getattr(self._stream, "encoding", None) or "utf-8"


class ResultStream(io.TextIOBase):
    """stdout: a result that cannot be written raises OutputError, or BrokenPipeError where its reader has gone."""

    def __init__(self, stream: IO[str] | None, screen: Screen | None = None) -> None:
        self._stream = _tolerant(stream, ESCAPES)
        self._screen = screen

    def write(self, text: str) -> int:
        """Write and flush all of it. A stdout that was closed from the start takes anything."""
        if self._screen is not None and self._stream is not None and self._stream.isatty():
            self._screen.above(text, self._write)
        elif self._stream is not None:
            self._write(text)
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._discard()
            raise
        except (OSError, ValueError) as error:
            self._discard()
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(
                f"The result could not be written to stdout: {reason}. All else is done: a run folder, where there is one, "
                "holds it; otherwise run the command again with a stdout that takes it."
            ) from error

    def writable(self) -> bool:
        return True

    def _discard(self) -> None:
        """Let what is left in the buffer go nowhere: at the end of the process, Python would try to write it once more."""
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class _Handler(logging.Handler):
    """Prints messages as they are; lines on progress with the time of day, where no terminal shows how far the work is."""

    last_word = -math.inf
    """When it printed last, in seconds of time.monotonic()."""

    def emit(self, record: logging.LogRecord) -> None:
        if not is_first_process():
            return
        text, screen = record.getMessage(), find_screen()
        painted: bool | None = getattr(record, "painted", None)
        if screen is None and painted is not None:
            text = f"{time.strftime('%H:%M:%S')}  {text}"
        elif screen is not None:
            if painted:
                return
            text = "\n".join(fold(text, screen.width))
        self.last_word = time.monotonic()
        _write_line(text)


class QuietFileHandler(logging.FileHandler):
    """A log file whose disk may fill up: what cannot be written is left out, and the first time that is said."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8", errors="backslashreplace")
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name that logging calls
        """Called inside `except`."""
        if not self._failed:
            self._failed = True
            _write_line(f"{Path(self.baseFilename).name} could not be written: {sys.exc_info()[1]}")


def fold(text: str, width: int) -> list[str]:
    """A line of prose in lines of `width` characters; a command to be typed stays whole, so that it can be copied."""
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    if len(text) <= width or "\n" in text or "  lmtune " in text:
        return [text]
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False, drop_whitespace=True
    )


def wrap(text: str, label: str = "") -> list[str]:
    """A text in lines as wide as the terminal, at most [WIDEST] characters, set off behind a label."""
    width = min(WIDEST, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)


def is_first_process() -> bool:
    """True for rank 0, which speaks for all."""
    return os.environ.get("RANK", "0") in ("", "0")


def _write_line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _tolerant(stream: IO[str] | None, errors: str) -> Any:
    """The stream, so that letters its encoding lacks (in UTF-8: halves of surrogate pairs) are written otherwise."""
    if isinstance(stream, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)
    return stream


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[place : place + 2].hex() for place in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end


def _open_descriptors() -> None:
    """Have descriptors 0 to 2 open: the next file that is opened would otherwise become stdout or stderr."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
