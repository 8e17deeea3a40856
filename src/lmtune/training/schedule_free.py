"""training.optim=schedule_free_*: a run is scored, sampled and saved at the average of its weights, which is its result.

Defazio et al. 2024 (https://arxiv.org/abs/2405.15682) keep three points: z, which the steps move; x, the average of all z; and y
between the two, where gradients are taken. While it learns, a model has the weights y, and the optimizer's state holds z. x follows
from both, and the package's own eval() and train() go there and back with two roundings, so that a run would depend on when it was
looked at. Here y is kept aside in between, and lies beside z in a checkpoint, whose weights are x.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast

import torch

if TYPE_CHECKING:
    from lmtune.training.trainer import LmTrainer

LEARNS = "train_mode"
"""In a group of parameters of schedulefree alone: whether the weights are y."""
MOVED, KEPT = "z", "y"
"""In the state of a weight: the name that schedulefree has for the point that the steps move, and that of y, kept aside."""


class Averaging(Protocol):
    """What schedulefree adds to an optimizer."""

    def eval(self) -> None:
        """Turn the weights from y to x."""


@contextmanager
def averaged(optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """The model has its averaged weights in here, and afterwards the very bits that it had before.

    The optimizer's state has those too while this lasts, so that they are saved. Other optimizers are left alone.
    """
    if optimizer is None or not _learns(optimizer):
        yield
        return
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if MOVED in optimizer.state.get(weight, {}):  # on the CPU, since a GPU has no room to spare
                optimizer.state[weight][KEPT] = weight.detach().to("cpu", copy=True)
    take_average(optimizer)
    try:
        yield
    finally:
        leave_average(optimizer)


def take_average(optimizer: torch.optim.Optimizer | None) -> None:
    """Give the model its averaged weights for good, where it has not got them."""
    if optimizer is not None and _learns(optimizer):
        cast(Averaging, optimizer).eval()


def leave_average(optimizer: torch.optim.Optimizer | None) -> None:
    """Give the model the weights back that were kept aside: after a look at the average, or from a checkpoint."""
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        for weight in group["params"]:
            kept = optimizer.state.get(weight, {}).pop(KEPT, None)  # [weight] would make an entry, which is saved
            if kept is not None:
                weight.detach().copy_(kept)
                group[LEARNS] = True


def build_optimizer(trainer: "LmTrainer") -> torch.optim.Optimizer:
    """The optimizer of the trainer's settings, without the warm-up of its own: the schedule has one already."""
    optimizer: torch.optim.Optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        if "warmup_steps" in group:
            group["warmup_steps"] = 0
    return optimizer


def _learns(optimizer: torch.optim.Optimizer) -> bool:
    return any(group.get(LEARNS) for group in optimizer.param_groups)
