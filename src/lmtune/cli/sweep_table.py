"""What a terminal shows of a sweep while it runs: a bar for all jobs, and a line for each that is running.

sweep        ━━━╌╌╌╌╌╌╌╌╌   25%  12:05  2 of 8 jobs  1 failed
  job 3  seed=3, learning_rate=0.001  120/240  4:10  bits per byte 2.5524 at step 108
"""

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lmtune.gauges import FINE, Glyphs, Unit, cut_to, join_fitting, measure_width, render_clock
from lmtune.patience import Work
from lmtune.runs import Run

MOST_LINES = 12
"""Jobs that have a line; of those that run besides them their number is told."""
LOOK = 2.0
"""Seconds between two looks into a run folder."""
NUMBERS = 56
"""Columns for what stands behind a job's name, where the name would take them."""
SHORTEST = 24
"""Columns that a name has at least when it is cut."""
GROUPS = re.compile(r"(?:^|(?<=, ))[\w.]+\.(?=\w+=)")
"""The sections of a key, before its last name."""
SCORE = "eval_bits_per_byte"


class JobLine:
    """A running job, as its run folder tells of it. own: the overrides that no other job has."""

    def __init__(self, number: int, own: str, folder: Path) -> None:
        self.label = f"job {number}  {GROUPS.sub('', own)}"
        self.begun = time.monotonic()
        self._run = Run(folder)
        self._looked = -math.inf
        self._size = -1
        """Bytes of metrics.jsonl when it was read."""
        self.step, self.steps = 0, 0
        """The last one that was logged, and how many there will be; 0 before that is known."""
        self.lowest: tuple[float, int] | None = None
        """Bits per byte of the best evaluation, and its step."""

    def render(self, now: float, label_width: int, width: int) -> str:
        """The line, at most `width` columns."""
        if now - self._looked >= LOOK:
            self._looked = now
            with suppress(OSError):  # a file that its run is just replacing: the next look finds it
                self._look()
        label = cut_to(self.label, label_width)
        parts = [f"  {label}{' ' * (label_width - measure_width(label))}"]
        if self.steps:
            parts.append(f"{self.step:,}/{self.steps:,}")
        parts.append(render_clock(now - self.begun))
        if self.lowest is not None:
            parts.append(f"bits per byte {self.lowest[0]:.4f} at step {self.lowest[1]:,}")
        return join_fitting(parts, width)

    def _look(self) -> None:
        file = self._run.metrics_file
        size = file.stat().st_size if file.exists() else 0
        if size == self._size:
            return
        self._size = size
        lines = self._run.load_metrics()
        self.step = lines[-1]["step"] if lines else 0
        self.lowest = min(((line[SCORE], line["step"]) for line in lines if SCORE in line), default=None)
        starts = self._run.find_results().get("starts") or [{}]
        self.steps = starts[-1].get("steps", 0)


class SweepWork(Work):
    """A sweep on a terminal. A log is told as each job begins and ends.

    running: the jobs that have a process now, as they are to be shown.
    """

    stays = True
    speaks = False

    def __init__(self, jobs: int, running: Callable[[], list[JobLine]]) -> None:
        super().__init__("sweep", jobs, Unit("jobs"))
        self.failed = 0
        self._running = running

    def render_lines(self, width: int, now: float, glyphs: Glyphs = FINE) -> list[str]:
        """The bar, and below it the jobs that run."""
        jobs = self._running()
        shown, more = jobs[:MOST_LINES], len(jobs) - MOST_LINES
        longest = max((measure_width(job.label) for job in shown), default=0)
        lines = [job.render(now, min(longest, max(SHORTEST, width - NUMBERS)), width) for job in shown]
        return [*super().render_lines(width, now, glyphs), *lines, *([f"  and {more} more"] if more > 0 else [])]

    def _render_amount(self) -> list[str]:
        return [*super()._render_amount(), *([f"{self.failed} failed"] if self.failed else [])]

    def _render_pace(self, seconds: float) -> list[str]:
        return []  # jobs in a second are none
