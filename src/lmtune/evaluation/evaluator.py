"""The one evaluator: training, `lmtune eval` and reports all score text here.

Documents stand end to end, a separator after each, before each what the tokenizer itself puts there (BOS), which is read and
not scored. Every other token is scored exactly once: the first from that BOS, else from one separator; windows of
`context` tokens share one token with the window before, so that its first token is predicted too. With a stride shorter
than the window, tokens have more before them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lmtune.errors import DataError, ModelError, TrainingError
from lmtune.evaluation.metrics import Sums, measures_of
from lmtune.evaluation.protocol import build_protocol
from lmtune.evaluation.scorer import UNSCORED, Scorer, open_scorer
from lmtune.evaluation.windows import Windows, cut_windows, resolve_stride
from lmtune.gauges import TOKENS
from lmtune.modeling.layers import count_rows, runs_in_step
from lmtune.patience import saying
from lmtune.storage import Record
from lmtune.token_stream import NO_SEPARATOR, TokenStream, sum_losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DOCUMENT_SCORES = np.dtype([("nll", "<f8"), ("separator_nll", "<f8"), ("correct", "<f8")])
"""One row a document: nats of its text, nats of its separator, tokens that the model ranks first."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a text is scored."""

    context: int
    """Tokens of a window."""
    batch_size: int
    """Windows at once."""
    stride: int | None = None
    """Tokens from one window to the next; by default the whole window."""
    dtype: str = "float32"
    """The dtype of weights and activations, by torch's name."""

    @property
    def step(self) -> int:
        """The stride, checked."""
        return resolve_stride(self.stride, self.context)


def _alone(sums: torch.Tensor) -> torch.Tensor:
    return sums


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that share an evaluation, and how their sums are added."""

    rank: int = 0
    size: int = 1
    add: Callable[[torch.Tensor], torch.Tensor] = _alone
    """Sum over processes of a float64 tensor, the same on each."""


def evaluate_documents(
    model: PreTrainedModel,
    stream: TokenStream,
    scoring: Scoring,
    workers: Workers | None = None,
) -> tuple[Record, np.ndarray]:
    """(measures, scores) of `model` on `stream`: in total, and [documents] of DOCUMENT_SCORES.

    With the measures stand their protocol and the seconds they took. Raises TrainingError where a loss is not finite, DataError
    and ModelError for a stream that cannot be scored.
    """
    started = time.perf_counter()
    scores = score_documents(model, stream, scoring, workers)
    measures = measures_of(sum_documents(stream, scores))
    protocol = build_protocol(stream, scoring.context, scoring.step, scoring.dtype)
    unknown, lost = sum_losses(stream.documents)
    measures |= {"unknown_tokens": unknown, "lost_bytes": lost}
    return {**measures, "seconds": time.perf_counter() - started, "protocol": protocol}, scores


def score_documents(
    model: PreTrainedModel,
    stream: TokenStream,
    scoring: Scoring,
    workers: Workers | None = None,
) -> np.ndarray:
    """[documents] of DOCUMENT_SCORES. Each process scores every size-th batch; all return the sums over all processes.

    Where all have to run the model equally often, those with fewer batches repeat the first one.
    """
    workers = workers or Workers()
    check_scorable(model, stream)
    ends, is_separator, is_opening = stream.ends, stream.is_separator(), stream.is_opening()
    # The last row travels with the sums of the documents: it is 1 where a process has met a NaN or infinite loss.
    totals = np.zeros((len(stream.documents) + 1, 3))
    fault = None
    in_step = runs_in_step(model)
    batches = list(cut_windows(len(stream.ids) - stream.unpredicted, scoring.context, scoring.step, scoring.batch_size))
    company = batches[:1] * (-len(batches) % workers.size if in_step else 0)
    with open_scorer(model, scoring.dtype) as scorer, saying("scoring", len(stream.ids), TOKENS) as work:
        for number, windows in enumerate([*batches, *company]):
            if number % workers.size == workers.rank:
                places, losses, correct = score_windows(scorer, stream, windows, is_opening)
                if number >= len(batches):
                    break
                documents = np.searchsorted(ends, places, side="right")
                if not np.isfinite(losses.sum()):
                    fault = fault or _explain_non_finite(places, documents, scoring.dtype)
                    if not in_step:
                        break
                kinds = is_separator[places].astype(np.int64)
                np.add.at(totals, (documents, kinds), losses)
                np.add.at(totals, (documents, np.full_like(kinds, 2)), correct)
            work.advance(len(windows.starts) * windows.scored)
    totals[-1] = fault is not None
    totals = workers.add(torch.from_numpy(totals)).numpy()
    if totals[-1].any():  # on every process: one that went on alone would wait for the others forever
        raise TrainingError(fault or "Another process met a loss that is not a finite number; its message says where.")
    return np.array([tuple(row) for row in totals[:-1].tolist()], dtype=DOCUMENT_SCORES)


def score_windows(
    scorer: Scorer, stream: TokenStream, windows: Windows, is_opening: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places in the stream, nll, correct) of the scored tokens of a batch of windows; what opens documents is not scored."""
    places = windows.places + stream.unpredicted
    before = stream.ids[np.maximum(places - 1, 0)].astype(np.int64)
    inputs = np.where(places > 0, before, stream.separator)
    targets = stream.ids[places].astype(np.int64)
    targets[:, : windows.length - windows.scored] = UNSCORED
    targets[is_opening[places]] = UNSCORED
    losses, correct = scorer.score(inputs, targets)
    return places[targets != UNSCORED], losses, correct


def sum_documents(stream: TokenStream, scores: np.ndarray) -> Sums:
    """The sums of a whole stream from those of its documents."""
    table = stream.documents
    separators = 0 if stream.separator == NO_SEPARATOR else len(table)
    return Sums(
        nll=float(scores["nll"].sum()),
        tokens=float(len(stream.ids) - stream.unscored - separators),
        separator_nll=float(scores["separator_nll"].sum()),
        separators=float(separators),
        correct=float(scores["correct"].sum()),
        bytes=float(table["bytes"].sum()),
        characters=float(table["characters"].sum()),
        words=float(table["words"].sum()),
    )


def check_scorable(model: PreTrainedModel, stream: TokenStream) -> None:
    """Raise DataError where there is nothing to score, ModelError for ids that the model does not have."""
    if len(stream.ids) <= stream.unscored:
        raise DataError(
            "There is nothing to score: expected at least one token with something before it, found "
            f"{len(stream.ids)} token(s). Give a longer text."
        )
    rows = count_rows(model)
    largest = max(int(stream.ids.max()), stream.separator, *stream.opening)
    if largest >= rows:
        raise ModelError(
            f"The tokenizer gives ids up to {largest:,}, the embedding of the model has {rows:,} rows. "
            "Give a checkpoint whose tokenizer belongs to its weights."
        )


def _explain_non_finite(places: np.ndarray, documents: np.ndarray, dtype: str) -> str:
    remedy = (
        "float16 overflows beyond 65,504: try eval.dtype=float32."
        if dtype == "float16"
        else "The weights are damaged. Take an earlier checkpoint; if it was trained here, lower training.learning_rate."
    )
    return (
        f"The loss of held-out tokens {places.min():,} to {places.max():,} (documents {documents.min() + 1} to "
        f"{documents.max() + 1}) is not a finite number. {remedy}"
    )
