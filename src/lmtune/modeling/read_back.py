"""Comparing a saved model, loaded as others will load it, with the model in memory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lmtune.errors import LmtuneError, ModelError
from lmtune.modeling import behaviour, stored
from lmtune.modeling.loading import load_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

ROOM = 1.2
"""Free memory needed to load it a second time, relative to the size of the model in float32."""


def check_reads_back(model: PreTrainedModel, folder: Path) -> None:
    """Raise ModelError unless `folder` gives every weight of `model`, bit by bit, and its logits on a few tokens.

    model: as it was saved, or with an adapter, of which the folder holds the adapter alone. Without memory for a second copy
    the logits are not compared, which is logged.
    """
    difference = stored.find_difference(model, folder)
    if difference is not None:
        raise _refuse(model, folder, difference)
    if not _has_room(model):
        logger.info("%s: its weights read back; its logits were not compared, for want of memory", folder.name)
        return
    try:
        loaded = load_model(str(folder), key="model.path")
    except LmtuneError as fault:
        raise _refuse(model, folder, str(fault)) from fault
    cast("torch.nn.Module", loaded).to(model.device, model.dtype)
    ids = behaviour.choose_ids(model, behaviour.TOKENS)
    if behaviour.moved(behaviour.run(model, ids), behaviour.run(loaded, ids)):
        raise _refuse(model, folder, f"on {behaviour.TOKENS} tokens it gives other logits")


def _has_room(model: PreTrainedModel) -> bool:
    import psutil

    return bool(psutil.virtual_memory().available > ROOM * 4 * sum(weight.numel() for weight in model.parameters()))


def _refuse(model: PreTrainedModel, folder: Path, found: str) -> ModelError:
    return ModelError(
        f"{folder.name} was written and read back, and is not the {type(model).__name__} in memory: {found.rstrip('.')}. Expected "
        "a model that transformers saves and loads unchanged. The checkpoints of the run are whole; report this with the "
        "architecture and the version of transformers."
    )
