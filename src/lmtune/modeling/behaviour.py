"""Properties of a model found by running it on a few tokens: neither its class nor its signature tells."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lmtune.errors import ConfigError, first_line
from lmtune.foreign import CONFIG, Source
from lmtune.modeling.device import fork_random_state
from lmtune.modeling.layers import embedding_weight

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOKENS = 8
TOLERANCE = 1e-4
"""How far logits may differ, relative to their standard deviation, and still count as the same; rounding moves them by 1e-6."""


def check_causal(model: PreTrainedModel, source: Source) -> None:
    """Raise the source's error for a model whose logits at a position depend on later tokens, or that does not run."""
    import torch

    ids = choose_ids(model, TOKENS + 1)
    other = torch.cat([ids[:, : TOKENS - 1], ids[:, TOKENS:]], dim=1)
    try:
        before, after = (run(model, each)[:, :-1] for each in (ids[:, :TOKENS], other))
    except Exception as fault:  # each architecture fails in its own way
        raise source.error(
            f"{source}: {type(model).__name__} does not run on {TOKENS} tokens ({first_line(fault)}), expected a causal language "
            f"model that continues text without anything else. Mend its {CONFIG}, or take another model."
        ) from fault
    if moved(before, after):
        remedy = (
            f"Set is_decoder to true in its {CONFIG} if it was trained as a decoder; otherwise take a causal model."
            if getattr(model.config, "is_decoder", None) is False
            else "Take a causal model."
        )
        raise source.error(
            f"{source}: {type(model).__name__} is not causal here: its logits at a place move with the token behind it, so that it "
            f"would be scored on what it sees already. Expected a model that sees only what stands before. {remedy}"
        )


def check_isolation(model: PreTrainedModel) -> None:
    """Raise ConfigError for a model that lets documents of a row see each other, whatever positions it is given."""
    import torch

    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise ConfigError(
            f"data.isolate_documents=true: {type(model).__name__} takes no position_ids, so documents of a row cannot be kept "
            "apart. Leave it out."
        )
    half = TOKENS // 2
    ids = choose_ids(model, TOKENS + half)
    positions = torch.arange(half, device=ids.device).repeat(2)[None]
    other = torch.cat([ids[:, TOKENS:], ids[:, half:TOKENS]], dim=1)
    before, after = (run(model, each, position_ids=positions)[:, half:] for each in (ids[:, :TOKENS], other))
    if moved(before, after) or moved(before, run(model, ids[:, half:TOKENS])):
        raise ConfigError(
            f"data.isolate_documents=true: in {type(model).__name__} a document still sees the one before it in its row, as a "
            "trial shows: its logits are not those that it has alone. Leave it out."
        )


def choose_ids(model: PreTrainedModel, count: int) -> torch.Tensor:
    """[1, count] int64: different ids, none of them special, as far as the vocabulary allows."""
    import torch

    embedding = embedding_weight(model)
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    special = {each for name in names for each in _list(getattr(model.config, name, None))}
    ids = list(itertools.islice((each for each in range(embedding.shape[0]) if each not in special), count)) or [0]
    return torch.tensor([(ids * count)[:count]], device=embedding.device)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def run(model: PreTrainedModel, ids: torch.Tensor, **settings: Any) -> torch.Tensor:
    """Logits [rows, positions, vocabulary] of ids [rows, positions], as the model's class computes them in evaluation mode."""
    with trying(model):
        return type(model).forward(model, input_ids=ids, use_cache=False, **settings).logits


def moved(before: torch.Tensor, after: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    """True if two tensors of logits differ by more than rounding. False if one is not finite: other checks find that.

    tolerance: relative to their standard deviation.
    """
    import torch

    if not (torch.isfinite(before).all() and torch.isfinite(after).all()):
        return False
    spread = before.double().std().clamp(min=1e-30)
    return bool((before.double() - after.double()).abs().max() > tolerance * spread)


@contextmanager
def trying(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients and from a fixed seed; training mode and random states are restored afterwards."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), fork_random_state(model):
            torch.manual_seed(0)
            yield
    finally:
        model.train(was_training)
