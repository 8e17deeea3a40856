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

ROWS_AT_ONCE = 16
"""Rows that are generated together. Another number would give another text."""


def write_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int, count: int, seed: int, start: int = 0
) -> Iterator[np.ndarray]:
    """Batches of rows, [rows, length] ids each, `count` in all; weights, random states and training mode stay as they are.

    start: leave out this many rows, whole batches; the others are what they are with start=0.

    A row starts as a text does and continues past ends of texts, as rows of packed text do: texts are not cut to a length, and no
    end is added. Settings of generation do not apply.
    """
    first = open_prompt(model, tokenizer, [], length)
    work = Work("writing text to keep", float((count - start) * (length - len(first))), TOKENS)
    with doing(work):
        for row in range(start, count, ROWS_AT_ONCE):
            rows = min(ROWS_AT_ONCE, count - row)
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
