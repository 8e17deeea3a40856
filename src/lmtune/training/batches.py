"""Rows per device and accumulation for a number of tokens per step, on any number of devices."""

from dataclasses import dataclass
from typing import NamedTuple

from lmtune.errors import ConfigError
from lmtune.units import render_count

USUAL_ROWS = 8
"""Rows per device where nothing else decides: the default of TrainingArguments."""


class StepCounts(NamedTuple):
    """Steps of a training, per epoch and in all."""

    steps_per_epoch: int
    samples: float
    """Rows that are trained on, over all epochs."""
    total_steps: int


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The batch of one optimizer step."""

    per_device: int
    """Rows of one forward pass on one device."""
    accumulation: int
    """Forward passes before the optimizer's step."""
    devices: int
    block_size: int

    @property
    def tokens(self) -> int:
        return self.per_device * self.accumulation * self.devices * self.block_size

    def render(self) -> str:
        """The product, factor by factor."""
        return (
            f"a step: {self.tokens:,} tokens = {self.per_device} rows x {self.block_size:,} tokens x "
            f"{self.accumulation} accumulated x {render_count(self.devices, 'device')}"
        )


def plan_batch(
    tokens: int, block_size: int, devices: int, per_device: int | None, accumulation: int | None, most_rows: int
) -> BatchPlan:
    """The plan whose product is exactly `tokens`; raise ConfigError where there is none.

    per_device, accumulation: what the user has set, None where it is open. most_rows: upper bound of an open per_device.
    """
    share = block_size * devices * (per_device or 1) * (accumulation or 1)
    if tokens % share or (per_device and accumulation and tokens != share):
        nearest = sorted({max(1, tokens // share) * share, -(-tokens // share) * share})
        if per_device and accumulation:
            nearest = [share]
        factors = [f"{block_size} tokens a row", render_count(devices, "device")]
        factors += [f"training.per_device_train_batch_size={per_device}"] if per_device else []
        factors += [f"training.gradient_accumulation_steps={accumulation}"] if accumulation else []
        raise ConfigError(
            f"batch.tokens={tokens}: expected {'' if per_device and accumulation else 'a multiple of '}{share} "
            f"({' x '.join(factors)}). Give {' or '.join(f'batch.tokens={value}' for value in nearest)}."
        )
    rest = tokens // share
    if per_device:
        return BatchPlan(per_device, accumulation or rest, devices, block_size)
    if accumulation:
        return BatchPlan(rest, accumulation, devices, block_size)
    return split_rows(rest, most_rows, devices, block_size)


def split_rows(rows: int, most_rows: int, devices: int, block_size: int) -> BatchPlan:
    """The plan for `rows` of each device with as many of them at once as divide them, at most `most_rows`."""
    at_once = max(size for size in range(1, min(rows, most_rows) + 1) if rows % size == 0)
    return BatchPlan(at_once, rows // at_once, devices, block_size)
