"""The LR range test (Smith 2017, arXiv:1506.01186): a rate that grows at every step, and the loss of each."""

import math
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.config import RangeConfig
from lmtune.training.layers import build_groups
from lmtune.training.rows import RowTrainer
from lmtune.training.schedules import exponential, smooth

DIVERGED = 4.0
"""The test ends where the smoothed loss is this many times its lowest (fastai's `lr_find`)."""


class RangeTrainer(RowTrainer):
    """Trainer that tries rates instead of training: nothing is evaluated, saved or kept."""

    def __init__(self, *, settings: RangeConfig, **others: Any) -> None:
        super().__init__(**others)
        self.settings = settings
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._pending: list[torch.Tensor] = []
        self.add_callback(Rise(self))

    def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """As Trainer does; keeps the loss. Losses of accumulated batches are shares that add up."""
        loss = super().training_step(*arguments, **named)
        self._pending.append(loss.detach())
        return loss

    def begin_step(self, step: int, optimizer: Any) -> None:
        """Set the rate of this step."""
        self.rates.append(exponential(step, self.settings.steps, self.settings.start, self.settings.end))
        for group in optimizer.param_groups:
            group["lr"] = self.rates[-1]

    def end_step(self) -> bool:
        """Take down the loss of this step, the mean over processes; True where it has diverged."""
        loss = self.accelerator.reduce(torch.stack(self._pending).sum(), reduction="mean")
        self.losses.append(float(loss))
        self._pending = []
        smoothed = smooth(self.losses)
        return not math.isfinite(smoothed[-1]) or smoothed[-1] > DIVERGED * min(smoothed)


class Rise(TrainerCallback):
    """A rate before each step, its loss after it."""

    def __init__(self, trainer: RangeTrainer) -> None:
        self.trainer = trainer

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        self.trainer.begin_step(state.global_step, optimizer)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        control.should_training_stop |= self.trainer.end_step()
        return control


def freeze_below(model: Any, block_groups: int, groups: int) -> None:
    """Let only the upper `groups` layer groups learn, as a phase of finetune=gradual does."""
    for group in build_groups(model, block_groups)[: max(0, block_groups + 1 - groups)]:
        for _, parameter in group:
            parameter.requires_grad_(False)
