"""Activations fused into one kernel.

transformers computes GPT-2's GELU, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), in eight operations on the widest
tensor of a block. Each of them reads and writes it, and four such tensors are kept for the backward pass; under autocast
on a GPU most of them are float32, in which powers are computed there. torch.nn.GELU(approximate="tanh") is the same function
in one operation, and keeps only its input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fuse_activations(model: PreTrainedModel) -> int:
    """Replace GELUs of several operations by torch's own; return how many. Weights and config stay as they are."""
    from torch.nn import GELU
    from transformers.activations import FastGELUActivation, NewGELUActivation

    spelled_out = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) in (NewGELUActivation, FastGELUActivation)
    ]
    for parent, name in spelled_out:
        setattr(parent, name, GELU(approximate="tanh"))
    return len(spelled_out)
