"""How long the rest of a training takes, from the steps and the pauses between them that have been timed. No clock is read here."""

import statistics
from collections import deque
from dataclasses import dataclass, field

from lmtune.training.foresight import Course
from lmtune.units import render_duration

LONG = 3600.0
"""Seconds to the end beyond which a run of FITTING seconds is suggested."""
FITTING = 1200.0
RECENT = 50
"""Steps whose times count."""
CROWDED = 0.7
"""Share of the processors' time that a training on idle ones gets, at least; with less, its threads wait for each other."""


@dataclass
class Outlook:
    """Times of a training so far, in seconds."""

    course: Course
    final_share: float = 1.0
    """How much more text is scored at the end than in each evaluation."""
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Seconds of the latest steps."""
    evaluation: float = 0.0
    """Seconds of the last pause in which something was scored, with what was sampled and saved in it."""
    evaluations_done: int = 0

    @property
    def step(self) -> float:
        """Median seconds of the recent steps; 0 before any has been timed."""
        return statistics.median(self.recent) if self.recent else 0.0

    def estimate_left(self, step: int) -> float:
        """Seconds to the end of the run, its final scoring included."""
        evaluations = max(0, self.course.evaluations - self.evaluations_done)
        return (self.course.steps - step) * self.step + evaluations * self.evaluation + self._final

    def find_fitting(self) -> int:
        """Steps of a run that takes FITTING seconds, evaluations and all; 0 where these alone take longer."""
        fixed = self.course.evaluations * self.evaluation + self._final
        return max(0, int((FITTING - fixed) / self.step)) if self.step else 0

    @property
    def _final(self) -> float:
        return self.final_share * self.evaluation


def render_outlook(outlook: Outlook, step: int, until: str) -> str:
    """The time to the end in words. until: the time of day at which that is."""
    pauses = f", {render_seconds(outlook.evaluation)} an evaluation" if outlook.evaluation else ""
    left = render_long(outlook.estimate_left(step))
    return f"time: about {left} to the end, {until} ({render_seconds(outlook.step)} a step{pauses})"


def render_remedy(outlook: Outlook) -> str:
    """What would take less time, for a training that takes long."""
    fitting, safe = outlook.find_fitting(), "Ctrl-C is safe: it saves a checkpoint to go on from"
    if fitting:
        return f"training.max_steps={fitting} would take about {render_duration(FITTING)}. {safe}."
    return (
        f"The evaluations alone take longer than {render_duration(FITTING)}: eval.max_tokens= with less, or "
        f"training.eval_steps= further apart, shortens them. {safe}."
    )


def render_long(seconds: float) -> str:
    """As render_duration, in days from the second one on."""
    return f"{seconds / 86400:.1f} days" if seconds > 2 * 86400 else render_duration(seconds)


def render_seconds(seconds: float) -> str:
    """`0.24 s`, `12 s`."""
    return f"{seconds:.2g} s" if seconds < 10 else render_long(seconds)


def find_crowding(cpu: float, wall: float, threads: int, load: float, processors: int) -> str | None:
    """What to say where threads wait for each other because others use the processors; None where nothing says so.

    cpu, wall: seconds that some steps took, of all threads and by the clock. load: of the machine, in processes that want to run.
    """
    wanted = min(threads, processors)
    if threads < 2 or load <= processors + wanted / 2 or cpu >= CROWDED * wanted * wall:
        return None
    return (
        f"other programs use these processors (load {load:.1f} on {processors}): {threads} threads got the time of "
        f"{cpu / wall:.1f}, and wait for each other. OMP_NUM_THREADS=1 before the command may well make a new run faster."
    )
