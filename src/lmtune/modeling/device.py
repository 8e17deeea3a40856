"""The device that a command runs its model on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtune.errors import ConfigError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """A torch device from `auto`, cpu, cuda, cuda:1 or mps."""
    import torch

    available = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(available if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={name}: expected auto, cpu, cuda, cuda:<n> or mps; this machine has {available}."
        ) from error
    return device
