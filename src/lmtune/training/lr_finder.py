"""The LR range test (Smith 2017, arXiv:1506.01186): a rate that grows at every step, and the loss of each."""

import math
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.config import RangeConfig
from lmtune.storage import Record
from lmtune.training.layer_groups import build_groups
from lmtune.training.optimizers import set_rate
from lmtune.training.schedules import exponential, smooth
from lmtune.training.step_losses import StepLosses

DIVERGED = 4.0
"""The test ends where the smoothed loss is this many times its lowest (fastai's `lr_find`)."""


class LrRangeCallback(TrainerCallback):
    """Sets the rate before each step and records its loss after it; ends the training where the loss has diverged.

    step_losses: the trainer's, taken here before its check for finite losses sees them.
    """

    def __init__(self, settings: RangeConfig, step_losses: StepLosses) -> None:
        self.settings = settings
        self.step_losses = step_losses
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.rates, self.losses = [], []

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **event: Any
    ) -> None:
        optimizer: torch.optim.Optimizer = event["optimizer"]
        rate = exponential(state.global_step, self.settings.steps, self.settings.start, self.settings.end)
        self.rates.append(rate)
        for group in optimizer.param_groups:
            set_rate(group, rate)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self.losses.append(self.step_losses.take_step(args.world_size))
        smoothed = smooth(self.losses)
        control.should_training_stop |= not math.isfinite(smoothed[-1]) or smoothed[-1] > DIVERGED * min(smoothed)
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Record | None = None,
        **_: Any,
    ) -> None:
        """Trainer logs the rate of its schedule; callbacks behind this one are told that of the step."""
        if logs and self.rates and "learning_rate" in logs:
            logs["learning_rate"] = self.rates[-1]


def freeze_below(model: PreTrainedModel, block_groups: int, groups: int) -> None:
    """Let only the upper `groups` layer groups learn, as a phase of finetune=gradual does."""
    for group in build_groups(model, block_groups)[: max(0, block_groups + 1 - groups)]:
        for _, parameter in group:
            parameter.requires_grad_(False)
