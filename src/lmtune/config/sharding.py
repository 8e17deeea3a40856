"""What goes beside training.fsdp=true: settings that were tried with weights spread over processes."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmtune.config.conditions import setting
from lmtune.config.finetune import FinetuneMethod
from lmtune.config.ranges import render_value
from lmtune.errors import ConfigError
from lmtune.versions import find_older

if TYPE_CHECKING:
    from lmtune.config.train import TrainConfig

ELEMENTWISE = ("adamw_torch_fused", "adamw_torch", "sgd")
"""Optimizers that change a weight by what belongs to it alone, so that each process can change its part; those that were tried."""

UNTRIED = (
    "fp16",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
    "deepspeed",
    "use_liger_kernel",
    "auto_find_batch_size",
    "neftune_noise_alpha",
    "debug",
)
"""Training arguments that would change how weights lie, or read them where they are not whole."""


TRANSFORMERS = "5.23"
"""First version whose Trainer leaves a sharded model as it is."""


def check_sharding(config: "TrainConfig") -> None:
    """Raise ConfigError for settings that were not tried with spread weights, and for accelerate's way of spreading them."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1"):
        raise ConfigError(
            "Expected whole weights on each device, or weights that lmtune spreads itself, found ACCELERATE_USE_FSDP in the "
            "environment: what accelerate spreads, lmtune neither evaluates nor saves. Start with torchrun, without that variable, "
            "and give training.fsdp=true."
        )
    untried = list(_list_untried(config)) if config.training.get("fsdp") else []
    if untried:
        raise ConfigError(
            f"training.fsdp=true has not been tried with {', '.join(untried)}, expected settings that have. Leave "
            f"{'them' if len(untried) > 1 else 'it'} out, or training.fsdp."
        )


def refuse_sharding(config: "TrainConfig", command: str) -> None:
    """Raise ConfigError for a command that tries steps of a training, and has not been tried with spread weights."""
    if config.training.get("fsdp"):
        raise ConfigError(
            f"training.fsdp=true: expected whole weights, since {command} does not spread them. Give training.fsdp=false; "
            "lmtune train spreads them."
        )


def _list_untried(config: "TrainConfig") -> Iterator[str]:
    training = config.training
    yield from (f"training.{name}={render_value(training[name])}" for name in UNTRIED if training.get(name))
    if (older := find_older("transformers", TRANSFORMERS)) is not None:
        yield f"transformers {older} (but with {TRANSFORMERS} and newer)"
    if setting(config, "optim") not in ELEMENTWISE:
        yield f"training.optim={training['optim']} (but with {', '.join(ELEMENTWISE)})"
    if config.eval.dtype.value != "float32":
        yield f"eval.dtype={config.eval.dtype.value} (score the saved model with lmtune eval)"
    if config.finetune.method is FinetuneMethod.lora and config.finetune.embeddings:
        yield "finetune.embeddings=true"
