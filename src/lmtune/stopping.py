"""Signals that ask the process to stop, recorded so that none is lost.

A handler raises wherever the program happens to be. In a `__del__` or a library's callback the exception is swallowed; so
the signal is recorded too, and checked at the next safe place.
"""

import signal
from collections.abc import Callable, Collection
from types import FrameType
from typing import NoReturn

from lmtune.errors import Stopped

Handler = Callable[[int, FrameType | None], object] | int | None
"""What signal.signal takes and returns."""

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals that end a command in an orderly way; SLURM can be asked for the second before it ends a job."""

_requested: list[int] = []


def listen() -> None:
    """Install handlers by which signals end a command in an orderly way, except for ignored signals (nohup)."""
    forget()
    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, request)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def leave() -> None:
    """After the end of a command: let signals end the process, which has nothing left to put in order."""
    for number in (*STOPPING, signal.SIGINT):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def pass_over_simultaneous(number: int, handled: Collection[int]) -> None:
    """Ignore signals that arrived at the same instant as the one being handled: together they ask for one stop.

    Python has recorded them by then. It would call their handlers as soon as the first one returns, in the middle of the stop, and
    prints an OSError for each whose handler is no longer a function.
    handled: the signals that stop the process and have handlers in Python; if `number` is not among them, nothing is done.
    To be called inside a handler.
    """
    if number not in handled:
        return
    before = {each: signal.signal(each, _pass_over) for each in handled}
    signal.raise_signal(number)  # makes Python look at once at all that it has noted
    for each, handler in before.items():
        signal.signal(each, handler)


def request(number: int, frame: FrameType | None) -> NoReturn:
    """Signal handler: record the signal and raise Stopped."""
    _note(number)
    raise Stopped(number, step=0)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Handler of Ctrl-C: record it and raise KeyboardInterrupt, as Python's own does."""
    _note(number)
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


def _note(number: int) -> None:
    _requested.append(number)
    own = [each for each in (*STOPPING, signal.SIGINT) if signal.getsignal(each) in (request, interrupt)]
    pass_over_simultaneous(number, own)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing. SIG_IGN does not count as a handler in Python."""
