"""Work that takes long is not silent: what is being done is said within two seconds, and again while it goes on.

with saying("learning a vocabulary"):
    ...
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

SILENCE = 1.8
"""Seconds without a word before one is said."""
LONG_SILENCE = 10.0
"""The same once a work has taken a minute."""
MINUTE = 60.0
PAUSE = 0.5
"""Seconds between two works that count as one, whose silences add up."""


class Work:
    """Something that is being done."""

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self.done = ""
        """How much of it, in words, where that is known."""
        self.begun = time.monotonic()

    def render(self) -> str:
        """What is being done, how much of it, and for how long."""
        seconds = time.monotonic() - self.begun
        return f"{self.doing}: {self.done + ', ' if self.done else ''}{seconds:.0f} s"


class Watch:
    """A thread that speaks for the work begun last, while there is any."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._guard = threading.Lock()
        self._ends = threading.Event()
        self._last_word = self._left = time.monotonic()

    def begin(self, doing: str) -> Work:
        """Take note of a work."""
        work = Work(doing)
        with self._guard:
            if not self._works:
                if work.begun - self._left > PAUSE:
                    self._last_word = work.begun
                self._ends = threading.Event()
                threading.Thread(target=self._speak, args=(self._ends,), daemon=True).start()
            self._works.append(work)
        return work

    def end(self, work: Work) -> None:
        """The work is done, or given up."""
        with self._guard:
            self._works.remove(work)
            if not self._works:
                self._left = time.monotonic()
                self._ends.set()

    def _speak(self, ends: threading.Event) -> None:
        while not ends.wait(0.1):
            with self._guard:
                work = self._works[-1] if self._works else None
            if work is None:
                return
            now = time.monotonic()
            silence = LONG_SILENCE if now - work.begun > MINUTE else SILENCE
            if now - self._last_word > silence:
                self._last_word = now
                logger.info(work.render())


_watch = Watch()


@contextmanager
def saying(doing: str) -> Iterator[Work]:
    """Say what is being done, whenever nothing of it has been said for a while. `done` of what it yields says how much."""
    work = _watch.begin(doing)
    try:
        yield work
    finally:
        _watch.end(work)
