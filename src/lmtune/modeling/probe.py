"""Is a model a plain linear head on its base? Only then are its logits head(base(ids)), so that they can be computed in parts.

Neither class nor config shows this for all architectures, so a few tokens decide. Equal losses would not prove it: Gemma 2's
cap moves that of a new model by 1e-5. The head has to get the base model's output and give the logits themselves, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtune.modeling.behaviour import TOKENS, choose_ids, trying

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SCALED_BY = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier_scale",
)
"""Keys of model configs by which logits differ from the head's output (gemma2, cohere, granite, falcon_h1)."""


def find_obstacle(model: PreTrainedModel) -> str | None:
    """Why the logits of `model`, which has no adapter around it, are not head(base(ids)); None if they are."""
    import torch

    name = type(model).__name__
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        return f"{name} has {type(head).__name__ if head is not None else 'nothing'} for a head, not torch.nn.Linear"
    key = next((key for key in SCALED_BY if getattr(model.config, key, None) not in (None, 1, 1.0)), None)
    if key is not None:
        return f"{name} changes its logits after the head ({key}={getattr(model.config, key)})"
    seen: dict[str, torch.Tensor] = {}
    hook = head.register_forward_hook(lambda _, given, made: seen.update(hidden=given[0], logits=made))
    ids = choose_ids(model, TOKENS)
    try:
        with trying(model):
            logits = type(model).forward(model, input_ids=ids, use_cache=False).logits
            base = model.base_model(input_ids=ids, use_cache=False, return_dict=True)
    finally:
        hook.remove()
    if not seen or not torch.equal(seen["logits"], logits):
        return f"{name} changes its logits after the head"
    hidden = getattr(base, "last_hidden_state", None)
    if hidden is None or not torch.equal(seen["hidden"], hidden):
        return f"{name} does more than its base model before the head"
    return None
