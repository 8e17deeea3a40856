"""TrainingArguments from the configuration."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lmtune.config import TrainConfig
from lmtune.config.conditions import FOLLOWS_METRIC, NO_WARMUP
from lmtune.config.ranges import render_value
from lmtune.config.training import is_greater_better
from lmtune.config.training_arguments import OWN, WITHHELD
from lmtune.console import compiled_code_aside
from lmtune.data.blocks import TrainingRows
from lmtune.errors import ConfigError
from lmtune.training.batches import plan_batch, split_rows
from lmtune.training.optimizers import groups_parameters
from lmtune.training.trial import explained
from lmtune.versions import set_argument, use_installed_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

logger = logging.getLogger(__name__)

LATE = {
    "_n_gpu": "counted while they are built; Trainer sets it too, for a model that is spread over devices",
    "output_dir": "the run folder is claimed when nothing that can be tried has failed; a save goes into a staging folder",
    "run_name": "as the run folder",
    "eval_on_start": "a resumed run has had its first evaluation",
    "per_device_train_batch_size": "batch.tokens is divided by the block size, which the model decides; memory may ask for fewer",
    "gradient_accumulation_steps": "as the rows",
    "activation_checkpointing": "chosen by the memory that a step of the built model takes",
    "torch_compile": "chosen by the length of the run, which the prepared text decides",
    "torch_compile_backend": "as torch_compile",
    "learning_rate": "a forecast tries others beside it",
    "logging_steps": "a share of the run becomes a number of steps once their number is known",
    "eval_steps": "as logging_steps",
    "save_steps": "as logging_steps",
    "save_total_limit": "lmtune deletes old checkpoints itself; with 1, Trainer would at the end delete the last one too",
}
"""What of TrainingArguments is decided after they are built, and why not before."""

TOY_STEPS = 10
"""Length of a schedule that is built only to see whether it can be."""


def build_arguments(
    config: TrainConfig, folder: Path, has_validation: bool, chosen: dict[str, Any] | None = None
) -> "TrainingArguments":
    """TrainingArguments for a run in `folder`; raise ConfigError for what transformers refuses.

    chosen: settings for the device, of those that the user left open. Building the arguments starts the process group
    where a launcher has set one up.
    """
    from transformers import TrainingArguments

    own = (*WITHHELD, *OWN, "fsdp")  # lmtune itself pushes, and spreads weights
    given = {name: value for name, value in config.training.items() if name not in own}
    settings = _complete({**(chosen or {}), **given}, has_validation)
    settings = use_installed_names(settings, TrainingArguments.__dataclass_fields__)
    with explained("transformers does not take these settings"), compiled_code_aside():
        arguments = TrainingArguments(
            **{
                **settings,
                "output_dir": str(folder),
                "seed": config.seed,
                "report_to": "none",  # trackers begin when the run has a folder; see tracking.py
                "run_name": config.name,
                "project": config.tracker.project,
                "remove_unused_columns": False,  # blocks hand out exactly what the loss takes
                "logging_nan_inf_filter": False,  # a NaN loss has to be seen
            }
        )
    _take_one_gpu(arguments)
    _leave_precision(arguments)
    return arguments


def change_arguments(arguments: "TrainingArguments", **values: object) -> None:
    """Set what is decided late: the one place where TrainingArguments change once they are built.

    Raises KeyError for a name that is not in LATE.
    """
    for name, value in values.items():
        if name not in LATE:
            raise KeyError(f"{name} is decided before TrainingArguments are built")
        set_argument(arguments, name, value)


@contextmanager
def writing_into(folder: Path, arguments: "TrainingArguments") -> Iterator[None]:
    """Trainer writes into this folder in here."""
    before = arguments.output_dir
    change_arguments(arguments, output_dir=str(folder))
    try:
        yield
    finally:
        change_arguments(arguments, output_dir=before)


def _take_one_gpu(arguments: "TrainingArguments") -> None:
    """Let a process without a launcher train on its first GPU alone.

    Trainer would wrap the model in DataParallel: slower than DDP, without autocast, and its copies of the model would call
    the forward method of their original.
    """
    if arguments.n_gpu > 1:
        logger.info(
            "%d GPUs are visible, and one is used. All of them: torchrun --nproc_per_node %d -m lmtune train ...",
            arguments.n_gpu,
            arguments.n_gpu,
        )
        change_arguments(arguments, _n_gpu=1)


def _leave_precision(arguments: "TrainingArguments") -> None:
    """Unset torch's newer TF32 switch under half precision, where no float32 product is left to use it.

    transformers sets it whenever torch.compile is on. The compiler reads the older switch, and in mode max-autotune it refuses
    to run with the two mixed.
    """
    import torch

    if arguments.torch_compile and (arguments.bf16 or arguments.fp16) and hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "none"


def spreads(given: dict[str, Any], arguments: "TrainingArguments") -> bool:
    """True if the weights will be sharded over several processes. given: `training.*`."""
    return bool(given.get("fsdp")) and arguments.world_size > 1


def check_liger(arguments: "TrainingArguments") -> None:
    """Raise ConfigError if Liger's kernels cannot run; Trainer would notice only just before the first step."""
    from transformers.utils.import_utils import is_liger_kernel_available

    if not arguments.use_liger_kernel:
        return
    if not is_liger_kernel_available():
        raise ConfigError(
            "training.use_liger_kernel=true needs the package liger-kernel, which is not installed. pip install liger-kernel, or "
            "leave it out: lmtune's own loss keeps no logits in memory either."
        )
    if arguments.device.type == "cpu":
        raise ConfigError(
            "training.use_liger_kernel=true: expected a GPU, found that this training runs on a CPU. Leave it out."
        )


def apply_batch(config: TrainConfig, arguments: "TrainingArguments", block_size: int) -> None:
    """Set rows per device and accumulation so that a step has batch.tokens tokens.

    Rows per device stay within those that are set, unless auto_find_batch_size looks for them. Raises ConfigError if nothing fits.
    """
    if config.batch.tokens is None:
        return
    plan = plan_batch(
        config.batch.tokens,
        block_size,
        count_devices(arguments),
        config.training.get("per_device_train_batch_size"),
        config.training.get("gradient_accumulation_steps"),
        most_rows=config.batch.tokens if arguments.auto_find_batch_size else arguments.per_device_train_batch_size,
    )
    change_arguments(
        arguments, per_device_train_batch_size=plan.per_device, gradient_accumulation_steps=plan.accumulation
    )


def shrink_batch(arguments: "TrainingArguments", most_rows: int, rows: TrainingRows) -> None:
    """Process at most `most_rows` rows at once and accumulate more passes; a step keeps its rows where they divide."""
    of_step = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    most = max(1, most_rows // max(1, arguments.n_gpu))
    smaller = split_rows(of_step, most, count_devices(arguments), rows.block_size)
    change_arguments(
        arguments, per_device_train_batch_size=smaller.per_device, gradient_accumulation_steps=smaller.accumulation
    )
    rows.set_batch_shape(
        arguments.train_batch_size * arguments.world_size,
        arguments.max_steps * arguments.gradient_accumulation_steps,
        arguments.world_size,
    )


def settle_intervals(arguments: "TrainingArguments", total_steps: int) -> None:
    """Convert intervals given as a fraction of the run into steps, as Trainer would, but the same for a resumed run."""
    shares = {name: getattr(arguments, name) for name in ("logging_steps", "eval_steps", "save_steps")}
    for name, share in shares.items():
        if share is not None and 0 < share < 1:
            change_arguments(arguments, **{name: math.ceil(total_steps * share)})
    if arguments.load_best_model_at_end and shares["save_steps"] < 1 and shares["eval_steps"]:
        # Rounded by themselves they could drift apart, and the best evaluation would have no checkpoint.
        every = max(1, round(shares["save_steps"] / shares["eval_steps"]))
        change_arguments(arguments, save_steps=arguments.eval_steps * every)


def name_of(strategy: object) -> str:
    """The plain name of a strategy or schedule, such as 'steps', which transformers keeps as an enum member."""
    return str(getattr(strategy, "value", strategy))


def name_precision(arguments: "TrainingArguments") -> str:
    """The precision of a training step: `bf16` or `fp16`, both under autocast, or `float32`."""
    return "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "float32"


def count_devices(arguments: "TrainingArguments") -> int:
    """Devices that share a step: one for each process, or all of one process's GPUs under DataParallel."""
    return int(arguments.world_size) * max(1, int(arguments.n_gpu))


def count_rows_per_step(arguments: "TrainingArguments") -> int:
    """Rows of an optimizer step, over all devices and all passes of it."""
    return int(arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps)


def check_optimizer(arguments: "TrainingArguments", model: "PreTrainedModel") -> None:
    """Raise ConfigError if the optimizer or the schedule cannot be built: both are, for a toy parameter."""
    import torch
    from transformers import Trainer, get_scheduler

    toy = torch.nn.Parameter(torch.zeros(1))
    names = ("optim", "optim_args", "lr_scheduler_type", "lr_scheduler_kwargs")
    given = {name: value for name in names if (value := getattr(arguments, name))}
    keys = ", ".join(f"training.{name}={render_value(value)}" for name, value in given.items())
    with explained("no optimizer and schedule of these settings", keys):
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        needs_model = groups_parameters(settings)
        optimizer = torch.optim.SGD([toy]) if needs_model else kind([toy], **settings)
        schedule = get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=1,
            num_training_steps=TOY_STEPS,
            scheduler_specific_kwargs=cast("dict[str, Any] | None", arguments.lr_scheduler_kwargs),
        )
        if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            _check_rates([factor(step) for factor in schedule.lr_lambdas for step in range(TOY_STEPS + 1)])


def count_warmup(arguments: "TrainingArguments", steps: int) -> int:
    """Steps of warm-up in a run of so many; 0 for a schedule that transformers gives none, whatever was asked for."""
    return 0 if name_of(arguments.lr_scheduler_type) in NO_WARMUP else int(arguments.get_warmup_steps(steps))


def build_schedule(arguments: "TrainingArguments", steps: int) -> Callable[[int], float] | None:
    """The learning-rate factor as a function of the step; None for a schedule that depends on a metric."""
    import torch
    from transformers import get_scheduler

    schedule = get_scheduler(
        arguments.lr_scheduler_type,
        optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]),
        num_warmup_steps=count_warmup(arguments, steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=cast("dict[str, Any] | None", arguments.lr_scheduler_kwargs),
    )
    lambdas: list[Callable[[int], float]] = getattr(schedule, "lr_lambdas", [])
    return lambdas[0] if lambdas else None


def _check_rates(factors: list[float | complex]) -> None:
    """Raise ConfigError for a schedule whose factor is complex, NaN or infinite at any step."""
    wrong = [factor for factor in factors if isinstance(factor, complex) or not math.isfinite(factor)]
    if wrong:
        raise ConfigError(
            f"training.lr_scheduler_kwargs: expected factors of the learning rate, found {wrong[0]} with these. Give others."
        )


def _complete(settings: dict[str, Any], has_validation: bool) -> dict[str, Any]:
    """Fill in what follows from other settings: a best model can only be kept where one was saved."""
    import torch

    if not has_validation:
        settings["eval_strategy"] = "no"
    if settings.get("eval_strategy") == "no":
        settings["load_best_model_at_end"] = False
        for name in ("metric_for_best_model", "greater_is_better"):
            settings.pop(name, None)
        settings.setdefault("save_strategy", "steps")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        settings["use_cpu"] = True  # transformers refuses bf16 on a CPU unless this is set
    settings.setdefault("dataloader_pin_memory", torch.cuda.is_available())  # elsewhere torch only warns about it
    if settings["dataloader_pin_memory"] and not settings.get("use_cpu"):
        settings.setdefault(
            "accelerator_config", {"non_blocking": True}
        )  # else each batch waits for the step before it
    settings.setdefault("ddp_find_unused_parameters", False)  # every parameter gets a gradient; searching costs a pass
    settings.setdefault("save_strategy", settings.get("eval_strategy", "steps"))
    if settings["save_strategy"] == "no":
        settings["load_best_model_at_end"] = False
    settings.setdefault("save_steps", settings.get("eval_steps") or 0.1)
    return settings | _follow_metric(settings)


def _follow_metric(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings implied by the metric of the best model: its direction, and the mode of a schedule that follows it.

    Raises ConfigError if the user set the opposite. transformers assumes that greater is better for anything but a loss.
    """
    metric = settings.get("metric_for_best_model") or "loss"
    greater, given = is_greater_better(metric), settings.get("greater_is_better")
    if given is not None and given != greater:
        raise ConfigError(
            f"training.greater_is_better={str(given).lower()}: of training.metric_for_best_model={metric}, "
            f"{'more' if greater else 'less'} is better. Leave greater_is_better out; it follows the metric."
        )
    if settings.get("lr_scheduler_type") not in FOLLOWS_METRIC:
        return {"greater_is_better": greater}
    mode, kwargs = "max" if greater else "min", settings.get("lr_scheduler_kwargs") or {}
    if kwargs.get("mode", mode) != mode:
        raise ConfigError(
            f"training.lr_scheduler_kwargs.mode={kwargs['mode']}: the rate follows training.metric_for_best_model={metric}, of "
            f"which {'more' if greater else 'less'} is better. Leave mode out; it follows the metric."
        )
    return {"greater_is_better": greater, "lr_scheduler_kwargs": {**kwargs, "mode": mode}}
