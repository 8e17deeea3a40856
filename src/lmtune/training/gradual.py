"""finetune=gradual: one Trainer, one optimizer and one global step over all phases (Howard, Ruder 2018, arXiv:1801.06146).

Every parameter is in the optimizer from the start, and Adam's state lasts over the phases. What learns, and how fast, is
set before each step from the number of the step alone, so a resumed run cannot differ.
"""

from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.config import FinetuneConfig
from lmtune.errors import ConfigError
from lmtune.training.arguments import name_of
from lmtune.training.layer_groups import build_groups, set_trainable
from lmtune.training.optimizers import groups_parameters, set_rate
from lmtune.training.schedules import Timeline, build_timeline

if TYPE_CHECKING:
    from lmtune.training.trainer import LmTrainer


def unfreeze_gradually(trainer: "LmTrainer", finetune: FinetuneConfig) -> None:
    """Have the layer groups of the trainer's model learn in phases, each with its own rate."""
    trainer.timeline = build_timeline(finetune, finetune.block_groups + 1, trainer.count_steps().steps_per_epoch)
    trainer.optimizer = build_optimizer(trainer, finetune.block_groups)
    trainer.add_callback(UnfreezeCallback(trainer.timeline))


def build_optimizer(trainer: "LmTrainer", block_groups: int) -> torch.optim.Optimizer:
    """An optimizer over all parameters, by layer group and weight decay."""
    model, args = trainer.model, trainer.args
    kind, settings = trainer.get_optimizer_cls_and_kwargs(args, model)
    decayed = set(trainer.get_decay_parameter_names(model))
    parts = [
        {
            "params": [parameter for name, parameter in group if (name in decayed) == decays],
            "weight_decay": args.weight_decay if decays else 0.0,
            "layer_group": number,
        }
        for number, group in enumerate(build_groups(model, block_groups))
        for decays in (True, False)
    ]
    optimizer: torch.optim.Optimizer = kind([part for part in parts if part["params"]], **settings)
    return optimizer


class UnfreezeCallback(TrainerCallback):
    """Sets before each step which groups learn in it, how fast, and with which momentum."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **event: Any
    ) -> None:
        optimizer: torch.optim.Optimizer = event["optimizer"]
        step = state.global_step
        rates, momentum = self.timeline.rates(step), self.timeline.momentum_at(step)
        set_trainable(optimizer, self.timeline.phase_at(step).lowest_group)
        for group in optimizer.param_groups:
            set_rate(group, rates[group["layer_group"]])
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])


def check_gradual(arguments: TrainingArguments, model: PreTrainedModel, finetune: FinetuneConfig) -> None:
    """Raise ConfigError for what gradual unfreezing cannot do, before a run folder is made."""
    build_groups(model, finetune.block_groups)
    _, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    if groups_parameters(settings):
        raise ConfigError(
            f"training.optim={name_of(arguments.optim)} groups parameters itself, as finetune=gradual does. Choose one of the two."
        )
    if arguments.deepspeed:
        raise ConfigError(
            "finetune=gradual works on one device or with DDP; DeepSpeed flattens its groups. Use finetune=full."
        )
