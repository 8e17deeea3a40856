"""A signal that asks the process to stop, and that it is not forgotten.

A handler can only raise where the program happens to be. In a `__del__` or a callback of a library what it raises is swallowed; so
the signal is noted too, and looked for at the next safe place.
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
    """Have the signals that stop a command end it in an orderly way, but for those that are ignored (nohup)."""
    forget()
    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, request)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def leave() -> None:
    """The command has come to its end: from now on a signal ends the process itself, which has nothing left to put in order."""
    for number in (*STOPPING, signal.SIGINT):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def pass_over_simultaneous(number: int, handled: Collection[int]) -> None:
    """Let signals that came in the same instant as one that is being handled go by: together they ask for one stop.

    Python has noted them by then. It would call their handlers as soon as that of the first returns, in the middle of what
    this has begun, and prints an OSError of its own for each whose handler is no function any more.
    handled: the signals that stop the process, with handlers in Python; where `number` is not among them, nothing is done.
    Called inside a handler.
    """
    if number not in handled:
        return
    before = {each: signal.signal(each, _pass_over) for each in handled}
    signal.raise_signal(number)  # makes Python look at once at all that it has noted
    for each, handler in before.items():
        signal.signal(each, handler)


def request(number: int, frame: FrameType | None) -> NoReturn:
    """A signal's handler: note it, and raise Stopped."""
    _note(number)
    raise Stopped(number, step=0)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """The handler of Ctrl-C: note it, and raise KeyboardInterrupt as Python's own does."""
    _note(number)
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


def _note(number: int) -> None:
    _requested.append(number)
    own = [each for each in (*STOPPING, signal.SIGINT) if signal.getsignal(each) in (request, interrupt)]
    pass_over_simultaneous(number, own)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing; SIG_IGN is none in Python's eyes."""
