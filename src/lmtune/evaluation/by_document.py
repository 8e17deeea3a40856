"""Where a model is good and bad: held-out documents by their bits per byte, and how each of them changed by training."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmtune.evaluation.documents import describe_document
from lmtune.storage import Record
from lmtune.token_stream import TokenStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FEW, SHOWN = 12, 5
"""Documents up to which all are described; of more, how many at each end."""
MOST = 2_000
"""Documents up to which those of the first evaluation are kept for comparison."""
BARS = 14


def name_documents(stream: TokenStream) -> list[str]:
    """A name for each document from its text; one that is scored in part has another name than the whole."""
    rows = stream.documents
    return [f"{order:016x}-{size}" for order, size in zip(rows["order"].tolist(), rows["bytes"].tolist(), strict=True)]


def build_summary(
    stream: TokenStream,
    bits: np.ndarray,
    before: Sequence[float | None] | None,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    private: bool,
) -> Record:
    """The worst and the best documents, the worst first, and the change of all.

    bits, before: [documents] bits per byte, with the final and with the first weights, None where the first did not score it.
    private: without their beginnings.
    """
    order = np.argsort(-bits, kind="stable").tolist()
    few = len(order) <= FEW
    worst, best = (order, []) if few else (order[:SHOWN], order[-SHOWN:][::-1])

    def describe(place: int) -> Record:
        found = describe_document(stream, place, bits, tokenizer)
        if private:
            del found["beginning"]
        return found if before is None or before[place] is None else {**found, "before": before[place]}

    summary = {
        "documents": len(order),
        "worst": [describe(place) for place in worst],
        "best": [describe(place) for place in best],
    }
    if before is None:
        return summary
    changes = bits - np.array(before, dtype=np.float64)
    return {**summary, "change": count_changes(changes[~np.isnan(changes)])}


def count_changes(changes: np.ndarray) -> Record:
    """A histogram with 0 among its edges, and how many documents became better and worse. changes: bits per byte."""
    edges = choose_edges(float(changes.min()), float(changes.max()))
    counts, _ = np.histogram(changes, edges)
    return {
        "better": int((changes < 0).sum()),
        "worse": int((changes > 0).sum()),
        "edges": edges,
        "counts": counts.tolist(),
    }


def choose_edges(low: float, high: float) -> list[float]:
    """Edges of about BARS bars over [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    wanted = max(high - low, 1e-6) / BARS
    power = 10 ** math.floor(math.log10(wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wanted)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
