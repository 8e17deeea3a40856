"""finetune=gradual: one Trainer, one optimizer and one global step over all phases (Howard, Ruder 2018, arXiv:1801.06146).

Every parameter is in the optimizer from the start, and Adam's state lasts over the phases. What learns, and how fast, is
set before each step from the number of the step alone, so a resumed run cannot differ.
"""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.config import FinetuneConfig
from lmtune.errors import ConfigError
from lmtune.training.layers import build_groups, set_trainable
from lmtune.training.schedules import Timeline, build_timeline
from lmtune.training.trainer import LmTrainer


class GradualTrainer(LmTrainer):
    """LmTrainer whose layer groups learn in phases, each with its own rate."""

    optimizer: Any

    def __init__(self, *, finetune: FinetuneConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self.finetune = finetune
        self.timeline = self._build_timeline()
        self.add_callback(Phases(self.timeline))

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """An optimizer over all parameters, by layer group and weight decay."""
        if self.optimizer is None:
            target = self.model if model is None else model
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, target)
            decayed = set(self.get_decay_parameter_names(target))
            parts = [
                {
                    "params": [parameter for name, parameter in group if (name in decayed) == decays],
                    "weight_decay": self.args.weight_decay if decays else 0.0,
                    "layer_group": number,
                }
                for number, group in enumerate(build_groups(target, self.finetune.block_groups))
                for decays in (True, False)
            ]
            self.optimizer = kind([part for part in parts if part["params"]], **settings)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As Trainer does, with the rate of each group and the momentum of the step just taken."""
        if "learning_rate" in logs:
            step = max(0, self.state.global_step - 1)
            logs |= {f"learning_rate_group_{number}": rate for number, rate in enumerate(self.timeline.rates(step))}
            logs["momentum"] = self.timeline.momentum_at(step)
        super().log(logs, start_time)

    def _get_learning_rate(self) -> float:
        """That of the top group, which always learns. Trainer asks before it counts the step."""
        return self.timeline.rates(self.state.global_step)[-1]

    def _build_timeline(self) -> Timeline:
        steps_per_epoch = self.set_initial_training_values(self.args, self.get_train_dataloader())[1]
        return build_timeline(self.finetune, self.finetune.block_groups + 1, steps_per_epoch)


class Phases(TrainerCallback):
    """Before each step: which groups learn in it, how fast, and with which momentum."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, optimizer: Any = None, **_: Any
    ) -> None:
        step = state.global_step
        rates, momentum = self.timeline.rates(step), self.timeline.momentum_at(step)
        set_trainable(optimizer, self.timeline.find_phase(step).lowest_group)
        for group in optimizer.param_groups:
            group["lr"] = rates[group["layer_group"]]
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])


def check_gradual(arguments: Any, model: Any, finetune: FinetuneConfig) -> None:
    """Raise ConfigError for what gradual unfreezing cannot do, before a run folder is made."""
    from transformers import Trainer

    build_groups(model, finetune.block_groups)
    _, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    if {"params", "model", "optimizer_dict"} & settings.keys():
        raise ConfigError(
            f"training.optim={arguments.optim.value} groups parameters itself, as finetune=gradual does. Choose one of the two."
        )
    if arguments.deepspeed:
        raise ConfigError(
            "finetune=gradual works on one device or with DDP; DeepSpeed flattens its groups. Use finetune=full."
        )
