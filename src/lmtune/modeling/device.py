"""The device that a command runs its model on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, cast

from lmtune.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def place_model(model: PreTrainedModel, name: str, key: str = "device") -> PreTrainedModel:
    """The same model, moved to the device named by `device=` and in evaluation mode. key: the key that named it, for messages."""
    cast("torch.nn.Module", model).to(choose_device(name, key)).eval()
    return model


def fork_random_state(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Restore torch's random states afterwards: of the CPU, and of the GPU that the model is on, not of all GPUs."""
    import torch

    return torch.random.fork_rng([model.device] if model.device.type == "cuda" else [])


def choose_device(name: str, key: str = "device") -> torch.device:
    """The device for `auto`, cpu, cuda, cuda:1 or mps; raises ConfigError for one that is not available."""
    import torch

    available = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(available if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"{key}={name}: expected auto, cpu, cuda, cuda:<n> or mps; this machine has {available}."
        ) from error
    return device
