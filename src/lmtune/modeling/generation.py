"""Continuing prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lmtune.errors import ConfigError, ModelError
from lmtune.foreign import GENERATION
from lmtune.streams import PLAIN_TEXT

DEFAULT_NEW_TOKENS = 60
BEAM_SETTINGS = ("early_stopping", "length_penalty")
OUTPUT_SETTINGS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
"""Of a generation config; transformers refuses to save these without return_dict_in_generate, and those without beams."""
NO_TEXT = frozenset(
    [
        "return_dict_in_generate",
        "output_scores",
        "output_logits",
        "output_attentions",
        "output_hidden_states",
        "compile_config",
        "watermarking_config",
        "assistant_early_exit",
        "continuous_batching_config",
    ]
)
"""Parameters of generate that are not about the text; one of them even changes the model for good."""


def build_generation_config(model: Any, settings: dict[str, Any]) -> Any:
    """GenerationConfig of the model with settings on top; raise ConfigError for values it refuses."""
    import copy

    refused = sorted(NO_TEXT & settings.keys())
    if refused:
        raise ConfigError(
            f"generation.{refused[0]} makes generate return or need something other than text. Leave it out."
        )
    config = copy.deepcopy(model.generation_config)
    with _explained():
        config.update(**{"use_cache": True, **settings})
        config.validate(strict=True)
    return config


def mend_generation_config(model: Any) -> list[str]:
    """Make the model's generation config one that can be saved; say what was changed.

    transformers loads files with a temperature or top_p but without do_sample, as Llama 2 and Vicuna ship them, and refuses
    to save them once an id has changed. What this cannot mend, loading.check_saveable refuses.
    """
    config = getattr(model, "generation_config", None)
    if config is None or _find_fault(config) is None:
        return []
    unset = (*OUTPUT_SETTINGS, *(() if (config.num_beams or 1) > 1 else BEAM_SETTINGS))
    if config.pad_token_id is not None and config.pad_token_id < 0:
        unset += ("pad_token_id",)
    changed = []
    for name, value in [("do_sample", True), *((name, None) for name in unset)]:
        before, fault = getattr(config, name), _find_fault(config)
        setattr(config, name, value)
        if fault is None or _find_fault(config) == fault:
            setattr(config, name, before)
        else:
            changed.append(f"{name}={'unset' if value is None else str(value).lower()}")
    if not changed:
        return []
    return [f"{GENERATION} of the model cannot be saved as it stands; {', '.join(changed)} is used and saved"]


def _find_fault(config: Any) -> str | None:
    try:
        config.validate(strict=True)
    except (ValueError, TypeError, AttributeError) as fault:
        return " ".join(str(fault).split())
    return None


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of GenerationConfig and of generate itself as ours: each setting checks itself, some only when used."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, AssertionError, ImportError) as error:
        raise ConfigError(f"generation.*: {' '.join(str(error).split()) or type(error).__name__}") from error


def generate(model: Any, tokenizer: Any, prompt: str, config: Any, seed: int) -> list[str]:
    """The prompt with its continuation, once per num_return_sequences.

    The same seed gives the same text. The prompt keeps its end where both do not fit the model's positions.
    """
    import torch
    from transformers import LogitsProcessorList, set_seed

    ids = encode_prompt(model, tokenizer, prompt, check_room(model, config))
    set_seed(seed)
    with _explained(), torch.no_grad():
        rows = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            tokenizer=tokenizer,  # for stop_strings
            logits_processor=LogitsProcessorList([check_scores]),
        )
    return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]


def find_next(model: Any, tokenizer: Any, prompt: str, top: int) -> list[tuple[str, float]]:
    """The likeliest next tokens with their probabilities, the likeliest first; no temperature, no filter."""
    import torch

    ids = encode_prompt(model, tokenizer, prompt, getattr(model.config, "max_position_embeddings", None) or 10**9)
    with torch.no_grad():
        scores = model(input_ids=ids, use_cache=False).logits[0, -1].double()
    probabilities = check_scores(ids, scores).softmax(dim=-1)
    best = probabilities.topk(min(top, len(probabilities)))
    return [
        (tokenizer.decode([index]), value)
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def check_scores(ids: Any, scores: Any) -> Any:
    """The scores of the next token, [..., vocabulary], as they are; raise ModelError where they are no numbers.

    ids: [..., tokens] before it. Minus infinity is a number here: settings rule tokens out with it.
    """
    if bool((scores.isnan() | scores.isposinf()).any()):
        raise ModelError(
            f"After {ids.shape[-1]:,} tokens the model gives scores that are no finite numbers, so there is no next token. Its "
            "weights hold NaN or overflow: expected those of a training that went well. Take another checkpoint."
        )
    return scores


def encode_prompt(model: Any, tokenizer: Any, prompt: str, room: int) -> Any:
    """[1, tokens] on the model's device: the end of the prompt that fits, or the token that opens a text for an empty one.

    Raises ModelError for ids that the model does not have.
    """
    import torch

    opening = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = tokenizer(prompt, **PLAIN_TEXT)["input_ids"][-room:] or [opening]
    rows = int(model.get_input_embeddings().weight.shape[0])
    if max(ids) >= rows:
        raise ModelError(
            f"The tokenizer gives ids up to {max(ids):,}, the embedding of the model has {rows:,} rows. "
            "Give a checkpoint whose tokenizer belongs to its weights."
        )
    return torch.tensor([ids], device=model.device)


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
