"""What a training begins with, kept for training.auto_find_batch_size: a try may have learned before its memory ran out.

That is the usual case, since an optimizer takes most of its memory at the end of the first step.
"""

import copy
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Beginning:
    """Trained weights, on the CPU, an optimizer's state and the random states, before a training or as a checkpoint has them.

    optimizer: None where Trainer is yet to build it.
    """

    def __init__(self, model: "PreTrainedModel", optimizer: torch.optim.Optimizer | None) -> None:
        whole = not hasattr(model, "peft_config")  # finetune=gradual lets more of them learn later
        self._weights = {
            name: weight.detach().to("cpu", copy=True)
            for name, weight in model.named_parameters()
            if weight.requires_grad or whole
        }
        self._state: dict[str, Any] | None = None if optimizer is None else copy.deepcopy(optimizer.state_dict())
        self._device = model.device
        self._random = torch.get_rng_state()
        self._random_of_gpu = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None

    @torch.no_grad()
    def restore(
        self, model: "PreTrainedModel", optimizer: torch.optim.Optimizer | None
    ) -> torch.optim.Optimizer | None:
        """Give weights and random states back; return the optimizer as it was, None where Trainer is to build it anew."""
        weights = dict(model.named_parameters())
        for name, before in self._weights.items():
            weights[name].copy_(before)
        torch.set_rng_state(self._random)
        if self._random_of_gpu is not None:
            torch.cuda.set_rng_state(self._random_of_gpu, self._device)
        if optimizer is None or self._state is None:
            return None
        optimizer.load_state_dict(copy.deepcopy(self._state))
        return optimizer
