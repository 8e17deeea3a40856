"""What would fail only later in a training, tried before there is a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lmtune.errors import ConfigError, LmtuneError, describe_error
from lmtune.training.memory import is_out_of_memory

TOKENS = 8
OF_TRANSFORMERS = ("every_n_layers", "offload")
"""Of the settings of activation checkpointing, those that Trainer takes out; torch.utils.checkpoint takes the others."""


@contextmanager
def explained(what: str = "Trainer does not start with these settings") -> Iterator[None]:
    """Whatever the libraries raise for settings that they do not take, as one of ours; `what` fails then."""
    try:
        yield
    except LmtuneError:
        raise
    except Exception as error:  # of all kinds: KeyError for a log level, ImportError for a package, OSError for a file
        if is_out_of_memory(error):
            raise
        raise ConfigError(f"training.*: {what}: {describe_error(error).rstrip('.')}.") from error


def try_training(trainer: Any) -> None:
    """Build what the first step will need; raise what that raises. Weights and random numbers stay as they are."""
    trainer.get_train_dataloader()
    if trainer.args.activation_checkpointing and trainer.args.activation_checkpointing_kwargs:
        _try_checkpointing(trainer.model, trainer.args.activation_checkpointing_kwargs)


def _try_checkpointing(model: Any, settings: dict[str, Any]) -> None:
    """Take a few tokens through the model and back with activations computed twice: the settings are read only then."""
    import torch

    was_training = model.training
    ids = torch.arange(TOKENS, device=model.device)[None] % model.get_input_embeddings().weight.shape[0]
    model.train()
    for_torch = {name: value for name, value in settings.items() if name not in OF_TRANSFORMERS}
    model.activation_checkpointing_enable(
        for_torch or None, **{name: value for name, value in settings.items() if name in OF_TRANSFORMERS}
    )
    try:
        with torch.random.fork_rng():
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    finally:
        model.activation_checkpointing_disable()
        model.zero_grad(set_to_none=True)
        model.train(was_training)
