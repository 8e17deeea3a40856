"""What a run asks of the disk: room for its checkpoints."""

import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from lmtune.errors import CheckpointError

TWO_MOMENTS = 8.0
"""Bytes that Adam keeps for a parameter: two numbers of 4."""


class Room(NamedTuple):
    """Bytes that the checkpoints of a run take at most, at one time."""

    checkpoint: int
    checkpoints: int
    """How many of them; the one that is being written is one."""
    model: int
    """The finished model, in the end."""

    @property
    def total(self) -> int:
        return self.checkpoint * self.checkpoints + self.model


def estimate_room(arguments: Any, model: Any, total_steps: int) -> Room:
    """Room for the checkpoints to come: weights and the optimizer's state, times the number kept."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    state = 0 if arguments.save_only_model else math.ceil(trained * measure_state(arguments, model))
    return Room(weights + state, _count_checkpoints(arguments, total_steps), weights)


def count_steps(arguments: Any, blocks: int) -> int:
    """Optimizer steps of a run over so many blocks."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    batch = arguments.train_batch_size * arguments.world_size * arguments.gradient_accumulation_steps
    return math.ceil(math.ceil(blocks / batch) * arguments.num_train_epochs)


def check_room(folder: Path, room: Room, present: int) -> None:
    """Raise CheckpointError where the disk of a run folder has no room for its checkpoints.

    present: bytes of checkpoints that lie there already, which later ones will replace.
    """
    free = shutil.disk_usage(folder).free
    if free + present < room.total:
        raise CheckpointError(
            f"{folder}: expected room for {room.checkpoints} checkpoints of {render_bytes(room.checkpoint)} and a model of "
            f"{render_bytes(room.model)}, {render_bytes(room.total - present)} in all; found {render_bytes(free)} free. "
            "Make room, give output= on another disk, or keep less: training.save_total_limit=2, "
            "training.load_best_model_at_end=false, training.optim=adafactor."
        )


def measure_state(arguments: Any, model: Any) -> float:
    """Bytes of optimizer state for each trained parameter, on the disk as in memory; measured on a toy after one step."""
    import torch
    from transformers import Trainer

    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    if {"params", "model", "optimizer_dict"} & settings.keys():
        return TWO_MOMENTS  # it takes its parameters from the model itself
    toy = torch.nn.Parameter(torch.zeros(256, 256, device=arguments.device))
    optimizer = kind([toy], **settings)
    toy.grad = torch.zeros_like(toy)
    optimizer.step()
    tensors = [value for value in optimizer.state[toy].values() if torch.is_tensor(value)]
    return sum(value.numel() * value.element_size() for value in tensors) / toy.numel()


def _count_checkpoints(arguments: Any, total_steps: int) -> int:
    if arguments.save_strategy == "no":
        return 0
    if arguments.save_total_limit:
        return int(arguments.save_total_limit) + bool(arguments.load_best_model_at_end) + 1
    if arguments.save_strategy == "epoch":
        return math.ceil(arguments.num_train_epochs)
    every = arguments.save_steps if arguments.save_steps >= 1 else total_steps * arguments.save_steps
    return math.ceil(total_steps / every)


def render_bytes(count: float) -> str:
    """`1.5 GB`, `12.3 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
