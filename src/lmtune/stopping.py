"""Signals that ask the process to stop, recorded so that none is lost.

A handler raises wherever the program happens to be. In a `__del__` or a library's callback the exception is swallowed; so
the signal is recorded too, and checked at the next safe place.
"""

import signal
from types import FrameType
from typing import NoReturn

from lmtune.errors import Stopped

_requested: list[int] = []


def request(number: int, frame: FrameType | None) -> NoReturn:
    """Signal handler: record the signal and raise Stopped."""
    _requested.append(number)
    raise Stopped(number, step=0)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Handler of Ctrl-C: record it and raise KeyboardInterrupt, as Python's own does."""
    _requested.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raise Stopped or KeyboardInterrupt if a signal was recorded."""
    if _requested[-1:] == [signal.SIGINT]:
        raise KeyboardInterrupt
    if _requested:
        raise Stopped(_requested[-1], step=0)


def forget() -> None:
    """Clear the record, after a command of this process has ended."""
    _requested.clear()
