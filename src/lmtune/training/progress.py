"""How far a training is: two lines at the bottom of a terminal, lines now and then elsewhere and in train.log."""

import logging
import math
import os
import time
from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune import patience
from lmtune.console import is_first_process, log_progress
from lmtune.gauges import FINE, Glyphs
from lmtune.patience import Work
from lmtune.storage import Record
from lmtune.training.arguments import name_of
from lmtune.training.outlook import LONG, Outlook, find_crowding, render_long, render_outlook, render_remedy
from lmtune.training.pulse import KEY, Pulse, find_lowest, render_evaluation, render_log, render_pulse
from lmtune.training.throughput import wait_for

logger = logging.getLogger(__name__)

TIMED = 3
"""Steps after which the time to the end is told."""
WATCHED = 2.0
"""Seconds of steps from which the share of the processors is measured."""
LINES = 20
"""Lines of a log for the steps of a run, at least, where there are as many logs."""
SPARSE = 0.02
"""Share of the time so far that passes between two lines of a log, at most."""
SOON = 10.0
"""Seconds between two lines in the beginning."""


class TrainingWork(Work):
    """A training, in two lines; a log is told of it by ProgressLine."""

    stays = True
    speaks = False

    def __init__(self, pulse: Pulse, outlook: Outlook) -> None:
        super().__init__("training", pulse.steps)
        self.pulse = pulse
        self.outlook = outlook

    def render_lines(self, width: int, now: float, glyphs: Glyphs = FINE) -> list[str]:
        """The lines, at most `width` columns each."""
        left = self.outlook.estimate_left(self.pulse.step) if self.outlook.recent else None
        until = None if left is None else render_until(left)
        return render_pulse(self.pulse, now - self.begun, left, until, width, glyphs)


class ProgressLine(TrainerCallback):
    """Shows a training on a terminal and tells of it in the log; always on stderr, and by rank 0 alone."""

    def __init__(self, outlook: Outlook) -> None:
        self.outlook = outlook
        self.pulse = Pulse(steps=outlook.course.steps)
        self._shown = ExitStack()
        self._begun = self._last_line = self._mark = time.monotonic()
        """`_mark`: when the last step ended, or the pause after it."""
        self._evaluated = False
        self._timed = 0
        """Steps of this start."""
        self._window: tuple[float, float] | None = None
        """Clock and processor time at the end of the first step of this start."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        pulse = self.pulse
        pulse.step, pulse.steps = state.global_step, state.max_steps
        pulse.losses = [line["loss"] for line in state.log_history if "loss" in line]
        pulse.lowest = find_lowest(state.log_history)
        pulse.next_evaluation = self._find_next(args, state)
        self._begun = self._last_line = self._mark = time.monotonic()
        self.close()  # of an attempt that ran out of memory
        if is_first_process():
            self._shown.enter_context(patience.doing(TrainingWork(pulse, self.outlook)))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._evaluated:
            now = time.monotonic()
            self.outlook.evaluation, self._mark = now - self._mark, now
            self.outlook.evaluations_done += 1
            self._evaluated = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._timed += 1
        if self._timed in (1, TIMED):
            wait_for(args.device)
        now = time.monotonic()
        if self._timed > 1:  # the first one warms up
            self.outlook.recent.append(now - self._mark)
        self._mark = now
        self.pulse.step = state.global_step
        if self._timed == TIMED and is_first_process() and state.global_step < state.max_steps:
            self._tell_outlook(args, state)
        if self._window is None:
            self._window = now, time.process_time()
        elif self._timed >= TIMED and now - self._window[0] >= WATCHED:
            self._tell_crowding(args, now)
        if self.outlook.recent and now - self._last_line > max(SOON, SPARSE * (now - self._begun)):
            self._tell_step(state, f"{render_long(self.outlook.estimate_left(state.global_step))} left")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Record | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        self.pulse.losses.append(logs["loss"])
        self.pulse.logs = logs
        every = max(args.logging_steps, math.ceil(state.max_steps / LINES))
        if state.global_step % every < args.logging_steps:
            self._tell_step(state, render_log(logs, self.outlook.estimate_left(state.global_step)))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Record | None = None,
        **_: Any,
    ) -> None:
        self._evaluated = True
        self.pulse.next_evaluation = self._find_next(args, state)
        if metrics and KEY in metrics:
            if is_first_process():
                line = render_evaluation(state.global_step, metrics, state.log_history)
                log_progress(logger, line, painted=False)
            self.pulse.lowest = find_lowest(state.log_history)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Remove the lines from the screen."""
        self._shown.close()

    def _tell_step(self, state: TrainerState, text: str) -> None:
        self._last_line = time.monotonic()
        log_progress(logger, f"step {state.global_step:,} of {state.max_steps:,}  {text}")

    def _tell_outlook(self, args: TrainingArguments, state: TrainerState) -> None:
        self._last_line = time.monotonic()  # it says how far the training is, too
        left = self.outlook.estimate_left(state.global_step)
        log_progress(logger, render_outlook(self.outlook, state.global_step, render_until(left)), painted=False)
        if left > LONG and args.device.type == "cpu" and self.outlook.course.first == 0:
            logger.info(render_remedy(self.outlook))

    def _tell_crowding(self, args: TrainingArguments, now: float) -> None:
        assert self._window is not None
        began, cpu = self._window
        self._window = math.inf, 0.0  # once is enough
        if args.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            import torch

            said = find_crowding(
                time.process_time() - cpu, now - began, torch.get_num_threads(), os.getloadavg()[0], _count_processors()
            )
            if said is not None:
                logger.warning(said)

    def _find_next(self, args: TrainingArguments, state: TrainerState) -> int | None:
        """The step of the next evaluation, None where epochs decide or nothing is evaluated any more."""
        if name_of(args.eval_strategy) != "steps" or state.global_step >= state.max_steps:
            return None
        every = max(1, int(args.eval_steps or 1))
        return min(state.max_steps, (state.global_step // every + 1) * every)


def render_until(left: float) -> str:
    """`until 18:24`, with the day where that is another one."""
    end, today = time.localtime(time.time() + left), time.localtime()
    same = end[:3] == today[:3]
    return time.strftime("until %H:%M" if same else "until %a %d %b %H:%M", end)


def _count_processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1
