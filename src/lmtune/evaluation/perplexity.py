"""The one evaluator: training, `lmtune eval` and reports all score text here.

Documents stand end to end, a separator after each. Every token is scored exactly once: the first from one separator,
windows of `context` tokens share one token with the window before, so that its first token is predicted too.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the field's name for it

from lmtune.errors import TrainingError
from lmtune.evaluation.metrics import Sums, measure_all
from lmtune.streams import TokenStream


def _alone(sums: torch.Tensor) -> torch.Tensor:
    return sums


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that share an evaluation, and how their sums are added."""

    rank: int = 0
    size: int = 1
    add: Callable[[torch.Tensor], torch.Tensor] = _alone
    """Sum over processes of a float64 tensor, the same on each."""


def evaluate_stream(
    model: Any, stream: TokenStream, context: int, batch_size: int, workers: Workers | None = None
) -> dict[str, Any]:
    """Measures of `model` on `stream`, in float32, with the protocol that they rest on and the seconds they took.

    Raises TrainingError where a loss is not finite.
    """
    started = time.perf_counter()
    sums = score_stream(model, stream, context, batch_size, workers or Workers())
    protocol = {
        "context": context,
        "stride": context,
        "separator": stream.separator,
        "documents": len(stream.documents),
        "dtype": "float32",
    }
    return {**measure_all(sums), "seconds": time.perf_counter() - started, "protocol": protocol}


def score_stream(model: Any, stream: TokenStream, context: int, batch_size: int, workers: Workers) -> Sums:
    """Sums over all tokens of the stream; each process scores every size-th batch."""
    separators = stream.is_separator()
    totals = np.zeros(5)
    with full_precision(model) as forward:
        for number, batch in enumerate(window_batches(len(stream.ids), context, batch_size)):
            if number % workers.size == workers.rank:
                part = _score_batch(forward, model.device, stream, batch)
                if not np.isfinite(part[0]):
                    raise TrainingError(_explain_non_finite(stream, batch))
                totals += _sum_by_kind(*part[1:], separators[batch.reshape(-1)])
    added = workers.add(torch.from_numpy(totals)).numpy()
    texts = stream.documents
    nll, tokens, separator_nll, separator_count, correct = added.tolist()
    return Sums(
        nll=nll,
        tokens=tokens,
        separator_nll=separator_nll,
        separators=separator_count,
        correct=correct,
        bytes=float(texts["bytes"].sum()),
        words=float(texts["words"].sum()),
    )


def window_batches(tokens: int, context: int, batch_size: int) -> Iterator[np.ndarray]:
    """Places of the tokens to score, [windows, context] at a time; the last window, if shorter, alone."""
    full = tokens // context
    places = np.arange(full * context).reshape(full, context)
    for start in range(0, full, batch_size):
        yield places[start : start + batch_size]
    if tokens > full * context:
        yield np.arange(full * context, tokens)[None]


@contextmanager
def full_precision(model: Any) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """A function from ids [rows, places] to logits [rows, places, vocabulary], in float32 without autocast or TF32.

    accelerate hides autocast inside model.forward; its own record of the original is used instead. Random states and
    the training mode stay as they were.
    """
    original = getattr(model, "_original_forward", model.forward)
    was_training = model.training
    # The newer of torch's two switches: transformers uses it for TF32, and reading the older one then raises.
    switches = (torch.backends, torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)
    before = [switch.fp32_precision for switch in switches]
    model.eval()
    _set_precision(switches, ["ieee"] * len(switches))
    try:
        with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
            yield lambda ids: original(input_ids=ids, use_cache=False).logits
    finally:
        _set_precision(switches, before)
        model.train(was_training)


def _set_precision(switches: Sequence[Any], values: Sequence[str]) -> None:
    for switch, value in zip(switches, values, strict=True):
        switch.fp32_precision = value


def _score_batch(
    forward: Callable[[torch.Tensor], torch.Tensor], device: torch.device, stream: TokenStream, places: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """(sum, nll [tokens] float64, correct [tokens] bool) of one batch of windows."""
    targets = stream.ids[places].astype(np.int64)
    inputs = np.where(places > 0, stream.ids[np.maximum(places - 1, 0)], stream.separator).astype(np.int64)
    logits = forward(torch.from_numpy(inputs).to(device))
    wanted = torch.from_numpy(targets).to(device)
    # Row by row: the float32 copy that the softmax makes is then one window, not the batch.
    nll = torch.stack(
        [F.cross_entropy(row.float(), goal, reduction="none") for row, goal in zip(logits, wanted, strict=True)]
    )
    correct = logits.argmax(dim=-1) == wanted
    losses = nll.cpu().double().reshape(-1).numpy()
    return float(losses.sum()), losses, correct.cpu().reshape(-1).numpy()


def _sum_by_kind(losses: np.ndarray, correct: np.ndarray, separators: np.ndarray) -> np.ndarray:
    ends = int(separators.sum())
    end_loss = losses[separators].sum()
    return np.array([losses.sum() - end_loss, len(losses) - ends, end_loss, ends, correct.sum()], dtype=np.float64)


def _explain_non_finite(stream: TokenStream, places: np.ndarray) -> str:
    first, last = int(places.min()), int(places.max())
    documents = np.searchsorted(stream.ends, [first, last], side="right")
    return (
        f"The loss of held-out tokens {first:,} to {last:,} (documents {documents[0] + 1} to {documents[1] + 1}) is not a finite "
        "number, so the weights are damaged. Take an earlier checkpoint, and lower training.learning_rate."
    )
