"""Scoring many short texts, each the end of some context."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lmtune.errors import DataError, TrainingError
from lmtune.evaluation.scorer import UNSCORED, Scorer


class Request(NamedTuple):
    """Ids of which the last ones are scored."""

    ids: list[int]
    """Context and what is scored, at least one token of context first."""
    scored: int


class Answer(NamedTuple):
    """Score of one request."""

    nll: float
    """Sum, in nats."""
    greedy: bool
    """Each of them is the token that the model ranks first."""


def score_requests(scorer: Scorer, requests: Sequence[Request], context: int, batch_size: int) -> list[Answer]:
    """An answer to each request, in their order; contexts longer than the window lose their beginning.

    Raises DataError for a request that has more to score than the window holds, TrainingError for a loss that is not finite.
    """
    answers = [Answer(0.0, True)] * len(requests)
    # By length: least padding, largest batch first.
    order = sorted(range(len(requests)), key=lambda number: -len(requests[number].ids))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = [_fit(requests[number], context) for number in chosen]
        inputs = np.zeros((len(rows), max(len(ids) for ids, _ in rows) - 1), dtype=np.int64)
        targets = np.full_like(inputs, UNSCORED)
        for row, (ids, scored) in enumerate(rows):
            inputs[row, : len(ids) - 1] = ids[:-1]
            targets[row, len(ids) - 1 - scored : len(ids) - 1] = ids[-scored:]
        losses, correct = scorer.score(inputs, targets)
        if not np.isfinite(losses).all():
            raise TrainingError(
                f"The loss of examples {min(chosen) + 1} to {max(chosen) + 1} is not a finite number. The weights are damaged, "
                "or eval.dtype is too small for them."
            )
        edges = np.cumsum([scored for _, scored in rows])[:-1]
        for number, loss, right in zip(chosen, np.split(losses, edges), np.split(correct, edges), strict=True):
            answers[number] = Answer(float(loss.sum()), bool(right.all()))
    return answers


def rolling_requests(ids: list[int], prefix: int, context: int) -> list[Request]:
    """A document in the windows of EleutherAI's harness: disjoint, the last one reaching back for a full context.

    lm_eval.utils.get_rolling_token_windows with context_len=1.
    """
    first = min(context, len(ids))
    requests = [Request([prefix, *ids[:first]], first)] if ids else []
    for begin in range(first, len(ids), context):
        end = min(begin + context, len(ids))
        requests.append(Request(ids[end - context - 1 : end], end - begin))
    return requests


def _fit(request: Request, context: int) -> Request:
    """The request with as much of its context as the window holds, at its end."""
    if not 0 < request.scored <= min(context, len(request.ids) - 1):
        raise DataError(
            f"An example has {request.scored:,} tokens to score and {len(request.ids) - request.scored:,} before them; the window "
            f"holds {context:,}. Give a model with more positions, or a larger eval.context."
        )
    return Request(request.ids[-(context + 1) :], request.scored)
