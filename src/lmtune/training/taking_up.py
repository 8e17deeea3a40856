"""The state of an optimizer and of a schedule from a checkpoint, beside the settings of today.

torch saves settings among the state and reads them back with it, so that what resume_force=true changes would have no effect.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from lmtune.training.optimizers import set_rate

SETTINGS = ("initial_lr", "weight_decay", "betas", "eps", "momentum", "alpha", "r", "weight_lr_power")
"""Of a group of parameters, what no step changes: rate, decay, and what averages and their roundings are made by."""


@contextmanager
def keeping_settings(optimizer: torch.optim.Optimizer, schedule: LRScheduler | None) -> Iterator[None]:
    """What is loaded into both in here leaves their settings as they were before; where those are the same, nothing changes."""
    before = [{name: group[name] for name in SETTINGS if name in group} for group in optimizer.param_groups]
    rates = list(getattr(schedule, "base_lrs", []))
    yield
    for group, settings in zip(optimizer.param_groups, before, strict=True):
        group.update(settings)
    if isinstance(schedule, LambdaLR):
        schedule.base_lrs = rates
        for group, rate, rise in zip(optimizer.param_groups, rates, schedule.lr_lambdas, strict=True):
            set_rate(group, rate * rise(schedule.last_epoch))
