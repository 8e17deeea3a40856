"""training.muon: matrices of the blocks move by the orthogonalised average of their gradients, all other weights by AdamW.

Muon is of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/). Its updates are scaled as in arXiv:2502.16982, to the
root mean square that AdamW's usually have, so that learning rate and weight decay mean what they mean there.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import PreTrainedModel, TrainingArguments

from lmtune.config import FinetuneMethod, TrainConfig
from lmtune.config.optimizers import ADAMW
from lmtune.errors import ConfigError
from lmtune.modeling.layers import find_blocks, runs_in_step
from lmtune.training.arguments import name_of

if TYPE_CHECKING:
    from lmtune.training.trainer import LmTrainer

MOMENTUM = 0.95
"""Of Nesterov's kind."""
COEFFICIENTS, ITERATIONS, EPSILON = (3.4445, -4.7750, 2.0315), 5, 1e-7
"""Of the polynomial of Newton and Schulz, as in the article: singular values end between 0.7 and 1.2."""
ADAMW_SIZE = 0.2
"""Root mean square of AdamW's updates, at rate 1."""


class Fused(NamedTuple):
    """A weight that holds several matrices side by side, each of which has directions of its own."""

    axis: int
    parts: int


FUSED = {"Conv1D": {"c_attn": Fused(axis=1, parts=3)}}
"""By class and name of a module: query, key and value of GPT-2, whose weights are [inputs, outputs]."""


class Muon(torch.optim.AdamW):
    """AdamW, but for groups of parameters with `muon`: {"axis": int, "parts": int}, whose matrices move by Muon."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take a step of each group by its rule."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if "muon" not in group]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for weight in group["params"] if "muon" in group else ():
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:  # torch's AdamW looks for the number of steps in each state that it loads
            state.update(step=torch.zeros(()), momentum_buffer=torch.zeros_like(weight))
        state["step"] += 1
        average = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        parts = gradient.lerp(average, MOMENTUM).chunk(group["muon"]["parts"], dim=group["muon"]["axis"])
        update = torch.cat([scale_update(part) for part in parts], dim=group["muon"]["axis"])
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


def scale_update(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrix, about, with entries as large as AdamW's updates. [rows, columns] in and out."""
    return orthogonalize(matrix) * (ADAMW_SIZE * math.sqrt(max(matrix.shape)))


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix of the same singular vectors, [rows, columns], with singular values near 1."""
    upright = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.T if upright else matrix).to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    wide = wide / wide.norm().clamp(min=EPSILON)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = first * wide + (third * gram + fifth * gram @ gram) @ wide
    return (wide.T if upright else wide).to(matrix.dtype)


def find_matrices(model: PreTrainedModel) -> dict[str, Fused]:
    """Name to how it is divided, of each matrix of the blocks that is trained; embeddings, heads and vectors are none."""
    found = find_blocks(model)
    prefix = found[0] if found else None
    matrices = {}
    for place, module in model.named_modules():
        kind, name = type(module).__name__, place.rpartition(".")[2]
        for of_module, weight in module.named_parameters(recurse=False):
            if prefix and place.startswith(prefix) and weight.requires_grad and weight.ndim == 2:
                matrices[f"{place}.{of_module}"] = FUSED.get(kind, {}).get(name, Fused(axis=0, parts=1))
    return matrices


def build_optimizer(trainer: "LmTrainer") -> Muon:
    """Muon over the matrices of the blocks, AdamW over the rest, each with and without weight decay."""
    model, args = trainer.model, trainer.args
    _, settings = trainer.get_optimizer_cls_and_kwargs(args, model)
    matrices, decayed = find_matrices(model), set(trainer.get_decay_parameter_names(model))
    groups: dict[tuple[bool, Fused | None], list[torch.Tensor]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            groups.setdefault((name in decayed, matrices.get(name)), []).append(weight)
    return Muon(
        [
            {
                "params": weights,
                "weight_decay": args.weight_decay if decays else 0.0,
                **({} if fused is None else {"muon": fused._asdict()}),
            }
            for (decays, fused), weights in groups.items()
        ],
        **settings,
    )


def check_muon(config: TrainConfig, arguments: TrainingArguments, model: PreTrainedModel) -> None:
    """Raise ConfigError for what training.muon cannot do, before a run folder is made."""
    found = None
    if name_of(arguments.optim) not in ADAMW:
        found = f"training.optim={name_of(arguments.optim)}, where it needs AdamW for the other weights"
    elif config.finetune.method is FinetuneMethod.gradual:
        found = "finetune=gradual, which groups weights by layers"
    elif runs_in_step(model) or arguments.fsdp or arguments.deepspeed:
        found = "weights that are spread over processes, where no process has a whole matrix"
    elif arguments.fp16:
        found = "float16, whose gradients are scaled (training.fp16=false turns it off)"
    elif find_blocks(model) is None:
        found = f"a model of the type {model.config.model_type}, whose blocks are not found"
    if found is not None:
        raise ConfigError(f"training.muon=true: expected settings that it goes with, found {found}. Leave one out.")
