"""A signal that asks the process to stop, and that it is not forgotten.

A handler can only raise where the program happens to be. In a `__del__` or a callback of a library what it raises is swallowed; so
the signal is noted too, and looked for at the next safe place.
"""

import signal
from types import FrameType
from typing import NoReturn

from lmtune.errors import Stopped

_requested: list[int] = []


def request(number: int, frame: FrameType | None) -> NoReturn:
    """A signal's handler: note it, and raise Stopped."""
    _requested.append(number)
    raise Stopped(number, step=0)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """The handler of Ctrl-C: note it, and raise KeyboardInterrupt as Python's own does."""
    _requested.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raise what was asked for before: Stopped, or KeyboardInterrupt."""
    if _requested[-1:] == [signal.SIGINT]:
        raise KeyboardInterrupt
    if _requested:
        raise Stopped(_requested[-1], step=0)


def forget() -> None:
    """Begin anew: a command of this process has come to its end."""
    _requested.clear()
