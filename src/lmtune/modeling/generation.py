"""Continuing prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lmtune.errors import ConfigError

DEFAULT_NEW_TOKENS = 60


def build_generation_config(model: Any, settings: dict[str, Any]) -> Any:
    """GenerationConfig of the model with settings on top; raise ConfigError for values it refuses."""
    import copy

    config = copy.deepcopy(model.generation_config)
    config.update(**{"use_cache": True, **settings})
    try:
        config.validate(strict=True)
    except ValueError as error:
        raise ConfigError(f"generation.*: {' '.join(str(error).split())}") from error
    return config


def generate(model: Any, tokenizer: Any, prompt: str, config: Any, seed: int) -> list[str]:
    """The prompt with its continuation, once per num_return_sequences.

    The same seed gives the same text. The prompt keeps its end where both do not fit the model's positions.
    """
    import torch
    from transformers import set_seed

    room = check_room(model, config)
    ids = tokenizer(prompt, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"][-room:]
    ids = torch.tensor([ids or [tokenizer.bos_token_id or tokenizer.eos_token_id]], device=model.device)
    set_seed(seed)
    try:
        with torch.no_grad():
            rows = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    except (ValueError, TypeError) as error:  # each setting checks itself, some only when they are used
        raise ConfigError(f"generation.*: {' '.join(str(error).split())}") from error
    return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]


def generate_aside(
    model: Any, tokenizer: Any, prompts: Sequence[str], settings: dict[str, Any], seed: int
) -> list[str]:
    """Continue prompts in the middle of training without leaving a trace: weights afterwards are bit-equal.

    Random states of Python, NumPy and torch are put back, as is the model's training mode.
    """
    config = build_generation_config(model, settings)
    with _undisturbed(model):
        return [generate(model, tokenizer, prompt, config, seed)[0] for prompt in prompts]


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    import random

    import numpy as np
    import torch

    was_training, python_state, numpy_state = model.training, random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        model.train(was_training)


def check_room(model: Any, config: Any) -> int:
    """Tokens that a prompt may have; raise ConfigError where the new ones alone fill the model's positions."""
    positions = getattr(model.config, "max_position_embeddings", None)
    new = config.max_new_tokens or DEFAULT_NEW_TOKENS
    if not positions:
        return 10**9
    if new >= positions:
        raise ConfigError(
            f"generation.max_new_tokens={new}: the model has {positions} positions. Give at most {positions - 1}."
        )
    return int(positions) - new
