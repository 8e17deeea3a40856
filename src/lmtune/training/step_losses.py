"""The losses of recent batches, and the check that they are finite."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from lmtune.errors import TrainingError
from lmtune.training.distributed import reduce_max, reduce_sum


class BatchLoss(NamedTuple):
    """The loss of one forward pass."""

    step: int
    """The step it is part of, counted from 1."""
    learning_rate: float
    loss: torch.Tensor


class StepLosses:
    """Losses of the batches since the last look. They stay on the device, since reading one waits for it."""

    def __init__(self) -> None:
        self._batches: list[BatchLoss] = []

    def add(self, step: int, learning_rate: float, loss: torch.Tensor) -> None:
        """Keep the loss of a batch."""
        self._batches.append(BatchLoss(step, learning_rate, loss.detach()))

    def take(self) -> list[BatchLoss]:
        """The losses since the last call, oldest first."""
        taken, self._batches = self._batches, []
        return taken

    def take_step(self, processes: int) -> float:
        """The loss of the step that the batches since the last look make up, over all processes.

        Losses of accumulated batches are shares that add up; over processes they are averaged.
        """
        loss = torch.stack([batch.loss for batch in self.take()]).sum()
        return float(reduce_sum(loss) / processes)

    def check_finite(self, device: torch.device, list_checkpoints: Callable[[], list[Path]]) -> None:
        """Raise TrainingError, on every rank, where one of those since the last look is NaN or infinite on any rank.

        list_checkpoints: the run's, newest first, which the message speaks of.
        """
        batches = self.take()
        finite = torch.isfinite(torch.stack([batch.loss for batch in batches])).tolist() if batches else []
        if not reduce_max(int(not all(finite)), device):
            return
        if all(finite):  # a rank that went on alone would wait for the others forever
            raise TrainingError(
                "Another process met a training loss that is not a finite number; its message says where."
            )
        first = finite.index(False)
        step, rate, loss = batches[first]
        of_step = [number for number, batch in enumerate(batches) if batch.step == step]
        saved = list_checkpoints()
        last = f"The last good checkpoint is {saved[0].name}. " if saved else ""
        raise TrainingError(
            f"The training loss became {float(loss):.3g} at step {step}, batch {of_step.index(first) + 1} of "
            f"{len(of_step)} (learning rate {rate:.3g}); expected a finite number. {last}Lower training.learning_rate, "
            "lengthen training.warmup_steps, or with training.fp16 use training.bf16."
        )
