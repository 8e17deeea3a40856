"""What an optimizer takes and keeps, by the class and arguments that Trainer makes of the settings."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

TWO_MOMENTS = 8.0
"""Bytes that Adam keeps for a parameter: two numbers of 4."""


def groups_parameters(settings: dict[str, Any]) -> bool:
    """True for an optimizer that takes its parameters from the model itself, by its arguments."""
    return bool({"params", "model", "optimizer_dict"} & settings.keys())


def measure_state(arguments: "TrainingArguments", model: "PreTrainedModel") -> float:
    """Bytes of optimizer state for each trained parameter, on the disk as in memory; measured on a toy after one step."""
    import torch
    from transformers import Trainer

    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    if groups_parameters(settings):
        return TWO_MOMENTS
    toy = torch.nn.Parameter(torch.zeros(256, 256, device=arguments.device))
    optimizer = kind([toy], **settings)
    toy.grad = torch.zeros_like(toy)
    optimizer.step()
    tensors = [value for value in optimizer.state[toy].values() if torch.is_tensor(value)]
    return sum(value.numel() * value.element_size() for value in tensors) / toy.numel()
