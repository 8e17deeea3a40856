"""Continuing prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lmtune.config.generation import SAMPLING, TOKEN_IDS, check_generation, take_floats
from lmtune.errors import ConfigError, ModelError
from lmtune.streams import PLAIN_TEXT

DEFAULT_NEW_TOKENS = 60


def build_generation_config(model: Any, settings: dict[str, Any]) -> Any:
    """GenerationConfig of the model with settings on top; raise ConfigError for values it refuses.

    What the settings contradict gives way, lmtune's own defaults and the model's alike: without sampling nothing shapes it,
    and a length of the whole text takes the place of one of the new tokens.
    """
    import copy

    check_generation(settings)
    _check_ids(model, settings)
    settings = take_floats(settings)
    config = copy.deepcopy(model.generation_config)
    if settings.get("max_length") is not None and settings.get("max_new_tokens") is None:
        config.max_new_tokens = None
    with _explained():
        if settings.get("do_sample") is False:
            settings = {name: value for name, value in settings.items() if name not in SAMPLING}
            for name in SAMPLING:
                setattr(config, name, None)
        config.update(**{"use_cache": True, **settings})
        config.validate(strict=True)
    return config


def _check_ids(model: Any, settings: dict[str, Any]) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    for name in TOKEN_IDS:
        given = settings.get(name)
        beyond = [each for each in (given if isinstance(given, list) else [given]) if each is not None and each >= rows]
        if beyond:
            raise ConfigError(
                f"generation.{name}={beyond[0]}: the model's vocabulary has {rows:,} entries. Give at most {rows - 1}."
            )


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of GenerationConfig and of generate itself as ours: each setting checks itself, some only when used."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, AssertionError, ImportError) as error:
        raise ConfigError(f"generation.*: {' '.join(str(error).split()) or type(error).__name__}") from error
    except RuntimeError as error:
        if "probability tensor" not in str(error):  # torch.multinomial's words
            raise
        raise ConfigError(
            "generation.*: with these settings nothing is left to draw from (nan). Bring temperature, guidance_scale and penalties "
            "nearer to 1."
        ) from error


def generate(model: Any, tokenizer: Any, prompt: str, config: Any, seed: int) -> list[str]:
    """The prompt with its continuation, once per num_return_sequences.

    The same seed gives the same text. The prompt keeps its end where both do not fit the model's positions.
    """
    import torch
    from transformers import set_seed

    ids = encode_prompt(model, tokenizer, prompt, check_room(model, config))
    _check_length(config, ids)
    _predict(model, ids)
    set_seed(seed)
    with _explained(), torch.no_grad():
        # The tokenizer is for stop_strings.
        rows = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config, tokenizer=tokenizer)
    return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]


def find_next(model: Any, tokenizer: Any, prompt: str, top: int) -> list[tuple[str, float]]:
    """The likeliest next tokens with their probabilities, the likeliest first; no temperature, no filter."""

    ids = encode_prompt(model, tokenizer, prompt, getattr(model.config, "max_position_embeddings", None) or 10**9)
    probabilities = _predict(model, ids).double().softmax(dim=-1)
    best = probabilities.topk(min(top, len(probabilities)))
    return [
        (tokenizer.decode([index]), value)
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _predict(model: Any, ids: Any) -> Any:
    """[vocabulary] logits of the next token; raise ModelError where they are no numbers, which sampling would stumble over."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, -1]
    if torch.isnan(logits).any():
        raise ModelError(
            "What the model expects after the prompt is not a number (nan), so it can write nothing. Its weights are damaged, or a "
            "training broke them: take an earlier checkpoint."
        )
    return logits


def encode_prompt(model: Any, tokenizer: Any, prompt: str, room: int) -> Any:
    """[1, tokens] on the model's device: the end of the prompt that fits, or the token that opens a text for an empty one."""
    import torch

    ids = tokenizer(prompt, **PLAIN_TEXT)["input_ids"][-room:]
    opening = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return torch.tensor([ids or [opening]], device=model.device)


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


def check_prompts(model: Any, tokenizer: Any, prompts: Sequence[str], config: Any) -> None:
    """Raise ConfigError for the first prompt that leaves no room for a text."""
    room = check_room(model, config)
    for prompt in prompts:
        _check_length(config, encode_prompt(model, tokenizer, prompt, room))


def _check_length(config: Any, ids: Any) -> None:
    if config.max_new_tokens is None and config.max_length is not None and ids.shape[1] >= config.max_length:
        raise ConfigError(
            f"generation.max_length={config.max_length}: expected more than the {ids.shape[1]} tokens of the prompt, which it "
            "counts too. Raise it, or give generation.max_new_tokens=."
        )


def check_room(model: Any, config: Any) -> int:
    """Tokens that a prompt may have; raise ConfigError where the new ones alone fill the model's positions."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not positions:
        return 10**9
    if config.max_new_tokens is None and config.max_length is not None:
        if config.max_length > positions:
            raise ConfigError(
                f"generation.max_length={config.max_length}: the model has {positions} positions. Give at most {positions}."
            )
        return int(positions) - 1
    new = config.max_new_tokens or DEFAULT_NEW_TOKENS
    if new >= positions:
        raise ConfigError(
            f"generation.max_new_tokens={new}: the model has {positions} positions. Give at most {positions - 1}."
        )
    return int(positions) - new
