"""What stands beside TrainingArguments, and what is refused of them."""

from dataclasses import dataclass
from typing import Any

from lmtune import keys
from lmtune.config.checks import require
from lmtune.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    """Where the curves go besides metrics.jsonl."""

    name: str = "none"
    """none, tensorboard, wandb, mlflow or trackio."""
    project: str = "lmtune"


@dataclass(kw_only=True, slots=True)
class EarlyStoppingConfig:
    """When to stop before the last step."""

    patience: int | None = None
    """Evaluations without a better objective before the run stops; off by default."""

    def __post_init__(self) -> None:
        require(self.patience is None or self.patience >= 1, "early_stopping.patience", self.patience, "1 or more")


@dataclass(kw_only=True, slots=True)
class BatchConfig:
    """How much text goes into one optimizer step."""

    tokens: int | None = None
    """Over all devices; rows per device and accumulation follow from it. By default training.* says both."""

    def __post_init__(self) -> None:
        require(self.tokens is None or self.tokens >= 1, "batch.tokens", self.tokens, "1 or more")


@dataclass(kw_only=True, slots=True)
class SamplesConfig:
    """Texts written by the model while it learns."""

    enabled: bool = True
    show: int = 1
    """How many of them appear on stderr at each evaluation; all of them are in samples.md."""
    seed: int = 0
    """Of the samples alone: they neither read nor touch the random numbers of the training."""


LEAST_VALUES = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
}
"""Of training arguments that transformers takes as they come and stumbles over later."""


def check_training(training: dict[str, Any]) -> None:
    """Raise ConfigError for names, types and values that cannot work, and for what would change what numbers mean."""
    known = keys.load_training_fields()
    keys.check_names(training, known, "training.")
    keys.check_types(training, known, "training.")
    for name, least in LEAST_VALUES.items():
        value = training.get(name)
        require(value is None or value >= least, f"training.{name}", value, f"at least {least}")
    steps = training.get("max_steps")
    require(
        steps is None or steps == -1 or steps >= 1, "training.max_steps", steps, "at least 1, or -1 for whole epochs"
    )
    for name in ("eval_steps", "save_steps", "logging_steps", "num_train_epochs"):
        value = training.get(name)
        require(value is None or value > 0, f"training.{name}", value, "more than 0")
    if training.get("hub_token") is not None:
        raise ConfigError(
            "training.hub_token would be written into config.yaml; expected no secret on the command line. "
            "Set the environment variable HF_TOKEN instead."
        )
    for name in ("do_train", "do_eval"):
        if training.get(name) is False:
            raise ConfigError(
                f"training.{name}=false: lmtune train trains and evaluates. To evaluate alone: lmtune eval ckpt=..."
            )
    for name in ("fp16_full_eval", "bf16_full_eval"):
        if training.get(name):
            raise ConfigError(
                f"training.{name}=true: held-out text is scored in float32, so that numbers compare. Leave it out."
            )
    if training.get("label_smoothing_factor"):
        raise ConfigError(
            "training.label_smoothing_factor is not supported: it would change what the loss means. Leave it out."
        )
