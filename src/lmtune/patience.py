"""Progress of long work: displayed on a terminal; in a log, a line within two seconds, and then ever more rarely.

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
"""Seconds without a line before progress is logged; half of the time that the work has taken so far, if that is more."""
LONG_SILENCE = 10.0
"""Upper limit of these seconds."""
PAUSE = 0.5
"""Longest pause in seconds between two works that count as one, whose silences add up."""
TICK = 0.1
"""Seconds between two updates."""
BAR, WIDE = 20, 100
"""Characters of a bar, in lines of at least WIDE columns."""


class Work:
    """A task in progress.

    total: the amount to do, in the unit of `advance`; None if unknown.
    """

    stays = False
    """Stays on display while a nested work runs, which is then logged less often."""
    speaks = True
    """Its progress is logged."""
    first_word = SILENCE
    """Seconds until it is first logged, if nothing was in progress before."""

    def __init__(self, doing: str, total: float | None = None, unit: Unit | None = None) -> None:
        self.doing = doing
        self.total = total
        self.unit = unit or TOKENS
        self.count = 0.0
        self.measure: Callable[[], float] | None = None
        """Measures how much has been done, if nobody calls `advance`."""
        self.done = ""
        """How much has been done, in words, if it is not counted."""
        self.begun = time.monotonic()

    def advance(self, amount: float) -> None:
        """Add to the amount done."""
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
        """The rate, and the time left if known."""
        if not self.count or seconds < 1:
            return []
        rate = self.count / seconds
        left = [f"{render_duration(max(0.0, self.total - self.count) / rate)} left"] if self.total else []
        return [f"{self.unit.render(rate)} {self.unit.name}/s", *left]


class Watch:
    """Reports progress from a thread, as long as any work is going on."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._guard = threading.Lock()
        self._ends = threading.Event()
        self._last_word = self._left = time.monotonic()

    def begin(self, work: Work) -> None:
        """Start reporting a work."""
        with self._guard:
            if not self._works:
                if work.begun - self._left > PAUSE:
                    self._last_word = work.begun - SILENCE + work.first_word
                self._ends = threading.Event()
                threading.Thread(target=self._speak, args=(self._ends,), daemon=True).start()
            self._works.append(work)

    def end(self, work: Work) -> None:
        """Stop reporting a work that is done or abandoned."""
        with self._guard:
            if work in self._works:
                self._works.remove(work)
            if not self._works:
                self._left = time.monotonic()
                self._ends.set()
                self._clear()

    def turn_to(self, doing: str) -> None:
        """Set what the command is doing, which is reported while none of its works is."""
        with self._guard:
            if self._works and isinstance(self._works[0], CommandWork):
                self._works[0].turn_to(doing)

    def rest(self) -> None:
        """Stop reporting the command: it waits for the user from now on."""
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
    """A command of the command line, reported while none of its works is."""

    first_word = 0.7

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.turn_to("starting")

    def turn_to(self, doing: str) -> None:
        """Set what it is doing."""
        self.doing = f"{self.name}: {doing}"


_watch = Watch()
turn_to, rest = _watch.turn_to, _watch.rest


@contextmanager
def doing(work: Work) -> Iterator[Work]:
    """Report a work until the context ends."""
    try:
        _watch.begin(work)
        yield work
    finally:
        _watch.end(work)


@contextmanager
def saying(words: str, total: float | None = None, unit: Unit | None = None) -> Iterator[Work]:
    """Report what is being done until the context ends. Yields the work, whose `advance` takes the amount done."""
    with doing(Work(words, total, unit)) as work:
        yield work
