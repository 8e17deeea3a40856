"""The training loss of a model without its logits in memory, for every model whose head allows it."""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's name for it

from lmtune.config import LossChoice
from lmtune.errors import ConfigError
from lmtune.modeling.cross_entropy import IGNORED, linear_cross_entropy

SCALED_BY = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier_scale",
)
"""Keys of model configs that make logits something else than the head's output (gemma2, cohere, granite, falcon_h1)."""

COMPILES_SOFTMAX = "compiles_softmax"
"""Attribute of a model whose fused loss takes its softmax in one compiled kernel."""


def install_loss(model: Any, choice: LossChoice) -> list[str]:
    """Make `model(..., labels=...)` compute its loss without logits where that can be done; return why it cannot, if so.

    The forward method is replaced on the instance, so wrappers (DDP, FSDP, autocast, torch.compile, peft) put
    themselves around it as usual. Without labels (generation, evaluation) the model answers as its class does.
    Raises ConfigError for LossChoice.fused where the model does not allow it.
    """
    if choice is LossChoice.plain:
        return []
    obstacle = find_obstacle(model)
    if obstacle is None:
        model.forward = types.MethodType(_build_forward(type(model).forward), model)
        return []
    if choice is LossChoice.fused:
        raise ConfigError(
            f"model.loss=fused: expected logits that are a plain linear head's output, found that {obstacle}. "
            "Leave model.loss out, and the plain loss is taken."
        )
    return [f"plain loss, with logits in memory: {obstacle}"]


def is_fused(model: Any) -> bool:
    """True where install_loss has replaced the forward method, whatever has been put around it since."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # below an adapter of peft
    return bool(getattr(inner.forward, "fuses_loss", False))


def find_obstacle(model: Any) -> str | None:
    """Why the loss of this model cannot be fused, None if it can. Tries it on eight tokens, without gradients.

    Equal losses would not be proof enough: capped logits of a new model are nearly those before the cap. So the head
    has to take the base model's output and give the logits themselves, bit by bit.
    """
    name = type(model).__name__
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        return f"{name} has {type(head).__name__ if head is not None else 'nothing'} for a head, not torch.nn.Linear"
    key = next((key for key in SCALED_BY if getattr(model.config, key, None) not in (None, 1, 1.0)), None)
    if key is not None:
        return f"{name} changes its logits after the head ({key}={getattr(model.config, key)})"
    seen: dict[str, torch.Tensor] = {}
    hook = head.register_forward_hook(lambda _, given, made: seen.update(hidden=given[0], logits=made))
    ids = torch.arange(8, device=head.weight.device)[None] % head.weight.shape[0]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            plain = type(model).forward(model, input_ids=ids, labels=ids, use_cache=False)
            base = model.base_model(input_ids=ids, use_cache=False, return_dict=True)
    finally:
        hook.remove()
        model.train(was_training)
    if not seen or not torch.equal(seen["logits"], plain.logits):
        return f"{name} changes its logits after the head"
    hidden = getattr(base, "last_hidden_state", None)
    if hidden is None or not torch.equal(seen["hidden"], hidden):
        return f"{name} does more than its base model before the head"
    fused = linear_cross_entropy(hidden, head.weight, head.bias, _shift(ids)) / (ids.numel() - 1)
    if not torch.allclose(fused, plain.loss, rtol=1e-5):
        return f"{name} adds something to the cross-entropy"
    return None


def _build_forward(original: Callable[..., Any]) -> Callable[..., Any]:
    """`original`, the forward of a causal model's class, with the loss fused wherever labels are given.

    Nothing of an instance is kept in here: a copy.deepcopy would otherwise answer with the weights of its original.
    """
    names = list(inspect.signature(original).parameters)[1:]

    @functools.wraps(original)  # Trainer reads from the signature which columns and loss arguments the model takes
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        from transformers.modeling_outputs import CausalLMOutputWithPast

        kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
        labels = kwargs.pop("labels", None)
        if labels is None:
            return type(self).forward(self, **kwargs)
        count = kwargs.pop("num_items_in_batch", None)
        targets = kwargs.pop("shift_labels", None)
        targets = _shift(labels) if targets is None else targets
        kwargs.pop("logits_to_keep", None)
        hidden = self.base_model(**{**kwargs, "return_dict": True}).last_hidden_state
        head = self.get_output_embeddings()
        compiles = getattr(self, COMPILES_SOFTMAX, False)
        summed = linear_cross_entropy(hidden, head.weight, head.bias, targets.to(hidden.device), compiles)
        if count is None:
            count = (targets != IGNORED).sum()
        return CausalLMOutputWithPast(loss=summed / (count.to(summed.device) if torch.is_tensor(count) else count))

    forward.fuses_loss = True  # type: ignore[attr-defined]
    return forward


def _shift(labels: torch.Tensor) -> torch.Tensor:
    """Each place's target is the label of the next place; the last place of a row has none."""
    return F.pad(labels, (0, 1), value=IGNORED)[..., 1:]
