"""What happens beside the steps: records, samples, progress, and stopping when asked to."""

import logging
import math
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune import console, stopping
from lmtune.errors import Stopped
from lmtune.runs import Run
from lmtune.storage import append_jsonl, write_json, write_text
from lmtune.training.arguments import find_tracker_id
from lmtune.training.throughput import render_pace

logger = logging.getLogger(__name__)

Write = Callable[[list[str]], list[str]]


class Journal:
    """A JSON Lines file that outlives a full disk: what could not be written waits for the next line."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.waiting: list[dict[str, Any]] = []

    def add(self, value: dict[str, Any]) -> None:
        """Write a line, after those that wait."""
        self.waiting.append(value)
        try:
            while self.waiting:
                append_jsonl(self.file, self.waiting[0])
                del self.waiting[0]
        except OSError as error:
            logger.info(
                "%s COULD NOT BE WRITTEN: %s. %d lines wait.", self.file.name, error.strerror, len(self.waiting)
            )


class Recorder(TrainerCallback):
    """Writes metrics.jsonl: one object for each log and each evaluation."""

    def __init__(self, run: Run) -> None:
        self.journal = Journal(run.metrics_file)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            numbers = {name: value for name, value in logs.items() if isinstance(value, (int, float))}
            self.journal.add({"step": state.global_step, **numbers})


class TrackerNote(TrainerCallback):
    """Writes down under which id the tracker knows the run, so that a resumed run goes on with the same curve."""

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero and (known := find_tracker_id(self.name)) is not None:
            write_json(self.run.tracker_file, {self.name: known})


class Sampler(TrainerCallback):
    """Continues fixed prompts at every evaluation, step 0 included; all texts go to samples.jsonl and samples.md."""

    def __init__(self, run: Run, prompts: list[str], write: Write, show: int) -> None:
        self.run = run
        self.prompts = prompts
        self.write = write
        self.show = show
        self.journal = Journal(run.samples_file)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        texts = self.write(self.prompts)
        pairs = [{"prompt": p, "text": t} for p, t in zip(self.prompts, texts, strict=True)]
        self.journal.add({"step": state.global_step, "samples": pairs})
        try:
            write_text(self.run.samples_page, render_samples(self.run.load_samples()))
        except OSError as error:  # written anew at each evaluation
            logger.info("%s could not be written: %s", self.run.samples_page.name, error.strerror)
        for text in texts[: self.show]:
            logger.info("  « %s »", " ".join(text.split()))


def render_samples(records: list[dict[str, Any]]) -> str:
    """samples.md: for each prompt, its continuation step by step."""
    lines = ["# Samples", ""]
    prompts = [sample["prompt"] for sample in records[-1]["samples"]] if records else []
    for number, prompt in enumerate(prompts):
        lines += [f"## {prompt}", ""]
        for record in records:
            if number < len(record["samples"]):
                text = record["samples"][number]["text"].strip().replace("\n", "\n> ")
                lines += [f"Step {record['step']:,}", "", f"> {text}", ""]
    return "\n".join(lines)


class ProgressLine(TrainerCallback):
    """A bar on a terminal, a plain line now and then elsewhere; always on stderr."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
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
        logs: dict[str, Any] | None = None,
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
        metrics: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if state.is_world_process_zero and metrics:
            logger.info(render_evaluation(state.global_step, metrics))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the screen."""
        self._above.close()
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _print_above(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def render_evaluation(step: int, metrics: dict[str, Any]) -> str:
    """One line for an evaluation."""
    return (
        f"step {step:,}  held out ({metrics['eval_tokens']:,} tokens): loss {metrics['eval_loss']:.4f}  "
        f"perplexity {metrics['eval_perplexity']:.2f}  "
        f"bits per byte {metrics['eval_bits_per_byte']:.4f}  accuracy {metrics['eval_accuracy']:.4f}"
    )


class LastStep(TrainerCallback):
    """Evaluates and saves at the last step too, whatever the intervals: the end of a run may be its best point."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step >= state.max_steps:
            # With the strategy `epoch`, Trainer itself does both at the end of the epoch.
            control.should_evaluate |= args.eval_strategy.value == "steps"
            control.should_save |= args.save_strategy.value == "steps"
        return control


class KeepPlace(TrainerCallback):
    """Stops a run whose folder has been moved, deleted or replaced, before anything more is written. Has to be the first."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.check()


class StopOnSignal(TrainerCallback):
    """SIGTERM, SIGINT, SIGUSR1 or SIGHUP: finish the running step, save a checkpoint at its boundary, then raise Stopped.

    All ranks agree on the step, whichever of them got the signal. Before the first step there is nothing to save, so one
    process alone stops at once. A second signal ends the process at once, but for SIGHUP, which a terminal that closes and
    its shell both send; where it was ignored from the start (nohup) it still is. Has to be the last callback, so that the
    others have done their part of the step.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

    def __init__(self, all_reduce_max: Callable[[int], int]) -> None:
        self.all_reduce_max = all_reduce_max
        self.received = 0
        """The signal that this process got."""
        self.agreed = 0
        """The one that all ranks know of."""
        self.waits = True
        """Whether a step has been done that is worth saving, or other ranks have to be told."""
        self.stopping = False
        self.previous: dict[int, Any] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        stopping.check()
        self.waits = args.world_size > 1
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        heard = [number for number in self.SIGNALS if not (nohup and number == signal.SIGHUP)]
        self.previous = {number: signal.signal(number, self._note) for number in heard}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self.waits = True
        # On a GPU, asking the other ranks makes the device wait, so it is done where a log waits for it anyway.
        if (
            args.device.type == "cpu"
            or args.world_size == 1
            or state.global_step % max(1, int(args.logging_steps)) == 0
            or state.global_step >= state.max_steps
        ):
            self.agreed = self.all_reduce_max(self.received)
        # What an epoch's end brings belongs to its last step: resumed after it, the run would begin the next epoch.
        ends_epoch = state.epoch is not None and float(state.epoch).is_integer()
        if self.agreed and not (ends_epoch or state.global_step >= state.max_steps):
            self._save(control)
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.agreed and not self.stopping:
            self._save(control)
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stopping:
            self.restore()
            raise Stopped(self.agreed, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.restore()

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def _save(self, control: TrainerControl) -> None:
        self.stopping = True
        control.should_save = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for each in self.previous:
            signal.signal(each, signal.SIG_IGN if each == number == signal.SIGHUP else signal.SIG_DFL)
        if not self.waits:
            raise Stopped(number, 0)
        logger.info(
            "signal %s: finishing this step, then saving a checkpoint; again to stop at once",
            signal.Signals(number).name,
        )


def reduce_max(value: int, device: torch.device) -> int:
    """The largest value over all ranks."""
    if not torch.distributed.is_initialized():
        return value
    shared = torch.tensor(value, device=device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return int(shared.item())
