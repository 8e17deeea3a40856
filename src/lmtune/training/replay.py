"""forgetting.on=: old text in each step beside the new, as much of it as the watched text asks for.

Every step has the rows of new text that it would have without; those of old text come on top, and an epoch is one of the new
text. How many there are follows from the evaluations in Trainer's history, which each checkpoint holds, and which rows they are
from their number alone. So a resumed run is equal to one that was never stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lmtune.data.turns import draw_rows
from lmtune.measures import BITS_PER_BYTE
from lmtune.runs.evaluations import Measures
from lmtune.storage import Record
from lmtune.training.arguments import count_rows_per_step
from lmtune.training.budget import Gauge, count_rows, decide, divide, find_share, measure_rise
from lmtune.training.distributed import agree
from lmtune.training.trainer import LmTrainer

if TYPE_CHECKING:
    from lmtune.data.blocks import Batch, Blocks
    from lmtune.data.corpus import Corpus

logger = logging.getLogger(__name__)

SHARE = "replay_share"
"""Key in the history of a run: the share of old text that an evaluation led to."""


@dataclass
class Replay:
    """Old text, and how much of it belongs to which step."""

    blocks: Blocks
    on: str
    """The set that is watched."""
    budget: float
    most: float
    source: str
    """Where the old text comes from: the name of a set, or self."""
    corpus: Corpus | None = None
    """The corpus of a set; None for text that the model writes."""
    seed: int = 0
    past: list[Gauge] = field(default_factory=list)
    """The evaluations so far."""

    def restore(self, history: list[Record]) -> None:
        """Go on from the evaluations in Trainer's history."""
        bits = f"eval_{self.on}_{BITS_PER_BYTE.name}"
        self.past = [Gauge(line["step"], line[bits], line[SHARE]) for line in history if SHARE in line]

    def measure(self, step: int, bits: float) -> float:
        """Record an evaluation; return the share of old text from now on, the same on all processes."""
        share = agree(lambda: decide(self.past, bits, self.budget, self.most))
        self.past.append(Gauge(step, bits, share))
        return share

    @property
    def rise(self) -> float:
        """How much the bits per byte of the watched text have risen, as a part of those of the untouched model."""
        return measure_rise(self.past[0].bits, self.past[-1].bits) if self.past else 0.0

    def allows(self, sets: dict[str, Measures]) -> bool:
        """True for measures within the budget."""
        return measure_rise(self.past[0].bits, sets[self.on][BITS_PER_BYTE.name]) <= self.budget

    def list_rows(self, rows: int, step: int) -> range:
        """Numbers of the rows of old text in the step that follows `step` steps, each with `rows` of new text."""
        return range(count_rows(self.past, rows, step), count_rows(self.past, rows, step + 1))

    def load_rows(self, numbers: range) -> Batch:
        """Rows by their number in an endless sequence, in which each comes once before any comes again."""
        return self.blocks.__getitems__(self.find_places(numbers))

    def find_places(self, numbers: range) -> list[int]:
        """Where these rows of the sequence stand in the text."""
        return draw_rows(numbers, len(self.blocks.rows), self.seed)

    def count_tokens(self, rows: int) -> int:
        """Tokens that are learned in the first so many rows of the sequence."""
        count = len(self.blocks.rows)
        whole = self.blocks.count_targets(list(range(count)))
        rest = self.find_places(range(rows // count * count, rows))
        return rows // count * whole + self.blocks.count_targets(rest)

    def describe(self, rows: int, steps: int, learned: int, after: Measures | None) -> Record:
        """What results.json tells: shares, tokens, and whether the budget was kept.

        rows: of new text in a step. learned: tokens of the run, old and new. after: measures of the final model on what was
        scored while training; None where none were.
        """
        replayed = count_rows(self.past, rows, steps)
        tokens = self.count_tokens(replayed)
        rise = None if after is None else measure_rise(self.past[0].bits, after[BITS_PER_BYTE.name])
        return {
            "on": self.on,
            "budget": self.budget,
            "rise": rise,
            "kept": None if rise is None else rise <= self.budget,
            "before": self.past[0].bits if self.past else None,
            "replay": self.source,
            "share": tokens / max(1, learned),  # of tokens: rows of new text may be filled up, or left out in parts
            "most": self.most,
            "last_share": find_share(self.past, steps),
            "rows": replayed,
            "tokens": tokens,
        }


class ReplayTrainer(LmTrainer):
    """LmTrainer whose steps have rows of old text beside the new."""

    def __init__(self, *, replay: Replay, **given: Any) -> None:
        self.replay = replay
        super().__init__(**given)

    def fit(self, checkpoint: Path | None = None) -> None:
        super().fit(checkpoint)
        self.replay.restore(self.state.log_history)  # a run that had come to its end has started no loop

    def start_loop(self) -> None:
        super().start_loop()
        self.replay.restore(self.state.log_history)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        # Here the step is known, whatever was loaded ahead of it. Batches of all processes are filled up evenly.
        numbers = self.replay.list_rows(count_rows_per_step(self.args), self.state.global_step)
        processes, rank = self.args.world_size, self.args.process_index
        own = divide(numbers.start, numbers.stop, num_batches * processes)[rank::processes]
        return super().get_batch_samples(map(self._extend, epoch_iterator, own), num_batches, device)

    def _extend(self, batch: Batch, numbers: range) -> Batch:
        if not numbers:
            return batch
        old = self.replay.load_rows(numbers)
        return {name: torch.cat([column, old[name].to(column.device)]) for name, column in batch.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        bits = logs.get(f"eval_{self.replay.on}_{BITS_PER_BYTE.name}")
        if bits is not None:
            logs[SHARE] = self.replay.measure(self.state.global_step, bits)
            if self.is_world_process_zero():
                logger.info("%s", self._tell_gauge())
        super().log(logs, start_time)

    def _tell_gauge(self) -> str:
        replay = self.replay
        return (
            f"forgetting: {replay.on} {replay.rise:+.2%} of at most {replay.budget:+.2%}; old text is "
            f"{replay.past[-1].share:.1%} of the next steps"
        )

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # A step that has spent the budget cannot be the best.
        return self.replay.rise <= self.replay.budget and super()._determine_best_metric(metrics, trial)
