"""Head and cross-entropy together, some rows at a time.

GPT-2's logits for 8 rows of 1,024 tokens are 1.65 GB in float32, and the plain loss holds several copies of them. Here the
gradients of each chunk of rows are taken as soon as its logits exist, as in Liger Kernel (Hsu et al. 2024,
arXiv:2410.10989); only the chunk's logits are ever in memory.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  the field's name for it

IGNORED = -100
"""Label of a place that is not learned, as everywhere in transformers."""


class Chunk(NamedTuple):
    """Rows that are in memory together."""

    product: int
    """Rows of one matrix product in half precision; in float32 half as many. Each product adds to the head's gradient once."""
    softmax: int
    """Rows of one softmax without torch.compile: its float32 values should fit the cache of a CPU, and take little of a GPU."""


CHUNKS = {"cpu": Chunk(1024, 16), "cuda": Chunk(8192, 2048)}
"""As measured (docs/benchmarks.md)."""

MULTIPLES = {"cuda": 64}
"""What a vocabulary is padded to a multiple of for the products: a GPU's fast kernels want rows of whole 16 bytes, and those of
GPT-2's 50,257 tokens are none."""


@torch.compiler.disable  # the compiler of torch 2.11 loses what is added in place in here, and all gradients are zero
def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    compiles: bool = False,
) -> torch.Tensor:
    """Sum of the cross-entropies of softmax(hidden @ weight.T + bias) at `targets`, a float32 scalar.

    hidden: [..., features]. weight: [vocabulary, features]. bias: [vocabulary]. targets: [...] int64, IGNORED left out.
    compiles: take the softmax of a whole chunk in one compiled kernel.

    Under autocast, or with weights in half precision, the products are taken in that precision and everything else in
    float32. torch's own operation (torch.nn.functional.linear_cross_entropy, from 2.13 on) has no autocast rule, and keeps
    its sum of losses in bfloat16, where it is off by a tenth over a few thousand tokens.
    """
    kind = hidden.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    learned = tuple(
        torch.is_grad_enabled() and part is not None and part.requires_grad for part in (hidden, weight, bias)
    )
    with torch.autocast(kind, enabled=False):
        return _LinearCrossEntropy.apply(
            hidden.flatten(0, -2), weight, bias, targets.flatten(), precision, learned, compiles
        )


def measure_workspace(kind: str, shape: tuple[int, int, int], *, half: bool, fused: bool) -> int:
    """Bytes that head and loss take at their peak on a device of this kind; shape: (rows, features, vocabulary)."""
    rows, features, vocabulary = shape
    if not fused:
        return rows * vocabulary * (2 * half + 4 + 4 + 4)  # logits, the same in float32, log-probabilities, gradient
    size = 2 if half else 4
    chunk, width = _choose_chunk(kind), vocabulary + _count_padding(kind, vocabulary)
    copies = 1 + half * (kind == "cuda")  # CUDA's softmax of bfloat16 copies the logits to float32 first
    logits = min(rows, _count_rows(chunk, size)) * width * size + copies * min(rows, chunk.softmax) * width * 4
    # The head's gradient; in half precision the head itself too, and on a CPU one chunk's part of its gradient.
    return logits + (4 + (2 + 2 * (kind != "cuda")) * half) * width * features


def _choose_chunk(kind: str) -> Chunk:
    """The chunk for a kind of device; an unknown one is taken for a GPU, which wants few kernels."""
    return CHUNKS.get(kind, CHUNKS["cuda"])


def _count_rows(chunk: Chunk, size: int) -> int:
    """Rows of one matrix product whose numbers take `size` bytes: as much memory in any precision."""
    return max(1, chunk.product * 2 // size)


def _count_padding(kind: str, vocabulary: int) -> int:
    """Entries that a vocabulary is padded by."""
    return -vocabulary % MULTIPLES.get(kind, 1)


class _LinearCrossEntropy(torch.autograd.Function):
    """Products in one precision, as autocast would take them; softmax, losses and sums over chunks in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        precision: torch.dtype,
        learned: tuple[bool, bool, bool],
        compiles: bool,
    ) -> torch.Tensor:
        """`learned`: whether the gradients of hidden, weight and bias are needed."""
        chunk = _choose_chunk(hidden.device.type)
        rows = _count_rows(chunk, precision.itemsize)
        inputs = hidden.to(precision)
        matrix, offset = _pad(weight, bias, precision)
        counted, places = (targets != IGNORED)[:, None], targets.clamp(min=0)[:, None]
        summed = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads = _build_sums(hidden, matrix, offset, learned)
        for start in range(0, len(hidden), rows):
            some = slice(start, start + rows)
            logits = F.linear(inputs[some], matrix, offset)
            # The compiler would make another kernel for each shape: a short last chunk is left to the eager ones.
            losses = _build_compiled() if compiles and len(logits) == rows else _compute_losses
            found = losses(logits, places[some], chunk.softmax, any(learned))
            summed += torch.where(counted[some], found, 0).sum()
            _add_gradients(grads, some, logits, inputs[some], matrix, counted[some])
            del logits  # or they would be in memory beside the next ones
        ctx.save_for_backward(grads[0], *(None if grad is None else grad[: len(weight)] for grad in grads[1:]))
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


def _pad(
    weight: torch.Tensor, bias: torch.Tensor | None, precision: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The head in the precision of its products, padded by entries whose logits are -inf and whose gradients are 0."""
    more = _count_padding(weight.device.type, len(weight))
    if not more:
        return weight.to(precision), None if bias is None else bias.to(precision)
    offset = weight.new_zeros(len(weight)) if bias is None else bias
    return F.pad(weight.to(precision), (0, 0, 0, more)), F.pad(offset.to(precision), (0, more), value=-torch.inf)


def _build_sums(
    hidden: torch.Tensor, matrix: torch.Tensor, offset: torch.Tensor | None, learned: tuple[bool, bool, bool]
) -> list[torch.Tensor | None]:
    """Zeros for the gradients that are needed, those of the head in float32."""
    kinds = (hidden.dtype, torch.float32, torch.float32)
    return [
        torch.zeros_like(part, dtype=kind) if needed and part is not None else None
        for part, kind, needed in zip((hidden, matrix, offset), kinds, learned, strict=True)
    ]


def _compute_losses(logits: torch.Tensor, places: torch.Tensor, rows: int, slopes: bool) -> torch.Tensor:
    """Losses [rows, 1] at `places` [rows, 1], taken for `rows` of them at a time.

    With `slopes`, logits [rows, vocabulary] become d loss / d logits = softmax - one_hot, in place. At the target that is
    exp(log p) - 1, whose digits a rounded probability near 1 would lose.
    """
    losses = []
    for some, place in zip(logits.split(rows), places.split(rows), strict=True):
        logs = torch.log_softmax(some, dim=-1, dtype=torch.float32)
        chosen = logs.gather(1, place)
        losses.append(-chosen)
        if slopes:
            torch.exp(logs, out=some)
            some.scatter_(1, place, torch.expm1(chosen).to(some.dtype))
    return torch.cat(losses)


def _compute_losses_at_once(logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Logarithms [rows, 1] of the sums of exp(logits), whose values become the slopes of the losses; written for a compiler."""
    wide = logits.float()
    largest = wide.amax(-1, keepdim=True)
    summed = (wide - largest).exp().sum(-1, keepdim=True).log() + largest
    logs, columns = wide - summed, torch.arange(logits.shape[1], device=logits.device)[None]
    logits.copy_(torch.where(columns == places, torch.expm1(logs), torch.exp(logs)))
    return summed


@cache
def _build_compiled() -> Callable[[torch.Tensor, torch.Tensor, int, bool], torch.Tensor]:
    """`_compute_losses` in one kernel that reads the logits twice and writes the slopes once."""
    compiled = torch.compile(_compute_losses_at_once, dynamic=False)

    def compute(logits: torch.Tensor, places: torch.Tensor, rows: int, slopes: bool) -> torch.Tensor:
        chosen = logits.gather(
            1, places
        ).float()  # outside: torch 2.11's compiler reads it after the slopes are written
        return compiled(logits, places) - chosen if slopes else _compute_losses(logits, places, rows, slopes)

    return compute


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
        _add_product(weight, slopes.T, inputs * counted)
    if bias is not None:
        bias += (slopes * counted).sum(0, dtype=torch.float32)


def _add_product(total: torch.Tensor, one: torch.Tensor, two: torch.Tensor) -> None:
    """total += one @ two, with a float32 total that takes the product unrounded where torch can."""
    if one.dtype == total.dtype:
        total.addmm_(one, two)
    elif total.is_cuda:
        torch.addmm(total, one, two, out_dtype=total.dtype, out=total)
    else:
        total += one @ two
