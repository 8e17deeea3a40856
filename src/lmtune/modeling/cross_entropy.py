"""Head and cross-entropy together, some rows at a time.

GPT-2's logits for 8 rows of 1,024 tokens are 1.65 GB in float32, and the plain loss holds several copies of them. Here the
gradients of each chunk of rows are taken as soon as its logits exist, as in Liger Kernel (Hsu et al. 2024,
arXiv:2410.10989); only the chunk's logits are ever in memory.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  the field's name for it

IGNORED = -100
"""Label of a place that is not learned, as everywhere in transformers."""

ROWS = 512
"""Tokens whose float32 logits are in memory together; torch's own choice of 16 takes 3.5 times as long on a CPU."""


class Chunk(NamedTuple):
    """Rows that are in memory together in half precision."""

    product: int
    """Of one matrix product. Each adds to the head's gradient once, so more of them take longer."""
    softmax: int
    """Of one softmax, whose float32 values should stay in the cache of a CPU; a GPU is given all of a product at once."""


CHUNKS = {"cpu": Chunk(1024, 16), "cuda": Chunk(2048, 2048)}
"""On a CPU as measured (docs/benchmarks.md); on a GPU reasoned, not measured."""


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
    flat, wanted = hidden.flatten(0, -2), targets.flatten()
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    if half in (torch.bfloat16, torch.float16):
        with torch.autocast(kind, enabled=False):
            learned = tuple(
                torch.is_grad_enabled() and part is not None and part.requires_grad for part in (flat, weight, bias)
            )
            return _HalfPrecision.apply(flat, weight, bias, wanted, half, learned)
    options = torch.nn.LinearCrossEntropyOptions(
        batch_chunk_size=ROWS, allow_retain_graph=torch.compiler.is_compiling()
    )
    return F.linear_cross_entropy(
        flat, weight, wanted, linear_bias=bias, reduction="sum", ignore_index=IGNORED, options=options
    )


def measure_workspace(kind: str, shape: tuple[int, int, int], *, half: bool, fused: bool) -> int:
    """Bytes that head and loss take at their peak on a device of this kind; shape: (rows, features, vocabulary)."""
    rows, features, vocabulary = shape
    head = vocabulary * features
    if not fused:
        return rows * vocabulary * (2 * half + 4 + 4 + 4)  # logits, the same in float32, log-probabilities, gradient
    if not half:
        return min(rows, ROWS) * vocabulary * (4 + 4) + 4 * head  # logits and their slopes; the head's gradient
    chunk = CHUNKS.get(kind, CHUNKS["cpu"])
    logits = min(rows, chunk.product) * vocabulary * 2 + min(rows, chunk.softmax) * vocabulary * 4
    return logits + (2 + 4 + 2) * head  # the head in half precision, its gradient, one chunk's part of that


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
        learned: tuple[bool, bool, bool],
    ) -> torch.Tensor:
        """`learned`: whether the gradients of hidden, weight and bias are needed."""
        chunk = CHUNKS.get(hidden.device.type, CHUNKS["cpu"])
        at_once = chunk.product if torch.compiler.is_compiling() else chunk.softmax  # loops are unrolled by a compiler
        inputs, matrix, offset = hidden.to(half), weight.to(half), None if bias is None else bias.to(half)
        counted = (targets != IGNORED)[:, None]
        places = targets.clamp(min=0)[:, None]
        summed = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads = [
            torch.zeros_like(part, dtype=kind) if needed and part is not None else None
            for part, kind, needed in zip(
                (hidden, weight, bias), (hidden.dtype, torch.float32, torch.float32), learned, strict=True
            )
        ]
        for start in range(0, len(hidden), chunk.product):
            some = slice(start, start + chunk.product)
            logits = F.linear(inputs[some], matrix, offset)
            summed += _sum_losses(logits, places[some], counted[some], at_once, any(learned))
            _add_gradients(grads, some, logits, inputs[some], matrix, counted[some])
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
        return *grads, None, None, None


def _sum_losses(
    logits: torch.Tensor, places: torch.Tensor, counted: torch.Tensor, rows: int, slopes: bool
) -> torch.Tensor:
    """Sum of the losses at `places` [rows, 1] where `counted` [rows, 1], `rows` of them at a time.

    With `slopes`, logits [rows, vocabulary] become d loss / d logits = softmax - one_hot, in place and whether counted or
    not. At the target that is exp(log p) - 1, whose digits a rounded probability near 1 would lose.
    """
    summed = torch.zeros((), dtype=torch.float32, device=logits.device)
    for some, place, counts in zip(logits.split(rows), places.split(rows), counted.split(rows), strict=True):
        logs = torch.log_softmax(some, dim=-1, dtype=torch.float32)
        chosen = logs.gather(1, place)
        summed -= torch.where(counts, chosen, 0).sum()
        if slopes:
            torch.exp(logs, out=some)
            some.scatter_(1, place, torch.expm1(chosen).to(some.dtype))
    return summed


def _add_gradients(
    grads: list[torch.Tensor | None],
    some: slice,
    slopes: torch.Tensor,
    inputs: torch.Tensor,
    matrix: torch.Tensor,
    counted: torch.Tensor,
) -> None:
    """Add one chunk's part of the gradients of hidden, weight and bias.

    Rows that are not counted are left out on the narrow side of each product, not in slopes [rows, vocabulary].
    """
    hidden, weight, bias = grads
    if hidden is not None:
        hidden[some] = (slopes @ matrix).mul_(counted)
    if weight is not None:
        weight += slopes.T @ (inputs * counted)
    if bias is not None:
        bias += (slopes * counted).sum(0, dtype=torch.float32)
