"""A few real steps of a training, a part of its evaluation, its samples and one save, timed; nothing of it is kept."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.config import ForesightConfig
from lmtune.errors import CheckpointError
from lmtune.modeling.generation import generate_aside
from lmtune.paths import GivenPath
from lmtune.patience import turn_to
from lmtune.runs import begin_at
from lmtune.storage import Record
from lmtune.training.old_text import time_writing
from lmtune.training.throughput import measure_memory, wait_for
from lmtune.vocabulary import decode_plain

if TYPE_CHECKING:
    from lmtune.training.held_out import HeldOut
    from lmtune.training.setup import Setup
    from lmtune.training.trainer import LmTrainer

WINDOWS = 64
"""Windows of held-out text that are scored to tell the pace of an evaluation."""
LEAST_STEPS = 2
"""The first step warms up, and is not counted."""


@dataclass
class StepTimer(TrainerCallback):
    """Times steps, and ends the training after a few of them with a save; nothing is evaluated."""

    settings: ForesightConfig
    wait: Callable[[], None]
    """Returns when the device has done what was asked of it."""
    times: list[float] = field(default_factory=list)
    """Seconds of each step."""
    saved: float | None = None
    """Seconds that the save took."""
    _since: float = 0.0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        turn_to(f"timing step {len(self.times) + 1} of at most {min(self.settings.steps, state.max_steps)}")
        self.wait()
        self._since = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self.wait()
        self.times.append(time.perf_counter() - self._since)
        spent = len(self.times) >= LEAST_STEPS and sum(self.times) > self.settings.seconds
        ends = spent or len(self.times) >= self.settings.steps or state.global_step >= state.max_steps
        control.should_evaluate, control.should_log = False, False
        control.should_save = ends and args.save_strategy != "no"
        control.should_training_stop = ends
        self._since = time.perf_counter()
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        control.should_evaluate = control.should_save = False
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = time.perf_counter() - self._since


def run_probe(trainer: "LmTrainer", setup: "Setup", held_out: "HeldOut", settings: ForesightConfig) -> Record:
    """Seconds of a step, a save and the samples of an evaluation, tokens scored a second, and bytes.

    The weights of the model have changed then.
    """
    timer = StepTimer(settings, partial(wait_for, trainer.args.device))
    trainer.add_callback(timer)
    with TemporaryDirectory(prefix="lmtune-check-") as folder:
        run = begin_at(GivenPath("output", f"{folder}/run", CheckpointError), Path(folder))
        trainer.attach(run, {})
        trainer.fit()
        saved = sum(file.stat().st_size for file in run.folder.glob("checkpoint-*/*") if file.is_file())
    counted = timer.times[1:] or timer.times
    scored, seconds = _time_scoring(trainer, setup, held_out)
    sampling = _time_sampling(trainer, setup) if setup.config.samples.enabled and setup.config.prompts else None
    writes = setup.config.forgetting.writes
    return {
        "steps": len(timer.times),
        "step": {
            "median": statistics.median(counted),
            "low": float(np.quantile(counted, 0.1)),
            "high": float(np.quantile(counted, 0.9)),
            "first": timer.times[0],
        },
        "save": timer.saved,
        "checkpoint_bytes": saved or None,
        "scored_tokens_per_second": scored / seconds if scored else None,
        "samples": sampling,
        "written_tokens_per_second": time_writing(setup) if writes else None,
        "peak_memory": measure_memory(trainer.args.device),
    }


def _time_scoring(trainer: "LmTrainer", setup: "Setup", held_out: "HeldOut") -> tuple[int, float]:
    """(tokens, seconds) of scoring some of the held-out text."""
    tokens, decode = WINDOWS * held_out.context, partial(decode_plain, setup.tokenizer)
    parts = {name: held.sample.select(tokens, decode) for name, held in held_out.sets.items()}
    start = time.perf_counter()
    held_out.score(trainer.accelerator.unwrap_model(trainer.model), parts)
    wait_for(trainer.args.device)
    return sum(len(part.ids) for part in parts.values()), time.perf_counter() - start


def _time_sampling(trainer: "LmTrainer", setup: "Setup") -> float:
    """Seconds that the samples of one evaluation take; the first text after a start is slower, and not counted."""
    model, config = trainer.accelerator.unwrap_model(trainer.model), setup.config
    write = partial(generate_aside, model, setup.tokenizer)
    write(config.prompts[:1], config.generation, config.samples.seed)
    start = time.perf_counter()
    write(config.prompts, config.generation, config.samples.seed)
    return time.perf_counter() - start
