"""Parts of a training that would fail only later, tried before there is a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from lmtune.errors import ConfigError, LmtuneError, describe_error
from lmtune.modeling.device import fork_random_state
from lmtune.modeling.layers import count_rows
from lmtune.modeling.out_of_memory import is_out_of_memory
from lmtune.storage import Record
from lmtune.versions import disable_checkpointing, enable_checkpointing, get_argument

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

TOKENS = 8
OF_TRANSFORMERS = ("every_n_layers", "offload")
"""Settings of activation checkpointing that Trainer reads; torch.utils.checkpoint gets the others."""


@contextmanager
def explained(what: str = "Trainer does not start with these settings", keys: str = "training.*") -> Iterator[None]:
    """Turn any error of the libraries into a ConfigError that names `keys` and says `what` is wrong with them."""
    try:
        yield
    except LmtuneError:
        raise
    except Exception as error:  # of all kinds: KeyError for a log level, ImportError for a package, OSError for a file
        if is_out_of_memory(error):
            raise
        raise ConfigError(f"{keys}: {what}: {describe_error(error).rstrip('.')}.") from error


def try_training(trainer: "Trainer") -> None:
    """Build what the first step will need; raise what that raises. Weights and random states stay as they are."""
    trainer.get_train_dataloader()
    settings = get_argument(trainer.args, "activation_checkpointing_kwargs")
    if get_argument(trainer.args, "activation_checkpointing") and settings:
        _try_checkpointing(cast("PreTrainedModel", trainer.model), cast("Record", settings))


def _try_checkpointing(model: "PreTrainedModel", settings: Record) -> None:
    """Run a forward and backward pass of a few tokens with activation checkpointing: its settings are read only then."""
    import torch

    was_training = model.training
    ids = torch.arange(TOKENS, device=model.device)[None] % count_rows(model)
    model.train()
    for_torch = {name: value for name, value in settings.items() if name not in OF_TRANSFORMERS}
    enable_checkpointing(
        model, for_torch or None, **{name: value for name, value in settings.items() if name in OF_TRANSFORMERS}
    )
    try:
        with fork_random_state(model):
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    finally:
        disable_checkpointing(model)
        model.zero_grad(set_to_none=True)
        model.train(was_training)
