"""Texts that model.generate writes, one request at a time.

These are beams, guidance, several texts of one draw, and all texts of models whose rows cannot be batched.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from lmtune.modeling.generation import build_check, explaining_settings
from lmtune.serving.batch import describe_prompt, fail
from lmtune.serving.chooser import CountPenalties, settle_config
from lmtune.serving.job import Job, PromptTokens
from lmtune.serving.turns import Turns

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PlainLane:
    """A thread that calls generate. One for all models: generate uses the process's global random generator."""

    def __init__(self, turns: Turns) -> None:
        self.running = 0
        self._turns = turns
        self._waiting: deque[tuple[PreTrainedModel, Job]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="lmtune-generate", daemon=True)
        self._thread.start()

    def submit(self, model: PreTrainedModel, job: Job) -> None:
        """Accept a job; its pieces are sent through it."""
        with self._wake:
            self._waiting.append((model, job))
            self._wake.notify()

    @property
    def waiting(self) -> int:
        """Texts that have not begun."""
        return sum(job.sequences for _, job in list(self._waiting))

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                model, job = self._waiting.popleft()
            if not job.is_over:
                self.running = job.sequences
                write_alone(model, job, self._turns)
                self.running = 0
            elif job.expired:
                job.open_outputs(frozenset())
                job.close()


def write_alone(model: PreTrainedModel, job: Job, turns: Turns) -> None:
    """Generate all texts of a job by one call of generate; errors are sent to the job's receiver."""
    try:
        with turns:
            if job.scores_prompt:
                with torch.no_grad():
                    job.give(PromptTokens(job.index, describe_prompt(model, job)))
            outputs = job.open_outputs(find_ends(model, job))
            if job.new_tokens:
                rows = _generate(model, job, turns)
                if outputs[0].count == 0:  # nothing was streamed
                    for output, row in zip(outputs, rows[:, len(job.ids) :].tolist(), strict=True):
                        _take_all(job, output.index - job.index, row)
            job.close()
    except Exception as error:  # settings that only generate itself refuses
        fail([job], error)


def find_ends(model: PreTrainedModel, job: Job) -> frozenset[int]:
    """Ids that end a text."""
    ends = settle_config(model, job.config, len(job.ids)).eos_token_id
    return frozenset([] if ends is None else ends if isinstance(ends, list) else [ends])


def _generate(model: PreTrainedModel, job: Job, turns: Turns) -> torch.Tensor:
    """[texts, tokens]: prompt and text, right-padded."""
    from transformers import LogitsProcessorList, StoppingCriteriaList

    ids = torch.tensor([job.ids], device=model.device)
    own: list[Callable[..., Any]] = [partial(_pause, turns), build_check(model, job.config)]
    if any(job.penalties):
        own.append(CountPenalties(*job.penalties, len(job.ids)))
    torch.manual_seed(job.seed)
    with explaining_settings(), torch.no_grad():
        return cast("Callable[..., torch.Tensor]", model.generate)(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=copy.deepcopy(job.config),
            tokenizer=job.tokenizer,
            logits_processor=LogitsProcessorList(own),
            stopping_criteria=StoppingCriteriaList([partial(_is_over, job)]),
            streamer=None if job.alone else _Streamer(job),
        )


def _pause(turns: Turns, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """A logits processor that changes nothing: it lets other threads run between two tokens."""
    turns.pause()
    return scores


def _is_over(job: Job, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
    """A stopping criterion: [rows], True for all once nothing more is wanted."""
    over = job.is_over or all(output.finish for output in job.outputs)
    return torch.full((input_ids.shape[0],), over, device=input_ids.device)


def _take_all(job: Job, number: int, tokens: list[int]) -> None:
    output = job.outputs[number]
    for token in tokens:
        if output.finish:
            return
        job.give(output.take(token))


class _Streamer:
    """The streamer that receives generate's tokens, the prompt first."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.prompt_seen = False

    def put(self, tokens: torch.Tensor) -> None:
        """tokens: [1, prompt], then [1]."""
        if self.prompt_seen:
            _take_all(self.job, 0, tokens.flatten().tolist())
        self.prompt_seen = True

    def end(self) -> None:
        """Do nothing: no token is held back."""
