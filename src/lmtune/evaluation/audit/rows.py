"""Rows of ids of which the end is to come back, scored by a model with nothing else around them.

What a model writes greedily behind a prefix is the true end exactly where it ranks each token of that first, given those before it:
so one pass tells what comes back, and nothing has to be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtune.evaluation.scorer import UNSCORED, open_scorer
from lmtune.gauges import TOKENS
from lmtune.modeling.out_of_memory import explain_memory
from lmtune.patience import saying

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lmtune.evaluation.scorer import Scorer


class Row(NamedTuple):
    """Ids, and how many of them, one at least, the model is given."""

    ids: Sequence[int]
    known: int


class RowScores(NamedTuple):
    """Scores of rows under one model."""

    nll: np.ndarray
    """[rows] float64: nats of what it was not given."""
    greedy: np.ndarray
    """[rows] bool: it ranks each of those tokens first."""

    def take(self, start: int, end: int) -> RowScores:
        """The scores of consecutive rows."""
        return RowScores(self.nll[start:end], self.greedy[start:end])


def score_rows(model: PreTrainedModel, rows: Sequence[Row], batch_size: int) -> RowScores:
    """Score rows in float32, each by itself."""
    nll, greedy = np.zeros(len(rows)), np.zeros(len(rows), bool)
    order = sorted(range(len(rows)), key=lambda number: len(rows[number].ids))
    tokens = sum(len(row.ids) for row in rows)
    with (
        explain_memory("audit.batch_size=1; device=cpu"),
        open_scorer(model) as scorer,
        saying("scoring", tokens, TOKENS) as work,
    ):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            batch = [rows[number] for number in numbers]
            nll[numbers], greedy[numbers] = _score_batch(scorer, batch)
            work.advance(sum(len(row.ids) for row in batch))
    return RowScores(nll, greedy)


def _score_batch(scorer: Scorer, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """(nll, greedy), [rows] each."""
    longest = max(len(row.ids) for row in rows) - 1
    inputs = np.zeros((len(rows), longest), np.int64)
    targets = np.full((len(rows), longest), UNSCORED, np.int64)
    for number, row in enumerate(rows):
        size = len(row.ids) - 1
        inputs[number, :size] = row.ids[:-1]
        targets[number, row.known - 1 : size] = row.ids[row.known :]
    scores = scorer.score(inputs, targets)
    starts = np.cumsum([0, *(len(row.ids) - row.known for row in rows[:-1])])
    return np.add.reduceat(scores.nll, starts), np.logical_and.reduceat(scores.correct, starts)
