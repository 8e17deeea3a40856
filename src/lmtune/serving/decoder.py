"""Forward passes of a model over rows of different lengths that join and leave at any step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

import torch

from lmtune.modeling.behaviour import choose_ids, moved
from lmtune.serving.cache import RowCache, count_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


TOLERANCE = 1e-2
"""How far logits may differ in the trial, relative to their standard deviation: with a cache, rounding moves those of a
model of 135M parameters by 1.4e-4, a wrong position or a leaking mask by far more."""


class Decoder:
    """A model with the keys and values of its rows.

    A single row is computed as by model.generate, bit for bit: without a mask.
    """

    def __init__(self, model: PreTrainedModel, depth: int) -> None:
        self.model = model
        self._depth = depth
        self._cache = RowCache(depth, [])
        self.values_of_token = 0
        """Numbers cached per token of a row; known once a row has joined."""
        names = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in names
        self._remembers = "past_key_values" if "past_key_values" in names else "cache"  # renamed in transformers 5.24
        self._last_alone = {"logits_to_keep": 1} if "logits_to_keep" in names else {}

    def join(self, prompts: list[list[int]]) -> torch.Tensor:
        """Read prompts in one pass and append them as rows; [prompts, vocabulary], the logits after each."""
        width = max(map(len, prompts))
        pads = [width - len(ids) for ids in prompts]
        cache = RowCache(self._depth, pads)
        ids = [[0] * pad + prompt for pad, prompt in zip(pads, prompts, strict=True)]
        logits = self._run(ids, cache, 0)
        self.values_of_token = cache.values_of_token
        if self._cache.pads:
            self._cache.join(cache)
        else:
            self._cache = cache
        return logits

    def advance(self, tokens: list[int]) -> torch.Tensor:
        """Append a token to each row; [rows, vocabulary], the logits after it."""
        return self._run([[token] for token in tokens], self._cache, self._cache.columns)

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these."""
        if not rows:
            self._cache = RowCache(self._depth, [])
        elif len(rows) < len(self._cache.pads):
            self._cache.keep(rows)

    def _run(self, ids: list[list[int]], cache: RowCache, before: int) -> torch.Tensor:
        """before: columns already in the cache."""
        device, new = self.model.device, len(ids[0])
        pads = torch.tensor(cache.pads, device=device)[:, None]
        columns = torch.arange(before + new, device=device)
        given: dict[str, Any] = dict(self._last_alone)
        if self._takes_positions:
            given["position_ids"] = (columns[before:] - pads).clamp(min=0)
        if any(cache.pads):
            given["attention_mask"] = (columns >= pads).long()
        given[self._remembers] = cache
        output = self.model(input_ids=torch.tensor(ids, device=device), use_cache=True, **given)
        return cast("torch.Tensor", output.logits[:, -1]).float()


def score_prompt(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """[tokens - 1, vocabulary], float32: the log-probabilities of the second and of each later token."""
    logits = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, :-1]
    return cast("torch.Tensor", logits.float().log_softmax(dim=-1))


def open_decoder(model: PreTrainedModel) -> Decoder | None:
    """A decoder for the model; None if its rows would differ from what they are alone, as a trial on a few tokens shows."""
    depth = count_layers(model)
    if depth is None:
        return None
    decoder = Decoder(model, depth)
    ids = choose_ids(model, 12)[0].tolist()
    try:
        with torch.inference_mode():
            return decoder if _is_faithful(decoder, ids) else None
    except Exception:  # each architecture fails in its own way
        return None
    finally:
        decoder.keep([])


def _is_faithful(decoder: Decoder, ids: list[int]) -> bool:
    """True if rows that join late, and whose neighbours leave, get the logits that each of them gets alone."""
    long, short = ids[:6], ids[6:9]
    seen = [(long, decoder.join([long])[0])]
    long = [*long, ids[9]]
    seen.append((long, decoder.advance([ids[9]])[0]))
    seen.append((short, decoder.join([short])[0]))
    both = decoder.advance([ids[10], ids[11]])
    long, short = [*long, ids[10]], [*short, ids[11]]
    seen += [(long, both[0]), (short, both[1])]
    decoder.keep([1])
    short = [*short, ids[0]]
    seen.append((short, decoder.advance([ids[0]])[0]))
    return not any(moved(score_last(decoder.model, row), logits, TOLERANCE) for row, logits in seen)


def score_last(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """[vocabulary]: the logits after a row that is read in one pass."""
    logits = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1]
    return cast("torch.Tensor", logits.float())
