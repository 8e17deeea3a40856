"""What goes into a training, and how fast: tokens learned and seconds spent learning them, without evaluations and saves."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lmtune.training import throughput
from lmtune.training.rows import RowTrainer


@dataclass(slots=True)
class Effort:
    """What has gone into the weights so far, kept with each checkpoint."""

    targets: int = 0
    """Tokens predicted, over all processes; padding is none."""
    seconds: float = 0.0
    """In training steps: evaluations, samples and saves left out."""


class PacedTrainer(RowTrainer):
    """Trainer that keeps count of its effort, and logs its pace beside the loss."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.effort = Effort()
        self.yardstick = throughput.build_yardstick(self.args, self.model, self.train_dataset.block_size)
        self._pending: list[torch.Tensor] = []
        self._begun: Effort | None = None
        self._logged = (0, Effort())
        self._resumed_at = time.perf_counter()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As Trainer does; training losses come with the pace since the last of them."""
        if "loss" in logs:
            logs.update(self._measure_pace())
        super().log(logs, start_time)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        batches, targets = super().get_batch_samples(epoch_iterator, num_batches, device)
        if torch.is_tensor(targets):
            self._pending.append(targets.detach())  # on the device: counting must not wait for it
        return batches, targets

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Trainer's own walks through all parameters at every batch to count them."""
        return int(inputs["input_ids"].numel() * self.yardstick.flops_per_token)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.args.auto_find_batch_size:
            # A beginning that ran out of memory was no training.
            self._begun = self._begun or copy.copy(self.effort)
            self._pending, self.effort = [], copy.copy(self._begun)
        self._logged = (self.state.global_step, copy.copy(self.effort))
        self._resumed_at = time.perf_counter()  # setting up is not training
        return prepared

    def _measure_pace(self) -> dict[str, float]:
        self._settle()
        (step, before), now = self._logged, self.effort
        self._logged = (self.state.global_step, copy.copy(now))
        seconds = now.seconds - before.seconds
        pace = (now.targets - before.targets) / seconds
        share = self.yardstick.utilisation(pace, self.args.world_size)
        return {
            "tokens_per_second": pace,
            **({} if share is None else {"mfu": share}),
            "memory_gb": throughput.measure_memory(self.args.device) / 1e9,
            "seconds_left": seconds / (self.state.global_step - step) * (self.state.max_steps - self.state.global_step),
        }

    def _settle(self) -> None:
        """Add what has been counted since the last time, and the time since then."""
        if self._pending:
            # Waits for the device, so the clock below is honest.
            counted = torch.stack(self._pending).long().sum()  # in float32 they would be exact to 16.8 million
            if self.args.world_size > 1 and not self.args.average_tokens_across_devices:
                counted = self.accelerator.reduce(counted, reduction="sum")
            self.effort.targets += int(counted.item())
            self._pending = []
        now = time.perf_counter()
        self.effort.seconds += now - self._resumed_at
        self._resumed_at = now

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Time in here is not training time."""
        self._settle()
        try:
            yield
        finally:
            self._resumed_at = time.perf_counter()
