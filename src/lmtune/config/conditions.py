"""When a training argument has no effect: the other settings that make it meaningless.

Each condition takes the configuration of a training and returns the reason, or None if the argument works. Its docstring says when
the argument works, in the words of docs/configuration.md.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from lmtune.config.optimizers import APOLLO, GALORE, LION, NO_BETAS, OPTIM_ARGS
from lmtune.config.ranges import render_value

if TYPE_CHECKING:
    from lmtune.config.train import TrainConfig


LEAVE_ONE = "Leave one of the two out."


class Idle(NamedTuple):
    """A setting that does nothing."""

    because: str
    """The setting that is responsible, in words."""
    remedy: str
    by: str = ""
    """The key of that setting."""


Condition = Callable[["TrainConfig"], Idle | None]

LIBRARY = {
    "adam_beta1": 0.9,
    "dataloader_num_workers": 0,
    "eval_strategy": "no",
    "logging_strategy": "steps",
    "lr_scheduler_type": "linear",
    "max_steps": -1,
    "optim": "adamw_torch_fused",
    "train_sampling_strategy": "random",
}
"""Defaults of TrainingArguments that are needed without it and conf/training/default.yaml does not set."""

NO_WARMUP = frozenset(["constant", "reduce_lr_on_plateau", "greedy"])
NO_SCHEDULE_KWARGS = frozenset(["constant", "constant_with_warmup"])
FOLLOWS_METRIC = frozenset(["reduce_lr_on_plateau", "greedy"])
"""Schedules of transformers' get_scheduler, grouped by the arguments that it passes to them."""

LAUNCHERS = ("WORLD_SIZE", "LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Environment variables that tell accelerate that a launcher has started several processes."""


def setting(config: "TrainConfig", name: str) -> Any:
    """The value that a training argument will have, except for what lmtune chooses by device."""
    value = config.training.get(name)
    return LIBRARY.get(name) if value is None else value


def evaluation_strategy_of(config: "TrainConfig") -> str:
    """When the model is evaluated during training: steps, epoch or no."""
    return str(setting(config, "eval_strategy")) if config.evaluates else "no"


def saving_strategy_of(config: "TrainConfig") -> str:
    """When checkpoints are written: at evaluations, unless save_strategy is set."""
    given = config.training.get("save_strategy")
    if given is not None:
        return str(given)
    evaluation = evaluation_strategy_of(config)
    return "steps" if evaluation == "no" else evaluation


def if_evaluated(config: "TrainConfig") -> Idle | None:
    """Text is held out."""
    if config.evaluates:
        return None
    return Idle(
        "nothing is held out",
        "Leave it out, or hold text out: data.validation_fraction=0.05.",
        "data.validation_fraction",
    )


def if_evaluated_while_training(config: "TrainConfig") -> Idle | None:
    """`eval_strategy` is not `no`."""
    if config.evaluates and evaluation_strategy_of(config) == "no":
        return Idle(
            "training.eval_strategy=no", "Leave it out, or give training.eval_strategy=steps.", "training.eval_strategy"
        )
    return if_evaluated(config)


def if_evaluated_by_steps(config: "TrainConfig") -> Idle | None:
    """`eval_strategy=steps`."""
    if evaluation_strategy_of(config) == "epoch":
        return Idle("found training.eval_strategy=epoch", LEAVE_ONE, "training.eval_strategy")
    found = if_evaluated_while_training(config)
    return found and found._replace(remedy="Leave it out; training.save_steps= says how often to save.")


def if_saved(config: "TrainConfig") -> Idle | None:
    """`save_strategy` is not `no`."""
    if saving_strategy_of(config) != "no":
        return None
    return Idle("found training.save_strategy=no", LEAVE_ONE, "training.save_strategy")


def if_saved_by_steps(config: "TrainConfig") -> Idle | None:
    """`save_strategy=steps`; it follows `eval_strategy`."""
    strategy = saving_strategy_of(config)
    if strategy == "steps":
        return None
    by = "training.save_strategy" if config.training.get("save_strategy") else "training.eval_strategy"
    follows = "" if by.endswith("save_strategy") else ", which saving follows"
    return Idle(f"found {by}={strategy}{follows}", "Leave it out, or give training.save_strategy=steps.", by)


def if_best_can_be_kept(config: "TrainConfig") -> Idle | None:
    """There are evaluations and checkpoints."""
    return if_evaluated_while_training(config) or if_saved(config)


def if_best_is_sought(config: "TrainConfig") -> Idle | None:
    """There are evaluations, and the metric decides the best checkpoint, early stopping or the learning rate."""
    sought = (
        config.training.get("load_best_model_at_end")
        or config.early_stopping.patience
        or saving_strategy_of(config) == "best"
        or setting(config, "lr_scheduler_type") in FOLLOWS_METRIC
    )
    if not sought:
        return Idle(
            "found training.load_best_model_at_end=false, and nothing else goes by it",
            LEAVE_ONE,
            "training.load_best_model_at_end",
        )
    return if_evaluated_while_training(config)


def if_logged_by_steps(config: "TrainConfig") -> Idle | None:
    """`logging_strategy=steps`."""
    strategy = setting(config, "logging_strategy")
    if strategy == "steps":
        return None
    return Idle(f"found training.logging_strategy={strategy}", LEAVE_ONE, "training.logging_strategy")


def if_epochs_count(config: "TrainConfig") -> Idle | None:
    """`max_steps` is not set."""
    steps = setting(config, "max_steps")
    if steps is None or steps < 1:
        return None
    return Idle(
        f"training.max_steps={steps} decides how long the run is",
        "Leave it out, or give training.max_steps=-1.",
        "training.max_steps",
    )


def if_schedule_warms_up(config: "TrainConfig") -> Idle | None:
    """The schedule has a warm-up: not `constant`, `reduce_lr_on_plateau` or `greedy`."""
    schedule = setting(config, "lr_scheduler_type")
    if schedule not in NO_WARMUP:
        return None
    remedy = "training.lr_scheduler_type=constant_with_warmup has one." if schedule == "constant" else "Leave it out."
    return Idle(f"training.lr_scheduler_type={schedule} has no warm-up", remedy, "training.lr_scheduler_type")


def if_schedule_takes_kwargs(config: "TrainConfig") -> Idle | None:
    """The schedule takes arguments: not `constant` or `constant_with_warmup`."""
    schedule = setting(config, "lr_scheduler_type")
    if schedule not in NO_SCHEDULE_KWARGS:
        return None
    return Idle(f"training.lr_scheduler_type={schedule} takes none", LEAVE_ONE, "training.lr_scheduler_type")


def if_optimizer_has_betas(config: "TrainConfig") -> Idle | None:
    """The optimizer has Adam's betas."""
    optim = setting(config, "optim")
    if optim not in NO_BETAS:
        return None
    return Idle(f"training.optim={optim} has no such setting", LEAVE_ONE, "training.optim")


def if_first_beta_is_free(config: "TrainConfig") -> Idle | None:
    """The optimizer has Adam's betas, and its momentum is not set by `finetune=gradual`."""
    if config.finetune.method.value == "gradual":
        return Idle(
            "with finetune=gradual the momentum follows the rate", "Give finetune.momentum=[0.95,0.85].", "finetune"
        )
    return if_optimizer_has_betas(config)


def if_optimizer_has_epsilon(config: "TrainConfig") -> Idle | None:
    """The optimizer has Adam's epsilon; Lion has none."""
    optim = setting(config, "optim")
    if optim in LION:
        return Idle(f"training.optim={optim} has no such setting", LEAVE_ONE, "training.optim")
    return if_optimizer_has_betas(config)


def if_optimizer_reads_arguments(config: "TrainConfig") -> Idle | None:
    """The optimizer reads the names given (`sgd`, `adagrad`, `rmsprop`, ...)."""
    optim = setting(config, "optim")
    known = OPTIM_ARGS.get(optim)
    if known is None:
        return Idle(
            f"training.optim={optim} takes none",
            "Leave it out, or choose an optimizer that does, such as sgd.",
            "training.optim",
        )
    given = [part.partition("=")[0].strip() for part in str(config.training["optim_args"]).split(",")]
    strange = next((name for name in given if name not in known), None)
    if strange is None:
        return None
    return Idle(
        f"training.optim={optim} reads nothing called {strange}", f"It takes {', '.join(known)}.", "training.optim"
    )


def if_optimizer_takes_targets(config: "TrainConfig") -> Idle | None:
    """The optimizer is a variant of GaLore or APOLLO."""
    optim = setting(config, "optim")
    if optim in (*GALORE, *APOLLO):
        return None
    return Idle(
        f"training.optim={optim} treats all weights alike",
        "Leave it out: of the optimizers that a run can be resumed with, none takes any.",
        "training.optim",
    )


def if_workers(config: "TrainConfig") -> Idle | None:
    """`dataloader_num_workers` is more than 0."""
    if setting(config, "dataloader_num_workers"):
        return None
    return Idle(
        "training.dataloader_num_workers=0 loads rows in the process that trains",
        "Leave it out, or give training.dataloader_num_workers=2.",
        "training.dataloader_num_workers",
    )


def if_on_device(config: "TrainConfig") -> Idle | None:
    """`use_cpu` is not set."""
    if not config.training.get("use_cpu"):
        return None
    return Idle("found training.use_cpu=true", LEAVE_ONE, "training.use_cpu")


def if_order_is_free(config: "TrainConfig") -> Idle | None:
    """Neither `data.streaming` nor `data.mix`."""
    if config.data.streaming:
        return Idle(
            "data.streaming=true gives rows in its own order",
            "Leave it out; see data.shuffle_blocks.",
            "data.streaming",
        )
    if config.data.mix:
        return Idle("data.mix draws the rows of an epoch itself", LEAVE_ONE, "data.mix")
    return None


def if_rows_are_drawn(config: "TrainConfig") -> Idle | None:
    """Rows are drawn: neither `data.streaming` nor `train_sampling_strategy=sequential`."""
    if config.data.streaming:
        return Idle("data.streaming=true goes by seed=", "Leave it out.", "data.streaming")
    if setting(config, "train_sampling_strategy") == "sequential" and not config.data.mix:
        return Idle(
            "training.train_sampling_strategy=sequential draws nothing",
            LEAVE_ONE,
            "training.train_sampling_strategy",
        )
    return None


def if_launched(config: "TrainConfig") -> Idle | None:
    """A launcher such as `torchrun` has started the process."""
    if any(name in os.environ for name in LAUNCHERS):
        return None
    return Idle(
        "one process trains alone", "Leave it out, or start several: torchrun --nproc_per_node 2 -m lmtune train ..."
    )


def if_spread(config: "TrainConfig") -> Idle | None:
    """A launcher such as `torchrun` has started several processes; each keeps a part of the weights ([scale.md](scale.md))."""
    return if_launched(config)


def if_copied(config: "TrainConfig") -> Idle | None:
    """A launcher such as `torchrun` has started the process, and `fsdp` is not set."""
    if config.training.get("fsdp"):
        return Idle("with training.fsdp=true there is no DDP", LEAVE_ONE, "training.fsdp")
    return if_launched(config)


def if_on_trackio(config: "TrainConfig") -> Idle | None:
    """`tracker=trackio`."""
    if "trackio" in config.tracker.name:
        return None
    return Idle(
        f"tracker={render_value(config.tracker.name)} is not trackio",
        "Leave it out, or give tracker=trackio.",
        "tracker",
    )


def if_published(config: "TrainConfig") -> Idle | None:
    """`push_to_hub=true`."""
    if config.training.get("push_to_hub"):
        return None
    return Idle(
        "training.push_to_hub is off", "Leave it out, or give training.push_to_hub=true.", "training.push_to_hub"
    )


def if_published_or_on_trackio(config: "TrainConfig") -> Idle | None:
    """`push_to_hub=true` or `tracker=trackio`."""
    return None if if_on_trackio(config) is None else if_published(config)


def if_checkpointed(config: "TrainConfig") -> Idle | None:
    """`activation_checkpointing=true`."""
    if config.training.get("activation_checkpointing") or config.training.get("gradient_checkpointing"):
        return None
    return Idle(
        "training.activation_checkpointing is not asked for",
        "Add training.activation_checkpointing=true.",
        "training.activation_checkpointing",
    )


def beside(name: str) -> Condition:
    """The condition that another training argument is on."""

    def condition(config: "TrainConfig") -> Idle | None:
        if config.training.get(name):
            return None
        return Idle(f"training.{name} is off", f"Leave it out, or give training.{name}=true.", f"training.{name}")

    condition.__doc__ = f"`{name}=true`."
    return condition


def unless_renamed(name: str) -> Condition:
    """The condition that the newer name of the same argument is not set."""

    def condition(config: "TrainConfig") -> Idle | None:
        if config.training.get(name) is None:
            return None
        return Idle(f"training.{name} is its name by now", "Leave the old name out.", f"training.{name}")

    condition.__doc__ = f"`{name}`, its newer name, is not set."
    return condition
