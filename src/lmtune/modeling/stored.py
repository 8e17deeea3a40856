"""Comparing weights in a folder with those in memory: loading has to be the inverse of saving.

transformers saves some architectures under other names than their modules have, or in other pieces, and converts back only in
from_pretrained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lmtune.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"
SHOWN_NAMES = 3


def restore(model: PreTrainedModel, folder: Path) -> None:
    """Load all weights of a checkpoint into `model`; raise CheckpointError if one is missing or has no place.

    model: the whole model, or one with a peft adapter, of which a checkpoint holds the adapter alone.
    """
    import torch

    held, stored = list_weights(model, folder), load_weights(model, folder)
    _check_names(folder, held, stored)
    with torch.no_grad():
        for name, value in held.items():
            value.copy_(stored[name])


def find_difference(model: PreTrainedModel, folder: Path) -> str | None:
    """The first weight of `model` that `folder` would not restore, bit by bit; None if it restores all."""
    import torch

    held, stored = list_weights(model, folder), load_weights(model, folder)
    for name, value in held.items():
        if name not in stored:
            return f"{name} is not in it"
        if not torch.equal(stored[name].to(value), value):
            return f"{name} has other values in it"
    return next((f"{name} in it has no place in the model" for name in stored if name not in held), None)


def list_weights(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a checkpoint of `model` has to hold, by name: parameters and saved buffers, tied ones once."""
    if (folder / ADAPTER_WEIGHTS).is_file():
        from peft.utils import get_peft_model_state_dict

        return dict(get_peft_model_state_dict(model, save_embedding_layers=False))  # as add_adapter has them saved
    return _without_ties(model.state_dict())


def load_weights(model: PreTrainedModel, folder: Path) -> Mapping[str, torch.Tensor]:
    """The weights in a folder, under the names that `model` has; tied ones once."""
    if (folder / ADAPTER_WEIGHTS).is_file():
        from peft.utils import load_peft_weights

        return dict(load_peft_weights(str(folder), "cpu"))
    stored = dict(read_tensors(folder))
    names = _without_ties(model.state_dict()).keys()
    return stored if stored.keys() == names else _load_converted(model, folder)


def read_tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of each weight in the safetensors files of a folder."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt", device="cpu") as opened:
            for name in opened.keys():  # noqa: SIM118  no dict
                yield name, opened.get_tensor(name)


def _load_converted(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """The weights as from_pretrained of the model's class converts them from the files, without those that are missing."""
    import torch

    found = type(model).from_pretrained(
        folder, config=model.config, dtype=model.dtype, trust_remote_code=False, weights_only=True,
        output_loading_info=True,
    )  # fmt: skip
    loaded, info = cast("tuple[PreTrainedModel, dict[str, list[str]]]", found)
    weights = _without_ties(loaded.state_dict())
    surplus = {name: torch.empty(0) for name in info["unexpected_keys"]}  # only their names count
    return {name: value for name, value in weights.items() if name not in info["missing_keys"]} | surplus


def _without_ties(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each tensor once, under the first of its names."""
    found: dict[tuple[int, tuple[int, ...]], str] = {}
    return {
        name: value
        for name, value in weights.items()
        if value.numel() == 0 or found.setdefault((value.data_ptr(), tuple(value.shape)), name) == name
    }


def _check_names(folder: Path, held: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]) -> None:
    missing, surplus = sorted(held.keys() - stored.keys()), sorted(stored.keys() - held.keys())
    if missing or surplus:
        found = [f"lacks {', '.join(missing[:SHOWN_NAMES])}"] if missing else []
        found += [f"holds {', '.join(surplus[:SHOWN_NAMES])}, which the model does not have"] if surplus else []
        raise CheckpointError(
            f"{folder}: expected the weights of this model, all of them, found that it {' and '.join(found)}. Take another "
            "checkpoint, or the settings that it was made with."
        )
