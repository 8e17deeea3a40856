"""The padding id of a model's config, which some architectures count positions by or cannot be built without."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

from lmtune.modeling.behaviour import choose_ids, trying

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def settle_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Set the padding id of the model's config to the tokenizer's; return a remark if it has to stay another.

    The separator's id is not set as padding: models that pass it to nn.Embedding would never learn the separator's row,
    and forward would warn of padding at every document's end. If the architecture needs one (RoBERTa counts positions by it),
    that of its weights stays.
    """
    before, wanted = getattr(model.config, "pad_token_id", None), tokenizer.pad_token_id
    try:
        model.config.pad_token_id = None if wanted == tokenizer.eos_token_id else wanted
    # Configs of some classes accept only a number; their error, huggingface_hub's, is a bare Exception.
    except Exception:
        return [f"pad_token_id stays {before}, which {type(model).__name__} does not go without"]
    embedding = cast("torch.nn.Embedding", model.get_input_embeddings())
    if getattr(embedding, "padding_idx", None) not in (None, model.config.pad_token_id):
        embedding.padding_idx = None
    if model.config.pad_token_id is not None or before is None or _runs_without(model):
        return []
    model.config.pad_token_id = before
    return [f"pad_token_id stays {before}, which {type(model).__name__} does not run without"]


def _runs_without(model: PreTrainedModel) -> bool:
    """True if a model of this class can be built, and runs on a few tokens, with no padding id in its config."""
    import torch

    try:
        with torch.device("meta"):
            bare = type(model)(copy.deepcopy(model.config))
        with trying(bare):
            bare(input_ids=choose_ids(bare, 2), use_cache=False)
        with trying(model):
            model(input_ids=choose_ids(model, 2), use_cache=False)
    except (TypeError, AttributeError):
        return False
    except (RuntimeError, NotImplementedError, ValueError):  # of tensors without values: no sign of padding
        return True
    return True
