"""How far a training is: a bar on a terminal, lines elsewhere."""

import logging
import math
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune import console
from lmtune.storage import Record
from lmtune.training.throughput import render_pace

logger = logging.getLogger(__name__)


class ProgressLine(TrainerCallback):
    """A bar on a terminal, a plain line now and then elsewhere; always on stderr."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal and not (self.console.is_dumb_terminal or self.console.is_jupyter)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self._above = ExitStack()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.live and state.is_world_process_zero:
            columns = (
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step, loss="")
            self.bar.start()
            self._above.enter_context(console.above(self._print_above))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Record | None = None,
        **_: Any,
    ) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        text = f"loss {logs['loss']:.4f}  {render_pace(logs)}"
        if self.bar and self.task is not None:
            self.bar.update(self.task, loss=text)
        elif state.global_step % max(args.logging_steps, math.ceil(state.max_steps / 20)) < args.logging_steps:
            logger.info("step %s of %s  %s", f"{state.global_step:,}", f"{state.max_steps:,}", text)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Record | None = None,
        **_: Any,
    ) -> None:
        if state.is_world_process_zero and metrics:
            logger.info(render_evaluation(state.global_step, metrics))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar from the screen."""
        self._above.close()
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _print_above(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def render_evaluation(step: int, metrics: Record) -> str:
    """One line for an evaluation."""
    return (
        f"step {step:,}  held out ({metrics['eval_tokens']:,} tokens): loss {metrics['eval_loss']:.4f}  "
        f"perplexity {metrics['eval_perplexity']:.2f}  "
        f"bits per byte {metrics['eval_bits_per_byte']:.4f}  accuracy {metrics['eval_accuracy']:.4f}"
    )
