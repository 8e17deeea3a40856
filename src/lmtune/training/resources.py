"""What a run asks of its machine: room on the disk for checkpoints, memory for steps."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lmtune.errors import CheckpointError, TrainingError
from lmtune.training.batches import split_rows

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
    state = 0 if arguments.save_only_model else math.ceil(trained * _measure_state(arguments, model))
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
            f"{folder}: expected room for {room.checkpoints} checkpoints of {_render(room.checkpoint)} and a model of "
            f"{_render(room.model)}, {_render(room.total - present)} in all; found {_render(free)} free. Make room, give "
            "output= on another disk, or keep less: training.save_total_limit=2, training.load_best_model_at_end=false, "
            "training.optim=adafactor."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """True for an allocation that failed, on an accelerator or on the CPU (which has no error class of its own)."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


@contextmanager
def explain_memory(remedy: str) -> Iterator[None]:
    """Raise TrainingError, with what to change, in place of an allocation that failed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"Out of memory: {' '.join(str(error).split())[:200]} Try, in this order: {remedy}."
        ) from error


def render_memory_remedy(arguments: Any, block_size: int) -> str:
    """Settings to change, in order: first those that leave the result as it is, then those that change it least."""
    steps = []
    batch, accumulation = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps
    if batch > 1:
        less = split_rows(batch * accumulation, batch // 2, devices=1, block_size=block_size)
        steps.append(
            f"training.per_device_train_batch_size={less.per_device} "
            f"training.gradient_accumulation_steps={less.accumulation} (the same global batch)"
        )
    if arguments.per_device_eval_batch_size > 1:
        steps.append(f"training.per_device_eval_batch_size={arguments.per_device_eval_batch_size // 2}")
    if not arguments.activation_checkpointing:
        steps.append("training.activation_checkpointing=true (the same result, slower)")
    if not (arguments.bf16 or arguments.fp16):
        steps.append("training.bf16=true")
    if arguments.optim != "adafactor":
        steps.append("training.optim=adafactor")
    if block_size > 2:
        steps.append(f"data.block_size={block_size // 2}")
    steps.append("a smaller model")
    return "; ".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def _measure_state(arguments: Any, model: Any) -> float:
    """Bytes of optimizer state for each trained parameter, measured on a toy after one step."""
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


def _render(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
