"""Text sampled from a model, in rows like those of training: each next token is drawn from its unmodified probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmtune.gauges import TOKENS
from lmtune.modeling.generation import check_scores, open_prompt, undisturbed
from lmtune.patience import Work, doing

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FEWEST_ROWS, MOST_ROWS = 16, 512
"""Rows that are generated together. Another number gives another text."""
CACHE_BYTES = 2**32
"""What keys and values of these rows may take on an accelerator, where a step takes as long for many rows as for few."""


def choose_rows(model: PreTrainedModel, device: str, length: int) -> int:
    """How many rows of `length` tokens to generate together: FEWEST_ROWS on a CPU, more on an accelerator if the model is small.

    device: kind of the device that the model will be on by then. Nothing else about the machine counts, so that a run that is
    taken up again finds its text. Heads that share keys and values take less than is reckoned.
    """
    shape = model.config.get_text_config()
    layers, width = getattr(shape, "num_hidden_layers", None), getattr(shape, "hidden_size", None)
    if device == "cpu" or not layers or not width:
        return FEWEST_ROWS
    row = 2 * layers * width * length * model.dtype.itemsize
    return max(FEWEST_ROWS, min(MOST_ROWS, CACHE_BYTES // row))


def write_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int, count: int, seed: int, start: int = 0
) -> Iterator[np.ndarray]:
    """Batches of rows, [rows, length] ids each, `count` in all; weights, random states and training mode stay as they are.

    start: leave out this many rows, whole batches; the others are what they are with start=0.

    A row starts as a text does and continues past ends of texts, as rows of packed text do: texts are not cut to a length, and no
    end is added. Settings of generation do not apply.
    """
    first, together = open_prompt(model, tokenizer, [], length), choose_rows(model, model.device.type, length)
    work = Work("writing text to keep", float((count - start) * (length - len(first))), TOKENS)
    with doing(work):
        for row in range(start, count, together):
            rows = min(together, count - row)
            with undisturbed(model):
                yield _write_batch(model, first, length, rows, seed + row, work).cpu().numpy()


def _write_batch(
    model: PreTrainedModel, first: list[int], length: int, rows: int, seed: int, work: Work
) -> torch.Tensor:
    """[rows, length] int64."""
    import torch

    torch.manual_seed(seed)
    ids = torch.tensor([first] * rows, device=model.device)
    new, cache = ids, None
    with torch.no_grad():
        while ids.shape[1] < length:
            answer = model(input_ids=new, past_key_values=cache, use_cache=True)
            cache = getattr(answer, "past_key_values", None)
            scores = check_scores(model, ids, answer.logits[:, -1].float())
            drawn = torch.multinomial(scores.softmax(dim=-1), 1)
            ids = torch.cat([ids, drawn], dim=1)
            new = ids if cache is None else drawn
            work.advance(rows)
    return ids
