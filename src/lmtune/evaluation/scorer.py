"""From ids to the negative log-likelihood of chosen tokens, without keeping logits.

The body of the model runs over whole windows; its head only over the places that are scored, a chunk of rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from lmtune.errors import ModelError, first_line
from lmtune.modeling import probe
from lmtune.modeling.behaviour import TOKENS, choose_ids
from lmtune.modeling.layers import below_adapter, count_rows
from lmtune.versions import find_precision_switches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNSCORED = -1
"""Target of a place that is only context."""
CHUNK_BYTES = {"cpu": 16 << 20}
"""Logits held at once, in float32: 83 rows of GPT-2 on a CPU. Four times as many made a window 8 % faster there."""
ACCELERATOR_CHUNK_BYTES = 512 << 20


class TokenScores(NamedTuple):
    """Scores of the scored tokens of a batch, row by row."""

    nll: np.ndarray
    """[scored] float64: negative log-likelihood, in nats."""
    correct: np.ndarray
    """[scored] bool: the model ranks the token first."""


Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model in evaluation mode and in one precision, as `open_scorer` yields it."""

    device: torch.device
    body: Forward
    """From ids [rows, places] to the input of the head [rows, places, features], or to logits where `head` is none."""
    head: Forward
    """From that input at the scored places [scored, features] to their logits [scored, vocabulary]."""
    vocabulary: int

    def score(self, inputs: np.ndarray, targets: np.ndarray) -> TokenScores:
        """Score `targets` [rows, places], each predicted from the inputs [rows, places] up to its own place.

        Places with the target UNSCORED are context. Shorter rows may be padded on their right with any id, which no earlier
        place sees. Losses may be NaN or infinite: the caller checks.
        """
        wanted = torch.from_numpy(targets.astype(np.int64, copy=False)).to(self.device)
        ids = torch.from_numpy(inputs.astype(np.int64, copy=False)).to(self.device)
        places = wanted != UNSCORED
        features, goals = self.body(ids)[places], wanted[places]
        rows = max(1, CHUNK_BYTES.get(self.device.type, ACCELERATOR_CHUNK_BYTES) // (4 * self.vocabulary))
        parts = [
            _score_rows(self.head(some), goal)
            for some, goal in zip(features.split(rows), goals.split(rows), strict=True)
        ]
        losses, correct = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        return TokenScores(losses.astype(np.float64), correct)


@contextmanager
def open_scorer(model: PreTrainedModel, dtype: str = "float32") -> Iterator[Scorer]:
    """A scorer for any causal language model, in `dtype` without autocast or TF32; the softmax is at least float32.

    Random states, training mode and weights are as before afterwards. Models whose head is not a plain linear, or that
    scale or cap its logits (Gemma 2, Cohere, Granite), make all logits of a batch.
    """
    # accelerate hides autocast inside model.forward; its own record of the original is used instead.
    original, loaded_dtype = getattr(model, "_original_forward", model.forward), model.dtype
    with _evaluating(model), _exact_products(), _cast(model, getattr(torch, dtype)), ExitStack() as stack:
        stack.enter_context(plain_experts(model, dtype))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(model.device.type, enabled=False))
        if model.dtype != loaded_dtype:
            check_runs(model, dtype)
        plain = find_plain_head(model)
        vocabulary = count_rows(model)
        if plain is None:
            yield Scorer(model.device, lambda ids: original(input_ids=ids, use_cache=False).logits, _same, vocabulary)
        else:
            yield Scorer(model.device, plain.body, plain.head, vocabulary)


def check_runs(model: PreTrainedModel, dtype: str) -> None:
    """Raise ModelError for a model that fails on eight tokens in `dtype`: some classes hold constants of another precision."""
    try:
        getattr(model, "_original_forward", model.forward)(input_ids=choose_ids(model, TOKENS), use_cache=False)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError) as fault:
        raise ModelError(
            f"{type(model).__name__} does not run on {TOKENS} tokens with eval.dtype={dtype} ({first_line(fault)}). Expected "
            "a model whose class works in that precision. Take another: eval.dtype=float32 is that of nearly all models."
        ) from fault


class PlainHead(NamedTuple):
    """A model taken apart at its head."""

    body: Forward
    head: Forward


def find_plain_head(model: PreTrainedModel) -> PlainHead | None:
    """The body and the head of a model whose logits are head(body(ids)), None for any other."""
    inner = below_adapter(model)
    if probe.find_obstacle(inner) is not None:
        return None

    def body(ids: torch.Tensor) -> torch.Tensor:
        return inner.base_model(input_ids=ids, use_cache=False).last_hidden_state

    return PlainHead(body, inner.get_output_embeddings())


def _same(logits: torch.Tensor) -> torch.Tensor:
    return logits


def _score_rows(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(nll, correct) of rows of logits [rows, vocabulary], which are overwritten.

    In place, since a second copy would double the memory; the largest logit goes first, since GPT-2's lie near -100,
    where float32 has steps of 8e-6.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    largest, ranked_first = logits.max(dim=-1)
    chosen = logits.gather(-1, targets[:, None])[:, 0] - largest
    return logits.sub_(largest[:, None]).exp_().sum(dim=-1).log_() - chosen, ranked_first == targets


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode, so without dropout; the training mode is restored afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def plain_experts(model: PreTrainedModel, dtype: str) -> Iterator[None]:
    """In float64, compute the experts of a mixture one by one: torch's grouped_mm, for all at once, does not take float64."""
    inner = below_adapter(model)
    before = getattr(inner.config, "_experts_implementation", None)
    if dtype != "float64" or before in (None, "eager"):
        yield
        return
    inner.set_experts_implementation("eager")
    try:
        yield
    finally:
        inner.set_experts_implementation(before)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Float32 products in float32, not in TF32 or bfloat16."""
    switches, exact = find_precision_switches()
    before = [(place, name, getattr(place, name)) for place, name in switches]
    _turn([(place, name, exact) for place, name in switches])
    try:
        yield
    finally:
        _turn(before)


def _turn(switches: Sequence[tuple[Any, str, object]]) -> None:
    for place, name, value in switches:
        setattr(place, name, value)


@contextmanager
def _cast(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """The weights in another precision for a while; buffers such as rotary frequencies stay, as in a loaded model."""
    others = [weight for weight in model.parameters() if weight.is_floating_point() and weight.dtype != dtype]
    kept = [weight.data for weight in others]
    for weight in others:
        weight.data = weight.data.to(dtype)
    try:
        yield
    finally:
        for weight, data in zip(others, kept, strict=True):
            weight.data = data
