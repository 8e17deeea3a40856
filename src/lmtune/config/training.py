"""The sections of a training besides TrainingArguments, and the checks of `training.*`."""

import importlib.util
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmtune import upstream
from lmtune.config.conditions import evaluation_strategy_of, saving_strategy_of, setting
from lmtune.config.finetune import FinetuneMethod
from lmtune.config.keys import Plain, count, number, seed
from lmtune.config.optimizers import TORCHAO
from lmtune.config.ranges import check_number, check_ranges, render_value
from lmtune.config.training_arguments import ACCELERATE, ARGUMENTS, RECOMPUTING, Argument, load_fields, works
from lmtune.config.value_types import check_types
from lmtune.errors import ConfigError
from lmtune.measures import MEASURES
from lmtune.versions import render_install

if TYPE_CHECKING:
    from lmtune.config.train import TrainConfig


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    """Experiment trackers, which get the curves besides metrics.jsonl."""

    name: Any = "none"
    """Experiment trackers: none, or one or several of tensorboard, wandb, mlflow, trackio and codecarbon:
    `tracker=[tensorboard,wandb]`."""
    project: str = "lmtune"
    """Project in trackio, in Weights & Biases unless `WANDB_PROJECT` is set, and, as the name of an experiment, in MLflow unless
    `MLFLOW_EXPERIMENT_NAME` is set."""

    def check(self) -> None:
        """Raise ConfigError for anything but names of trackers, and for `none` beside others."""
        given = self.name
        sound = isinstance(given, str) or (isinstance(given, list) and all(isinstance(each, str) for each in given))
        if not sound or given == [] or (isinstance(given, list) and len(given) > 1 and "none" in given):
            raise ConfigError(
                f"tracker={render_value(given)}: expected none, the name of a tracker, or several in a list, such as "
                "tracker=[tensorboard,wandb]."
            )

    @property
    def names(self) -> list[str]:
        """The trackers, in the order given; [] for none."""
        given = self.name if isinstance(self.name, list) else [self.name]
        return [] if given == ["none"] else given


@dataclass(kw_only=True, slots=True)
class EarlyStoppingConfig:
    """When to stop before the last step."""

    patience: int | None = count(None, least=1)
    """Stop after this many evaluations without a better value of `training.metric_for_best_model`; off by default."""

    def __post_init__(self) -> None:
        check_ranges(self, "early_stopping.")


@dataclass(kw_only=True, slots=True)
class AverageConfig:
    """Averaging of the weights over the end of the training."""

    last: float | None = number(None, above=0, most=1)
    """Average the weights over this last share of the steps, such as `0.2`. The average is scored at the end beside the weights
    that the run would end with, and the better of the two is kept; off by default."""

    def __post_init__(self) -> None:
        check_ranges(self, "average.")


@dataclass(kw_only=True, slots=True)
class BatchConfig:
    """How much text goes into one optimizer step."""

    tokens: int | None = count(None, least=1, largest=2**53)
    """Tokens per optimizer step, over all devices, from which rows per device and accumulation follow. By default `training.*` sets
    both."""

    def __post_init__(self) -> None:
        check_ranges(self, "batch.")


@dataclass(kw_only=True, slots=True)
class SamplesConfig:
    """Texts that the model writes during training."""

    enabled: bool = True
    """Write samples at each evaluation."""
    show: int = count(1)
    """Samples shown on stderr at each evaluation; samples.md has all of them."""
    seed: int = seed(0)
    """Seed of the samples, which neither read nor change the random state of the training."""

    def __post_init__(self) -> None:
        check_ranges(self, "samples.")


RECOMPUTING_KEYS = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")


def is_greater_better(metric: str) -> bool:
    """True for a measure that grows as the model learns."""
    measure = MEASURES.get(metric.removeprefix("eval_"))
    return measure is not None and measure.greater_is_better


def settle_training(training: Plain) -> None:
    """Set greater_is_better from the metric of the best model: transformers takes more for better unless the metric is a loss.

    Betas become floats: torch refuses a pair of which one was typed as 0.
    """
    for name in ("adam_beta1", "adam_beta2"):
        if training.get(name) is not None:
            training[name] = float(training[name])
    for name in RECOMPUTING_KEYS:
        if isinstance(training.get(name), dict):
            training[name].setdefault(
                "use_reentrant", False
            )  # the default if no key is given; torch demands one of the two
    metric = training.get("metric_for_best_model")
    if isinstance(metric, str):
        training.setdefault("greater_is_better", is_greater_better(metric))


def check_training(training: Plain) -> None:
    """Raise ConfigError for names, types and values that cannot work, and for settings that would change the meaning of numbers."""
    known = load_fields()
    for name in training.keys() & (ARGUMENTS.keys() - known):
        raise ConfigError(
            f"training.{name}: the installed transformers has none yet, newer ones have. Leave it out, or upgrade."
        )
    upstream.check_names(training, known, "training.")
    check_types(training, known, "training.")
    for name, value in training.items():
        if value is not None:
            check_argument(name, value, ARGUMENTS.get(name, works()))
    for name in ("accelerator_config", "lr_scheduler_kwargs", *RECOMPUTING_KEYS):
        if isinstance(training.get(name), str):
            raise ConfigError(
                f"training.{name}={training[name]}: expected its keys, found a text. Write training.{name}={{key:value}}."
            )
    check_accelerator(training.get("accelerator_config") or {})
    if training.get("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"training.deepspeed={render_value(training['deepspeed'])}: expected the package deepspeed, found none installed. "
            "pip install deepspeed, or leave it out."
        )
    for name in RECOMPUTING_KEYS:
        upstream.check_names(training.get(name) or {}, RECOMPUTING, f"training.{name}.")
    pairs = str(training.get("optim_args") or "a=1").split(",")
    if not all(re.fullmatch(r"\s*\w+\s*=[^=]+", pair) for pair in pairs):
        raise ConfigError(
            f"training.optim_args={training['optim_args']}: expected name=value,name=value, such as momentum=0.9."
        )
    if training.get("torch_compile") is False and (named := _find_compile_setting(training)):
        raise ConfigError(
            f"training.{named} asks for torch.compile, and training.torch_compile=false does not. Leave one of them out."
        )


def check_argument(name: str, value: object, argument: Argument) -> None:
    """Raise ConfigError for a value that is out of range, not among the choices, or refused."""
    key = f"training.{name}"
    if argument.range is not None:
        check_number(key, value, argument.range)
    choices = argument.words
    for word in _words(value) if choices else ():
        if word in argument.unfit:
            raise ConfigError(f"{key}={word}: {argument.unfit[word]}")
        if word not in choices:
            taken = [each for each in choices if each not in argument.unfit]
            raise ConfigError(" ".join(filter(None, [upstream.explain_word(key, word, taken), argument.remedy])))
    if argument.contradicts and value not in argument.harmless:
        raise ConfigError(render_refusal(name, value, argument))


def check_accelerator(given: Plain) -> None:
    """Raise ConfigError for names that accelerate does not have, and for settings that would change batches or their order."""
    upstream.check_names(given, upstream.load_accelerator_fields(), "training.accelerator_config.")
    for name, (usual, reason) in ACCELERATE.items():
        if given.get(name, usual) not in (usual, None):
            raise ConfigError(
                f"training.accelerator_config.{name}={render_value(given[name])}: {reason}. Leave it out."
            )
    if "num_steps" in (given.get("gradient_accumulation_kwargs") or {}):
        raise ConfigError(
            "training.accelerator_config.gradient_accumulation_kwargs.num_steps: steps are accumulated by "
            "training.gradient_accumulation_steps=. Give that instead."
        )


def check_best(config: "TrainConfig") -> None:
    """Raise ConfigError if evaluations have no checkpoint, so that the best model could not be kept."""
    evaluation, saving = evaluation_strategy_of(config), saving_strategy_of(config)
    if not config.training.get("load_best_model_at_end") or "no" in (evaluation, saving) or saving == "best":
        return
    if evaluation != saving:
        raise ConfigError(
            "training.load_best_model_at_end=true: expected a checkpoint at each evaluation, found "
            f"training.eval_strategy={evaluation} and training.save_strategy={saving}. Give both the same, {_NOT_BEST}"
        )
    every = setting(config, "eval_steps") or setting(config, "logging_steps")
    saved = setting(config, "save_steps") or every
    if evaluation == "steps" and every is not None:
        _check_intervals(every, saved)


_NOT_BEST = "or training.load_best_model_at_end=false."


def _check_intervals(every: float, saved: float) -> None:
    """Raise ConfigError unless there is an evaluation at each checkpoint. every, saved: steps, or shares of the run."""
    if (every < 1) != (saved < 1):
        raise ConfigError(
            f"training.save_steps={saved}: expected {'a share of the run' if every < 1 else 'a number of steps'}, as "
            f"training.eval_steps={every} is, so that there is an evaluation at each checkpoint. Give both alike, {_NOT_BEST}"
        )
    times = round(saved / every)
    if times < 1 or abs(saved / every - times) > 1e-6:
        raise ConfigError(
            f"training.save_steps={saved}: expected a multiple of training.eval_steps={every}, so that there is an evaluation at "
            f"each checkpoint. Give training.save_steps={every * max(1, times)}, {_NOT_BEST}"
        )


def check_schedule_free(config: "TrainConfig") -> None:
    """Raise ConfigError for what an optimizer that averages the weights does not go with, or if its package is missing."""
    if not config.averages_itself:
        return
    optim, found = config.training["optim"], None
    if config.average.last is not None:
        found = "average.last, which would average the weights between which this optimizer's own average lies"
    elif config.finetune.method is FinetuneMethod.gradual:
        found = "finetune=gradual, whose momentum changes from step to step, and the average depends on it"
    elif config.training.get("deepspeed"):
        found = "training.deepspeed, which keeps the weights in an order of its own"
    elif config.training.get("adam_beta1") == 0:
        found = "training.adam_beta1=0, with which no average can be told from the weights"
    if found is not None:
        raise ConfigError(f"training.optim={optim}: expected settings that it goes with, found {found}. Leave one out.")
    if importlib.util.find_spec("schedulefree") is None:
        raise ConfigError(
            f"training.optim={optim} needs the package schedulefree, which is not installed. {render_install('schedulefree')}"
        )


def check_phased_optimizer(config: "TrainConfig") -> None:
    """Raise ConfigError for finetune=gradual with an optimizer that would be compiled anew at each step."""
    optim, momentum = setting(config, "optim"), config.finetune.momentum
    if optim in TORCHAO and config.finetune.method is FinetuneMethod.gradual and len(set(momentum)) > 1:
        raise ConfigError(
            f"training.optim={optim}: expected one momentum for all steps, since they are compiled for each anew, found "
            f"finetune.momentum={render_value(momentum)} of finetune=gradual. Give finetune.momentum=[0.9,0.9], or choose another "
            "optimizer, such as adamw_torch."
        )


def render_refusal(name: str, value: object, argument: Argument) -> str:
    """Why a training argument is refused; a secret is not repeated."""
    shown = "" if name.endswith("_token") else f"={render_value(value)}"
    return f"training.{name}{shown}: {argument.refusal}"


def _words(value: object) -> list[str]:
    if isinstance(value, bool):
        return []
    return [str(word) for word in value] if isinstance(value, list) else str(value).split()


def _find_compile_setting(training: Plain) -> str | None:
    return next((name for name in ("torch_compile_backend", "torch_compile_mode") if training.get(name)), None)
