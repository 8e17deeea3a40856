"""The engine of one model: a thread that makes a token of each running text at each step, while texts come and go."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtune.errors import describe_error
from lmtune.serving.batch import Batch, fail
from lmtune.serving.decoder import Decoder
from lmtune.serving.job import Job
from lmtune.serving.plain import PlainLane
from lmtune.serving.turns import Turns

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

PREFILL = 4096
"""Tokens of prompts that are read between two steps, after the first prompt: running texts wait for them."""


class QueueFullError(Exception):
    """More texts were asked for than may wait."""


class StoppingError(Exception):
    """The server is about to stop, and takes nothing more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the work of an engine."""

    slots: int
    """Texts that are written at the same time."""
    queue: int
    """Texts that may wait."""


class Engine:
    """Writes texts of one model. Without a decoder all of them are written by generate, one after the other."""

    def __init__(
        self, model: PreTrainedModel, decoder: Decoder | None, limits: Limits, turns: Turns, lane: PlainLane
    ) -> None:
        self.model = model
        self.limits = limits
        self._batch = None if decoder is None else Batch(model, decoder)
        self._turns = turns
        self._lane = lane
        self._waiting: deque[Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="lmtune-engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Texts that are being written side by side."""
        return 0 if self._batch is None else len(self._batch.rows)

    @property
    def waiting(self) -> int:
        """Texts that have not begun."""
        return len(self._waiting)

    def check_room(self, texts: int) -> None:
        """Raise QueueFullError or StoppingError where so many more texts cannot even wait."""
        if self._closing:
            raise StoppingError
        free = max(0, self.limits.slots - self.running)
        if self.waiting + self._lane.waiting + texts > free + self.limits.queue:
            raise QueueFullError

    def submit(self, jobs: list[Job]) -> None:
        """Take jobs; raises as check_room does, and takes none then. Their pieces come through them, from another thread."""
        with self._wake:
            self.check_room(sum(job.sequences for job in jobs))
            for job in jobs:
                if self._batch is None or job.alone:
                    self._lane.submit(self.model, job)
                else:
                    self._waiting.append(job)
            self._wake.notify()

    def stop_taking(self) -> None:
        """Take nothing more; what was taken is written to its end."""
        self._closing = True

    def close(self) -> None:
        """Wait until all that was taken is written, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self.running or self._closing)
                if not (self._waiting or self.running):
                    return
                joining = self._admit()
            self._advance(joining)

    def _admit(self) -> list[Job]:
        """Jobs that have a slot now, in the order in which they came."""
        joining: list[Job] = []
        tokens = 0
        while self._waiting and self.running + len(joining) < self.limits.slots:
            job = self._waiting[0]
            if joining and tokens + len(job.ids) > PREFILL:
                break
            joining.append(self._waiting.popleft())
            tokens += len(job.ids)
        return joining

    def _advance(self, joining: list[Job]) -> None:
        """One step: the first token of each text that joins, then one of each that runs."""
        batch = self._batch
        assert batch is not None  # without one nothing waits here
        for job in joining:
            if job.is_over:
                job.open_outputs(frozenset())
                job.close()
        try:
            with self._turns:
                batch.join([job for job in joining if not job.is_over])
                batch.step()
        except Exception as error:  # memory, or a fault of ours: the texts of this step are lost, the engine goes on
            logger.error("the texts that were being written are lost: %s", describe_error(error))
            batch.clear(error)
            fail(joining, error)
