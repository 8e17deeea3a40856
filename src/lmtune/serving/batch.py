"""Texts that are generated in a batch: one forward pass gives the next token of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from lmtune.modeling.generation import explaining_settings
from lmtune.serving.chooser import Chooser, CountPenalties
from lmtune.serving.decoder import Decoder, score_prompt
from lmtune.serving.job import Job, PromptTokens
from lmtune.serving.output import Output, TextStream, Token, place_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(slots=True)
class Row:
    """A text in the batch."""

    job: Job
    chooser: Chooser
    output: Output
    token: int = 0
    """The last token, which the model has not read yet."""


class Batch:
    """The rows of one model. An error in one row ends only that row."""

    def __init__(self, model: PreTrainedModel, decoder: Decoder) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._decoder = decoder

    @torch.inference_mode()
    def join(self, jobs: list[Job]) -> None:
        """Read the prompts of jobs, in passes of prompts of similar length, and write the first token of each."""
        rows = [row for job in jobs if (row := self._open(job)) is not None]
        for group in group_by_length(rows):
            try:
                logits = self._decoder.join([row.job.ids for row in group])
            except RuntimeError as error:  # memory
                fail([row.job for row in group], error)
                continue
            self.rows += group
            self._write(group, logits)
        self._drop()

    @torch.inference_mode()
    def step(self) -> None:
        """Generate a token for each row."""
        for row in self.rows:
            if row.job.is_over:
                row.job.close()
        self._drop()
        if self.rows:
            self._write(self.rows, self._decoder.advance([row.token for row in self.rows]))
            self._drop()

    def clear(self, error: Exception) -> None:
        """End all rows with this error."""
        fail([row.job for row in self.rows], error)
        self.rows = []
        self._decoder.keep([])

    def _open(self, job: Job) -> Row | None:
        try:
            if job.scores_prompt:
                job.give(PromptTokens(job.index, describe_prompt(self._model, job)))
            if not job.new_tokens:
                job.open_outputs(frozenset())
                job.close()
                return None
            processors = [CountPenalties(*job.penalties, len(job.ids))] if any(job.penalties) else []
            with explaining_settings():
                chooser = Chooser(self._model, job.config, job.ids, job.seed, processors)
            return Row(job, chooser, job.open_outputs(chooser.ends)[0])
        except Exception as error:  # a setting that transformers refuses
            fail([job], error)
            return None

    def _write(self, rows: list[Row], logits: torch.Tensor) -> None:
        """logits: [rows, vocabulary]."""
        likeliest = logits.argmax(dim=-1).tolist()
        sound = torch.isfinite(logits.sum(dim=-1)).tolist()
        for number, row in enumerate(rows):
            scores = logits[number : number + 1]
            try:
                plain = row.chooser.is_plain and sound[number]
                row.token = likeliest[number] if plain else row.chooser.choose(scores)
                row.chooser.append(row.token)
                row.job.give(row.output.take(row.token, self._describe(row, scores)))
            except Exception as error:  # settings that leave nothing to choose from
                fail([row.job], error)

    @staticmethod
    def _describe(row: Row, scores: torch.Tensor) -> Token | None:
        return None if row.job.top is None else row.job.describe(row.token, scores[0].log_softmax(dim=-1))

    def _drop(self) -> None:
        """Drop rows that are finished or cancelled."""
        kept = [number for number, row in enumerate(self.rows) if not (row.output.finish or row.job.cancelled)]
        if len(kept) < len(self.rows):
            self._decoder.keep(kept)
            self.rows = [self.rows[number] for number in kept]


def group_by_length(rows: list[Row]) -> list[list[Row]]:
    """Groups of rows whose prompts are read together: the longest of a group is at most twice as long as the shortest."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: len(row.job.ids)):
        if groups and len(row.job.ids) <= 2 * len(groups[-1][0].job.ids):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def describe_prompt(model: PreTrainedModel, job: Job) -> tuple[Token, ...]:
    """The tokens of the prompt with their log-probabilities; the first has none."""
    scores = score_prompt(model, job.ids)
    rest = (job.describe(token, row) for token, row in zip(job.ids[1:], scores, strict=True))
    stream, begin, found = TextStream(job.tokenizer, ()), 0, []
    for token, described in zip(job.ids, (Token(job.name(job.ids[0]), None, ()), *rest), strict=True):
        text = stream.push(token)
        found.append(replace(described, begin=place_token(begin, text, described.text)))
        begin += len(text)
    return tuple(found)


def fail(jobs: list[Job], error: Exception) -> None:
    """Send the error to those who wait for the jobs, and cancel these."""
    for job in jobs:
        job.give(error)
        job.cancelled = True
