"""The training loss of a model without its logits in memory, for every model whose head allows it."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's name for it

from lmtune.config import LossChoice
from lmtune.errors import ConfigError
from lmtune.modeling import probe
from lmtune.modeling.behaviour import TOKENS, choose_ids, trying
from lmtune.modeling.cross_entropy import IGNORED, linear_cross_entropy
from lmtune.modeling.layers import COMPILES_SOFTMAX, below_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def install_loss(model: PreTrainedModel, choice: LossChoice) -> list[str]:
    """Make `model(..., labels=...)` compute the loss that training needs, without logits in memory if possible.

    Returns remarks on it. A class that does not shift its labels (BartForCausalLM) would learn to copy its input,
    so if the plain loss is not the cross-entropy of the model's logits at shift_labels, lmtune computes that itself.

    The forward method is replaced on the instance, so wrappers (DDP, FSDP, autocast, torch.compile, peft) wrap
    it as usual. Without labels (generation, evaluation) the model answers as its class does.
    Raises ConfigError for LossChoice.fused and .plain if the model does not allow it.
    """
    misfit = find_misfit(model)
    if choice is LossChoice.plain:
        if misfit is not None:
            raise ConfigError(f"model.loss=plain: {misfit}. Leave it out, and lmtune takes the loss of its logits.")
        return []
    obstacle = find_obstacle(model)
    remarks = [] if misfit is None else [f"the loss is the cross-entropy of the model's logits: {misfit}"]
    if obstacle is None:
        model.forward = types.MethodType(_build_forward(type(model).forward), model)
        return remarks
    if choice is LossChoice.fused:
        raise ConfigError(
            f"model.loss=fused: expected logits that are a plain linear head's output, found that {obstacle}. "
            "Leave model.loss out, and the plain loss is taken."
        )
    if misfit is not None:
        model.forward = types.MethodType(_build_forward(type(model).forward, _sum_of_logits), model)
        return [f"{remarks[0]}; {obstacle}, so they are held in memory"]
    return [f"plain loss, with logits in memory: {obstacle}"]


def install_again(model: PreTrainedModel, fuses: bool | None) -> None:
    """Make a copy of a model compute its loss as the original does. fuses: find_fuses of the original."""
    if fuses is not None:
        model.forward = types.MethodType(_build_forward(type(model).forward, None if fuses else _sum_of_logits), model)


def find_fuses(model: PreTrainedModel) -> bool | None:
    """True if install_loss has fused the loss, False if it computes it from the logits, None if the class's own is used."""
    fuses: bool | None = getattr(below_adapter(model).forward, "fuses_loss", None)
    return fuses


def is_fused(model: PreTrainedModel) -> bool:
    """True if install_loss has fused the loss, whatever wraps the model since."""
    return bool(find_fuses(model))


def find_obstacle(model: PreTrainedModel) -> str | None:
    """Why the loss of this model cannot be fused, None if it can."""
    found = probe.find_obstacle(model)
    if found is None and _adds_router_loss(model):
        return f"{type(model).__name__} adds something to the cross-entropy, its router's loss"
    return found


def find_misfit(model: PreTrainedModel) -> str | None:
    """Why the loss of the model's class is not the one that training needs, None if it is; tried on eight tokens.

    Training needs the cross-entropy of its logits at shift_labels, over num_items_in_batch, as Trainer passes them to it.
    """
    name = type(model).__name__
    ids = choose_ids(model, TOKENS)
    targets = ids.flip(-1).clone()
    targets[0, 2] = IGNORED
    count = torch.tensor(TOKENS - 2, device=ids.device)
    with trying(model):
        try:
            made = type(model).forward(
                model, input_ids=ids, labels=ids, shift_labels=targets, num_items_in_batch=count, use_cache=False,
                **_without_router(model),
            )  # fmt: skip
        except TypeError:
            return f"{name} takes no shift_labels"
    logits = made.logits.float()
    if not torch.isfinite(logits).all() or _is_near(made.loss, _sum_of_logits(logits, targets) / count):
        return None
    copied = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
    if _is_near(made.loss, copied):
        return f"{name} does not shift its labels"
    return f"that of {name} is another"


def _is_near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), rtol=1e-5, atol=1e-6)


def _without_router(model: PreTrainedModel) -> dict[str, bool]:
    """Settings of a forward call that leave the loss of a router out."""
    return {"output_router_logits": False} if getattr(model.config, "output_router_logits", False) else {}


def _adds_router_loss(model: PreTrainedModel) -> bool:
    """True for a mixture of experts whose loss has a second term, which its forward adds in training."""
    return bool(_without_router(model)) and getattr(model.config, "router_aux_loss_coef", 0) != 0


def _sum_of_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of the cross-entropies of logits [..., vocabulary] at targets [...], IGNORED left out; at least in float32."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="sum")


def _build_forward(
    original: Callable[..., Any], sum_of_logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
) -> Callable[..., Any]:
    """`original`, the forward of a causal model's class, with lmtune's loss wherever labels are given.

    sum_of_logits: the loss of logits and targets, for a model whose head does not allow the fused one.
    The closure holds no instance: a copy.deepcopy would otherwise compute with the weights of its original.
    """
    names = list(inspect.signature(original).parameters)[1:]

    @functools.wraps(original)  # Trainer reads from the signature which columns and loss arguments the model takes
    def forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        from transformers.modeling_outputs import CausalLMOutputWithPast

        kwargs = {**dict(zip(names, args)), **kwargs}  # noqa: B905  torch 2.8 compiles no strict=
        labels = kwargs.pop("labels", None)
        if labels is None:
            return type(self).forward(self, **kwargs)
        count = kwargs.pop("num_items_in_batch", None)
        targets = kwargs.pop("shift_labels", None)
        targets = _shift(labels) if targets is None else targets
        kwargs.pop("logits_to_keep", None)
        if sum_of_logits is not None:
            logits = type(self).forward(self, **{**kwargs, "return_dict": True}).logits
            summed = sum_of_logits(logits, targets.to(logits.device))
        else:
            hidden = self.base_model(**{**kwargs, "return_dict": True}).last_hidden_state
            head = self.get_output_embeddings()
            compiles = getattr(self, COMPILES_SOFTMAX, False)
            summed = linear_cross_entropy(hidden, head.weight, head.bias, targets.to(hidden.device), compiles)
        if count is None:
            count = (targets != IGNORED).sum()
        return CausalLMOutputWithPast(loss=summed / (count.to(summed.device) if torch.is_tensor(count) else count))

    forward.fuses_loss = sum_of_logits is None  # type: ignore[attr-defined]
    return forward


def _shift(labels: torch.Tensor) -> torch.Tensor:
    """Each position's target is the label of the next one; the last position of a row has none."""
    return F.pad(labels, (0, 1), value=IGNORED)[..., 1:]
