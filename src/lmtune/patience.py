"""Progress of long work: a terminal shows it throughout, a log gets a line within two seconds, then ever more rarely.

with saying("encoding", total=size, unit=MEGABYTES) as work:
    work.advance(1000)
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lmtune import console
from lmtune.gauges import FINE, TOKENS, Glyphs, Unit, join_fitting, render_bar, render_clock, render_moving_bar
from lmtune.units import render_duration

logger = logging.getLogger(__name__)

SILENCE = 1.8
"""Seconds without a word before one is said; half of what a work has taken so far, where that is more."""
LONG_SILENCE = 10.0
"""The most of them."""
PAUSE = 0.5
"""Seconds between two works that count as one, whose silences add up."""
TICK = 0.1
"""Seconds from one look at the works to the next."""
BAR, WIDE = 20, 100
"""Characters of a bar, in lines of so many."""


class Work:
    """Something that is being done.

    total: how much there is to do, in what is counted by `advance`; None where that is not known.
    """

    stays = False
    """Shown also while a work within it is, of which a log then is told less often."""
    speaks = True
    """Told in a log."""
    first_word = SILENCE
    """Seconds until it is told there for the first time, where nothing was being done before."""

    def __init__(self, doing: str, total: float | None = None, unit: Unit | None = None) -> None:
        self.doing = doing
        self.total = total
        self.unit = unit or TOKENS
        self.count = 0.0
        self.measure: Callable[[], float] | None = None
        """Finds out how much has been done, where nobody counts it."""
        self.done = ""
        """How much of it, in words, where it is not counted."""
        self.begun = time.monotonic()

    def advance(self, amount: float) -> None:
        """So much more has been done."""
        self.count += amount

    def look(self) -> None:
        """Bring `count` up to date."""
        if self.measure is not None:
            self.count = self.measure()

    def render(self) -> str:
        """A line for a log: what is being done, how much of it, and for how long."""
        self.look()
        seconds = time.monotonic() - self.begun
        return f"{self.doing}: {', '.join([*self._render_amount(), f'{seconds:.0f} s', *self._render_pace(seconds)])}"

    def render_lines(self, width: int, now: float, glyphs: Glyphs = FINE) -> list[str]:
        """The same for a terminal, with a bar, in lines of at most `width` columns."""
        self.look()
        seconds = now - self.begun
        percent = [f"{min(1.0, self.count / self.total):4.0%}"] if self.total else []
        pace = self._render_pace(seconds)
        parts = [*percent, render_clock(seconds), *pace[-1:], *self._render_amount(), *pace[:-1]]
        space = BAR if width >= WIDE else BAR * 3 // 5
        label = self.doing.ljust(space)
        bar = (
            render_bar(self.count / self.total, space, glyphs)
            if self.total
            else render_moving_bar(seconds, space, glyphs)
        )
        return [join_fitting([f"{label} {bar}", *parts], width)]

    def _render_amount(self) -> list[str]:
        if self.done:
            return [self.done]
        return [self.unit.render_part(self.count, self.total)] if self.count or self.total else []

    def _render_pace(self, seconds: float) -> list[str]:
        """The rate, and the time left where that is known."""
        if not self.count or seconds < 1:
            return []
        rate = self.count / seconds
        left = [f"{render_duration(max(0.0, self.total - self.count) / rate)} left"] if self.total else []
        return [f"{self.unit.render(rate)} {self.unit.name}/s", *left]


class Watch:
    """A thread that speaks for the works that are being done, while there are any."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._guard = threading.Lock()
        self._ends = threading.Event()
        self._last_word = self._left = time.monotonic()

    def begin(self, work: Work) -> None:
        """Take note of a work."""
        with self._guard:
            if not self._works:
                if work.begun - self._left > PAUSE:
                    self._last_word = work.begun - SILENCE + work.first_word
                self._ends = threading.Event()
                threading.Thread(target=self._speak, args=(self._ends,), daemon=True).start()
            self._works.append(work)

    def end(self, work: Work) -> None:
        """The work is done, or given up."""
        with self._guard:
            if work in self._works:
                self._works.remove(work)
            if not self._works:
                self._left = time.monotonic()
                self._ends.set()
                self._clear()

    def turn_to(self, doing: str) -> None:
        """Say what the command is doing while none of its works is named."""
        with self._guard:
            if self._works and isinstance(self._works[0], CommandWork):
                self._works[0].turn_to(doing)

    def rest(self) -> None:
        """The command waits for people from now on, which is no work."""
        with self._guard:
            command = next((work for work in self._works if isinstance(work, CommandWork)), None)
        if command is not None:
            self.end(command)

    def _speak(self, ends: threading.Event) -> None:
        while not ends.wait(TICK):
            with self._guard:
                if ends.is_set():
                    return
                screen = console.find_screen()
                if screen is not None:
                    screen.paint(self._render(screen.width, screen.glyphs))
                    continue
                work, patient = self._works[-1], any(each.stays for each in self._works)
            self._say(work, LONG_SILENCE if patient else SILENCE)

    def _render(self, width: int, glyphs: Glyphs) -> list[str]:
        now = time.monotonic()
        shown = [work for work in self._works[:-1] if work.stays] + self._works[-1:]
        return [line for work in shown for line in work.render_lines(width, now, glyphs)]

    def _say(self, work: Work, silence: float) -> None:
        now = time.monotonic()
        silence = max(silence, min(LONG_SILENCE, (now - work.begun) / 2))
        if work.speaks and now - max(self._last_word, console.last_word()) > silence:
            self._last_word = now
            console.log_progress(logger, work.render())

    def _clear(self) -> None:
        screen = console.find_screen()
        if screen is not None:
            screen.paint([])


class CommandWork(Work):
    """A command of the command line, shown while none of its works is."""

    first_word = 0.7

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.turn_to("starting")

    def turn_to(self, doing: str) -> None:
        """Change the words for what is being done."""
        self.doing = f"{self.name}: {doing}"


_watch = Watch()
turn_to, rest = _watch.turn_to, _watch.rest


@contextmanager
def doing(work: Work) -> Iterator[Work]:
    """Show a work, or tell of it, until it is done."""
    try:
        _watch.begin(work)
        yield work
    finally:
        _watch.end(work)


@contextmanager
def saying(words: str, total: float | None = None, unit: Unit | None = None) -> Iterator[Work]:
    """Say what is being done, whenever nothing of it has been said for a while. What it yields is told how much."""
    with doing(Work(words, total, unit)) as work:
        yield work
