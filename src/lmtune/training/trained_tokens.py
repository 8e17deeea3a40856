"""How much has been learned and how fast: trained tokens and the seconds of training, without evaluations and saves."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from lmtune.training.distributed import reduce_sum
from lmtune.training.throughput import FlopsMeter, measure_memory


@dataclass(slots=True)
class TrainedTokens:
    """What has gone into the weights so far, over all starts of the run; saved with each checkpoint."""

    targets: int = 0
    """Tokens predicted, over all processes; padding is not counted."""
    seconds: float = 0.0
    """Seconds of training steps, without evaluations, samples and saves."""
    left_out: int = 0
    """Tokens that training.goldfish has left out of the loss, over all processes; they are not among the targets."""


class TokenCounter:
    """Counts trained tokens and training time. The clock runs from start() to stop(), except inside paused().

    counts_alone: the counts that are added are those of this process, and have to be summed over all.
    """

    def __init__(self, meter: FlopsMeter, device: torch.device, processes: int, *, counts_alone: bool) -> None:
        self.meter = meter
        self.trained = TrainedTokens()
        self._device = device
        self._processes = processes
        self._counts_alone = counts_alone
        self._loaded = TrainedTokens()
        self._uncounted: list[torch.Tensor] = []
        self._left_out: list[torch.Tensor] = []
        """Targets that were left out, on this process."""
        self._running_since: float | None = None
        self._logged = (0, TrainedTokens())

    def load(self, trained: TrainedTokens) -> None:
        """Go on from the counts of a checkpoint."""
        self.trained, self._loaded = trained, copy.copy(trained)

    def start(self, step: int) -> None:
        """Start the clock at `step`; the counts of an earlier attempt, which ran out of memory, are discarded."""
        self._uncounted, self._left_out, self.trained = [], [], copy.copy(self._loaded)
        self._logged = (step, copy.copy(self.trained))
        self._running_since = time.perf_counter()

    def add(self, targets: torch.Tensor) -> None:
        """Count the targets of a step; they stay on the device, since counting must not wait for it."""
        self._uncounted.append(targets.detach())

    def add_left_out(self, targets: torch.Tensor) -> None:
        """Count the targets that are left out of a batch of this process."""
        self._left_out.append(targets.detach())

    def stop(self) -> None:
        """Bring `trained` up to date and stop the clock."""
        self._settle()
        self._running_since = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here is not training time; `trained` is up to date."""
        was_running = self._running_since is not None
        self.stop()
        try:
            yield
        finally:
            if was_running:
                self._running_since = time.perf_counter()

    def measure_pace(self, step: int, max_steps: int) -> dict[str, float]:
        """Tokens per second, MFU (where the chip's peak is known), GB of memory and seconds left, since the last call.

        Targets that are left out of the loss are computed like the others: they count for the MFU, and not as tokens.
        """
        self._settle()
        (last_step, before), now = self._logged, self.trained
        self._logged = (step, copy.copy(now))
        seconds = now.seconds - before.seconds
        tokens_per_second = (now.targets - before.targets) / seconds
        left_out_per_second = (now.left_out - before.left_out) / seconds
        mfu = self.meter.utilisation(tokens_per_second + left_out_per_second, self._processes)
        return {
            "tokens_per_second": tokens_per_second,
            **({} if mfu is None else {"mfu": mfu}),
            "memory_gb": measure_memory(self._device) / 1e9,
            "seconds_left": seconds / (step - last_step) * (max_steps - step),
        }

    def _settle(self) -> None:
        if self._uncounted:
            # Waits for the device, so the clock below is honest.
            counted = torch.stack(self._uncounted).long().sum()  # in float32 they would be exact to 16.8 million
            self.trained.targets += int((reduce_sum(counted) if self._counts_alone else counted).item())
            self._uncounted = []
        if self._left_out:
            left_out = torch.stack(self._left_out).long().sum()
            self.trained.left_out += int((reduce_sum(left_out) if self._processes > 1 else left_out).item())
            self._left_out = []
        if self._running_since is not None:
            now = time.perf_counter()
            self.trained.seconds += now - self._running_since
            self._running_since = now
