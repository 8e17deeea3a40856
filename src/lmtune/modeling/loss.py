"""The training loss without logits in memory: head and cross-entropy together, some rows at a time.

GPT-2's logits for 8 rows of 1,024 tokens are 1.65 GB in float32, and the plain loss holds several copies of them. Here the
gradients of each chunk of rows are taken as soon as its logits exist, as in Liger Kernel (Hsu et al. 2024,
arXiv:2410.10989); only the chunk's logits are ever in memory.
"""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's name for it

from lmtune.config import LossChoice
from lmtune.errors import ConfigError

IGNORED = -100
"""Label of a place that is not learned, as everywhere in transformers."""

CHUNK_ROWS = {"cpu": 512, "cuda": 2048}
"""Tokens whose logits are in memory together. On a CPU fewer are slower: torch's own choice of 16 takes 3.5 times as long
as 512. On a GPU each chunk adds to the head's gradient once, so chunks are larger; 2,048 is reasoned, not measured."""

SCALED_BY = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier_scale",
)
"""Keys of model configs that make logits something else than the head's output (gemma2, cohere, granite, falcon_h1)."""


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
        summed = linear_cross_entropy(hidden, head.weight, head.bias, targets.to(hidden.device))
        if count is None:
            count = (targets != IGNORED).sum()
        return CausalLMOutputWithPast(loss=summed / (count.to(summed.device) if torch.is_tensor(count) else count))

    forward.fuses_loss = True  # type: ignore[attr-defined]
    return forward


def _shift(labels: torch.Tensor) -> torch.Tensor:
    """Each place's target is the label of the next place; the last place of a row has none."""
    return F.pad(labels, (0, 1), value=IGNORED)[..., 1:]


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Sum of the cross-entropies of softmax(hidden @ weight.T + bias) at `targets`, a float32 scalar.

    hidden: [..., features]. weight: [vocabulary, features]. bias: [vocabulary]. targets: [...] int64, IGNORED left out.

    Under autocast, or with weights in half precision, the products are taken in that precision and everything else in
    float32. torch's own operation is not used there: it has no autocast rule, and its sum of losses is kept in
    bfloat16, where it is off by a tenth over a few thousand tokens (torch 2.13).
    """
    kind = hidden.device.type
    rows = CHUNK_ROWS.get(kind, CHUNK_ROWS["cpu"])
    flat, wanted = hidden.flatten(0, -2), targets.flatten()
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    if half in (torch.bfloat16, torch.float16):
        with torch.autocast(kind, enabled=False):
            learned = tuple(
                torch.is_grad_enabled() and part is not None and part.requires_grad for part in (flat, weight, bias)
            )
            return _HalfPrecision.apply(flat, weight, bias, wanted, half, rows, learned)
    options = torch.nn.LinearCrossEntropyOptions(
        batch_chunk_size=rows, allow_retain_graph=torch.compiler.is_compiling()
    )
    return F.linear_cross_entropy(
        flat, weight, wanted, linear_bias=bias, reduction="sum", ignore_index=IGNORED, options=options
    )


class _HalfPrecision(torch.autograd.Function):
    """Products in bfloat16 or float16, as autocast would take them; softmax, losses and sums over chunks in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        half: torch.dtype,
        rows: int,
        learned: tuple[bool, bool, bool],
    ) -> torch.Tensor:
        """`learned`: whether the gradients of hidden, weight and bias are needed."""
        inputs, matrix = hidden.to(half), weight.to(half)
        summed = torch.zeros((), dtype=torch.float32, device=hidden.device)
        kinds = (hidden.dtype, torch.float32, torch.float32)
        grads = [
            torch.zeros_like(part, dtype=kind) if needed and part is not None else None
            for part, kind, needed in zip((hidden, weight, bias), kinds, learned, strict=True)
        ]
        for start in range(0, len(hidden), rows):
            chunk, goals = inputs[start : start + rows], targets[start : start + rows]
            logits = F.linear(chunk, matrix, None if bias is None else bias.to(half))
            logs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
            counted = (goals != IGNORED)[:, None]
            places = goals.clamp(min=0)[:, None]
            summed -= torch.where(counted, logs.gather(1, places), 0).sum()
            if any(learned):
                # d loss / d logits = softmax - one_hot, and 0 where nothing is learned.
                slope = logs.exp_().scatter_add_(1, places, torch.full_like(places, -1, dtype=logs.dtype)).mul_(counted)
                _add_gradients(grads, start, slope.to(half), chunk, matrix)
        ctx.save_for_backward(*grads)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return summed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> Any:
        # In place: the head's gradient is as large as the head. A second backward through it is refused by torch.
        grads = [
            None if grad is None else grad.mul_(outer).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return *grads, None, None, None, None


def _add_gradients(
    grads: list[torch.Tensor | None], start: int, slope: torch.Tensor, chunk: torch.Tensor, matrix: torch.Tensor
) -> None:
    """Add one chunk's part of the gradients of hidden, weight and bias; slope is [rows, vocabulary]."""
    hidden, weight, bias = grads
    if hidden is not None:
        hidden[start : start + len(chunk)] = slope @ matrix
    if weight is not None:
        weight += slope.T @ chunk
    if bias is not None:
        bias += slope.sum(0, dtype=torch.float32)
