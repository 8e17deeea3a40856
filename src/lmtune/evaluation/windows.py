"""How a long text is cut into windows in which every token is scored once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lmtune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one length, of which the last places are scored."""

    starts: np.ndarray
    """[windows] int64: place of the first target of each."""
    length: int
    """Tokens of a window."""
    scored: int
    """How many of them, at its end, are scored; those before are context."""

    @property
    def places(self) -> np.ndarray:
        """[windows, length] int64: places of the targets."""
        return self.starts[:, None] + np.arange(self.length)


def cut_windows(tokens: int, context: int, stride: int, batch_size: int) -> Iterator[Windows]:
    """Windows over `tokens` targets, at most batch_size at a time, in the order of the text.

    The first window scores all of its tokens. Each later one starts `stride` further and scores what is new, so that
    every token but the first `context` has at least context - stride tokens before it. With stride = context the
    windows are disjoint. The last one is as short as the rest of the text. These are the windows of the strided loop
    in the documentation of transformers (docs/source/en/perplexity.md).
    """
    if tokens < context:
        if tokens:
            yield Windows(np.array([0]), tokens, tokens)
        return
    starts = np.arange(0, tokens - context + 1, stride)
    end = int(starts[-1]) + context
    if stride < context:
        yield Windows(starts[:1], context, context)
        starts = starts[1:]
    for number in range(0, len(starts), batch_size):
        yield Windows(starts[number : number + batch_size], context, stride)
    if end < tokens:
        last = end - context + stride
        yield Windows(np.array([last]), tokens - last, tokens - end)


def resolve_stride(stride: int | None, context: int) -> int:
    """The stride, by default the whole window; raises ConfigError for one that would leave tokens out."""
    if stride is not None and stride > context:
        raise ConfigError(
            f"eval.stride={stride}: windows have {context} tokens (eval.context), and those between them would not be scored. "
            f"Give at most {context}."
        )
    return stride or context
