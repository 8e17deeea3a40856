"""What an optimizer takes and keeps, by the class and arguments that Trainer makes of the settings."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

ONE_MOMENT, TWO_MOMENTS = 4.0, 8.0
"""Bytes that Muon and Adam keep for a parameter: one number of 4, and two."""


def groups_parameters(settings: dict[str, Any]) -> bool:
    """True for an optimizer that takes its parameters from the model itself, by its arguments."""
    return bool({"params", "model", "optimizer_dict"} & settings.keys())


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Give a group of parameters its learning rate, which some optimizers keep in a tensor."""
    if hasattr(group["lr"], "fill_"):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def measure_state(arguments: "TrainingArguments", model: "PreTrainedModel", *, muon: bool = False) -> int:
    """Bytes of optimizer state for the trained weights of a model, on the disk as in memory. muon: training.muon=true."""
    trained = {name: weight.numel() for name, weight in model.named_parameters() if weight.requires_grad}
    matrices = 0
    if muon:
        from lmtune.training.muon import find_matrices

        matrices = sum(trained[name] for name in find_matrices(model))
    others = sum(trained.values()) - matrices
    return math.ceil(matrices * ONE_MOMENT + others * _measure_parameter(arguments, model))


def _measure_parameter(arguments: "TrainingArguments", model: "PreTrainedModel") -> float:
    """Bytes of state for one parameter, measured on a toy after a step."""
    import torch
    from transformers import Trainer

    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    if groups_parameters(settings):
        return TWO_MOMENTS
    toy = torch.nn.Parameter(torch.zeros(256, 256, device=arguments.device))
    optimizer = kind([toy], **settings)
    toy.grad = torch.zeros_like(toy)
    getattr(optimizer, "train", lambda: None)()  # those of schedulefree have to be told
    optimizer.step()
    tensors = [value for value in optimizer.state[toy].values() if torch.is_tensor(value)]
    return sum(value.numel() * value.element_size() for value in tensors) / toy.numel()
