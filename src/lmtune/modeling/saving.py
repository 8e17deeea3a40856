"""Saving a model so that from_pretrained and pipeline("text-generation") load the folder as it is."""

from __future__ import annotations

import errno
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias, cast

from lmtune.config import SaveDtype
from lmtune.errors import ModelError, one_line
from lmtune.modeling.layers import is_adapted
from lmtune.modeling.saved_tokenizer import save_tokenizer

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    Saveable: TypeAlias = PreTrainedConfig | GenerationConfig | PreTrainedTokenizerBase


def round_weights(model: PreTrainedModel, dtype: SaveDtype) -> None:
    """Round float32 weights in place to those that `dtype` can hold, so that scores are of what save_model will write.

    Of a model with an adapter only what learns: its base is not written.
    """
    import torch

    if dtype is not SaveDtype.float32:
        written = [weight for weight in model.parameters() if weight.requires_grad or not is_adapted(model)]
        with torch.no_grad():
            for weight in written:
                weight.copy_(weight.to(getattr(torch, dtype.value)))


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, dtype: SaveDtype = SaveDtype.float32
) -> None:
    """Write a folder that from_pretrained and pipeline("text-generation") load as it is; the model is in `dtype` then."""
    import torch

    model.config.use_cache = True  # Trainer switches it off for training; generation without it is quadratic
    cast("torch.nn.Module", model).to(getattr(torch, dtype.value))
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes 0600


def check_saveable(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where config, generation config or tokenizer could not be saved: now, not after the training.

    They are written into a temporary folder; if there is no room for one, the check is skipped.
    """
    try:
        with TemporaryDirectory(prefix="lmtune-") as folder:
            for what in (model.config, getattr(model, "generation_config", None), tokenizer):
                if what is not None:
                    _try_to_save(what, folder)
            save_tokenizer(tokenizer, Path(folder))
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT):
            raise


def _try_to_save(what: Saveable, folder: str) -> None:
    try:
        what.save_pretrained(folder)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _refuse_to_save(what, fault) from fault
    except Exception as fault:  # each class of transformers refuses in its own way
        raise _refuse_to_save(what, fault) from fault


def _refuse_to_save(what: Saveable, fault: Exception) -> ModelError:
    reason = one_line(fault).rstrip(".")
    return ModelError(
        f"The {type(what).__name__} of the model cannot be saved: {reason}. Expected one that save_pretrained writes, since the "
        "training ends with that; mend its file beside the model."
    )
