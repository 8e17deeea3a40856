"""The memory of a training step: how much it will be, and what to change where it is too much."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from lmtune.modeling.layers import below_adapter, embedding_weight, runs_in_step
from lmtune.training.batches import split_rows
from lmtune.training.optimizers import measure_state
from lmtune.units import render_bytes
from lmtune.versions import get_argument

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainingArguments


class StepMemory(NamedTuple):
    """Bytes of a training step on one device, at its peak."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """What the forward pass keeps for the backward pass, below the head."""
    head: int

    @property
    def total(self) -> int:
        """The sum, an upper bound: gradients of the lower blocks may reuse the memory of activations of the upper ones."""
        return sum(self)

    def spread(self, processes: int) -> "StepMemory":
        """Where each process keeps its part of what belongs to the weights; the blocks that run, which are whole, are not in it."""
        return self._replace(
            weights=self.weights // processes,
            gradients=self.gradients // processes,
            optimizer=self.optimizer // processes,
        )

    def render(self) -> str:
        """`9.1 GB (activations 6.1 GB, head 1.0 GB, optimizer 1.0 GB)`: the three largest parts are named."""
        parts = sorted(zip(self._fields, self, strict=True), key=lambda part: -part[1])
        named = ", ".join(f"{name} {render_bytes(count)}" for name, count in parts[:3])
        return f"{render_bytes(self.total)} ({named})"


def estimate_memory(
    arguments: "TrainingArguments",
    model: "PreTrainedModel",
    block_size: int,
    rows: int | None = None,
    *,
    muon: bool = False,
) -> StepMemory | None:
    """What a step takes on one device without activation checkpointing, None where it cannot be estimated.

    rows: of one pass, by default those of the arguments. muon: training.muon=true. A GPU's kernels keep a little more or less than
    those that are estimated with.
    """
    from lmtune.modeling.cross_entropy import measure_workspace
    from lmtune.modeling.loss import is_fused

    rows = rows or arguments.per_device_train_batch_size
    activations = measure_activations(arguments, model, block_size, rows)
    if activations is None:
        return None
    weights = list(model.parameters())
    learned = sum(weight.numel() for weight in weights if weight.requires_grad)
    vocabulary, features = embedding_weight(model).shape
    head = measure_workspace(
        arguments.device.type,
        (rows * block_size, features, vocabulary),
        half=bool(arguments.bf16 or arguments.fp16),
        fused=is_fused(model),
    )
    return StepMemory(
        weights=sum(weight.numel() * weight.element_size() for weight in weights),
        gradients=4 * learned,
        optimizer=measure_state(arguments, model, muon=muon),
        activations=activations,
        head=head,
    )


def measure_activations(
    arguments: "TrainingArguments", model: "PreTrainedModel", block_size: int, rows: int | None = None
) -> int | None:
    """Bytes that the forward pass of a batch keeps for the backward pass, up to the head.

    The pass runs with tensors that have shapes and no values (torch's FakeTensorMode), in a fraction of a second;
    every storage that autograd saves is counted once, and weights not at all. None for a model whose operations
    depend on values, as those of a mixture of experts do, and for one whose weights are spread over processes.
    """
    if runs_in_step(model):  # a pass of one process alone would leave its hooks where those of the others are not
        return None
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    inner = below_adapter(model)
    base, was_training = inner.base_model, inner.training
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # transformers makes a mask [rows, 1, places, places] of tensors without values, which it leaves out of real ones.
        if tensor.requires_grad or tensor.shape[1:] != (1, block_size, block_size):
            kept[tensor.untyped_storage()._cdata] = (
                tensor  # kept alive, so that its address is not given to another one
            )
        return tensor

    half = torch.float16 if arguments.fp16 else torch.bfloat16
    # A GPU's attention has its dropout inside. A CPU's keeps all probabilities for it, which training mode shows.
    inner.train(arguments.device.type == "cpu")
    try:
        with (
            _unlogged_fakes(),
            FakeTensorMode(),
            torch.autocast("cpu", half, enabled=bool(arguments.bf16 or arguments.fp16)),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            # On the CPU, wherever the model is by now: the ids are there too, and sizes are the same.
            given = {
                name: torch.empty(value.shape, dtype=value.dtype, requires_grad=value.requires_grad)
                for name, value in [*base.named_parameters(), *base.named_buffers()]
            }
            ids = torch.zeros((rows or arguments.per_device_train_batch_size, block_size), dtype=torch.long)
            torch.func.functional_call(base, given, (), {"input_ids": ids, "use_cache": False})
    except Exception:  # whatever a model does that needs values; the caller says that nothing is known
        return None
    finally:
        inner.train(was_training)
    own = {value.untyped_storage()._cdata for value in given.values()}
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)


@contextmanager
def _unlogged_fakes() -> Iterator[None]:
    """Silence FakeTensorMode: it logs tracebacks of operations that it could not follow, which is no error here."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def measure_free_memory(device: "torch.device") -> int:
    """Bytes available to a process: free memory of its device; on a CPU, its share among the processes of the host."""
    import psutil
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return int(psutil.virtual_memory().available // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def render_memory_remedy(arguments: "TrainingArguments", block_size: int, *, spread: bool = False) -> str:
    """Settings to change, in order: first those that leave the result as it is, then those that change it least.

    spread: weights are spread over the processes already.
    """
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
    if not get_argument(arguments, "activation_checkpointing"):
        steps.append("training.activation_checkpointing=true (the same result, slower)")
    if arguments.world_size > 1 and not spread:
        steps.append("training.fsdp=true (weights spread over the processes)")
    if not (arguments.bf16 or arguments.fp16):
        steps.append("training.bf16=true")
    if arguments.optim != "adafactor" and not spread:
        steps.append("training.optim=adafactor")
    if block_size > 2:
        steps.append(f"data.block_size={block_size // 2}")
    steps.append("a smaller model")
    return "; ".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
