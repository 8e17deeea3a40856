"""Disk space that a run's checkpoints need."""

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lmtune.errors import CheckpointError
from lmtune.training.arguments import count_rows_per_step
from lmtune.training.optimizers import measure_state
from lmtune.units import render_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

    from lmtune.training.setup import Setup


class DiskNeed(NamedTuple):
    """Bytes that the checkpoints of a run take at most, at one time."""

    checkpoint: int
    checkpoints: int
    """How many of them; the one that is being written is one."""
    model: int
    """The finished model, in the end."""

    @property
    def total(self) -> int:
        return self.checkpoint * self.checkpoints + self.model


def estimate_disk(
    arguments: "TrainingArguments",
    model: "PreTrainedModel",
    total_steps: int,
    *,
    twice: bool = False,
    muon: bool = False,
) -> DiskNeed:
    """Space for the checkpoints to come: weights and the optimizer's state, times the number kept.

    twice: checkpoints hold the trained weights a second time, as an average does. muon: training.muon=true.
    """
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    state = 0 if arguments.save_only_model else measure_state(arguments, model, muon=muon)
    second = 4 * trained if twice else 0
    return DiskNeed(weights + state + second, _count_checkpoints(arguments, total_steps), weights)


def estimate_run_disk(setup: "Setup", steps: int) -> DiskNeed:
    """Space for the checkpoints of a training of so many steps."""
    config = setup.config
    return estimate_disk(setup.arguments, setup.model, steps, twice=config.saves_twice, muon=config.muon)


def count_steps(arguments: "TrainingArguments", blocks: int) -> int:
    """Optimizer steps of a run over `blocks` blocks."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    return math.ceil(math.ceil(blocks / count_rows_per_step(arguments)) * arguments.num_train_epochs)


def check_disk(folder: Path, need: DiskNeed, present: int) -> None:
    """Raise CheckpointError where the disk of a run folder has no space for its checkpoints.

    present: bytes of checkpoints that are there already, which later ones will replace.
    """
    free = shutil.disk_usage(folder).free
    if free + present < need.total:
        raise CheckpointError(
            f"{folder}: expected room for {need.checkpoints} checkpoints of {render_bytes(need.checkpoint)} and a model of "
            f"{render_bytes(need.model)}, {render_bytes(need.total - present)} in all; found {render_bytes(free)} free. "
            "Make room, give output= on another disk, or keep less: training.save_total_limit=2, "
            "training.load_best_model_at_end=false, training.optim=adafactor."
        )


def _count_checkpoints(arguments: "TrainingArguments", total_steps: int) -> int:
    if arguments.save_strategy == "no":
        return 0
    if arguments.save_total_limit:
        return int(arguments.save_total_limit) + bool(arguments.load_best_model_at_end) + 1
    if arguments.save_strategy == "epoch":
        return math.ceil(arguments.num_train_epochs)
    every = arguments.save_steps if arguments.save_steps >= 1 else total_steps * arguments.save_steps
    return math.ceil(total_steps / every)
