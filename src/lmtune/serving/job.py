"""The unit of work of the engine: a prompt, settings, and a receiver of the pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmtune.serving.names import name_token
from lmtune.serving.output import Output, Piece, StopSearch, TextStream, Token

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The tokens of the prompt with their log-probabilities, for an answer that echoes it."""

    index: int
    tokens: tuple[Token, ...]


Event = Piece | PromptTokens | Exception


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One prompt with its settings; gives one text, or several if generate makes them together."""

    index: int
    """Index of its first text among those of its request."""
    ids: list[int]
    """Ids of the prompt; at least one."""
    config: GenerationConfig
    new_tokens: int
    """Tokens to generate, at most; with 0 only the prompt is scored."""
    seed: int
    send: Callable[[Event], None]
    """Receives events, from any thread."""
    tokenizer: PreTrainedTokenizerBase
    stops: Sequence[str] = ()
    penalties: tuple[float, float] = (0.0, 0.0)
    """OpenAI's presence_penalty and frequency_penalty."""
    top: int | None = None
    """How many likeliest tokens are returned with each token; None for no log-probabilities."""
    scores_prompt: bool = False
    deadline: float = float("inf")
    """Time by time.monotonic() at which the text ends."""
    outputs: list[Output] = field(default_factory=list)
    cancelled: bool = False
    """True if nobody waits for it any more."""

    @property
    def sequences(self) -> int:
        """Number of texts that it gives."""
        return int(self.config.num_return_sequences or 1)

    @property
    def alone(self) -> bool:
        """True if generate has to write it alone, outside the batch: beams, guidance, several texts of one draw."""
        config = self.config
        return (
            self.sequences > 1
            or (config.num_beams or 1) > 1
            or config.guidance_scale not in (None, 1)
            or config.prompt_lookup_num_tokens is not None
            or bool(config.token_healing)
        )

    @property
    def is_over(self) -> bool:
        """True if nothing more is to be generated."""
        return self.cancelled or self.expired

    @property
    def expired(self) -> bool:
        """True if its time is up."""
        return time.monotonic() > self.deadline

    def open_outputs(self, ends: frozenset[int]) -> list[Output]:
        """An output for each text. ends: ids that end one."""
        self.outputs = [
            Output(
                index=self.index + number,
                stream=TextStream(self.tokenizer, self.ids),
                stops=StopSearch(self.stops),
                ends=ends,
                most=self.new_tokens,
            )
            for number in range(self.sequences)
        ]
        return self.outputs

    def give(self, piece: Event | None) -> None:
        """Send a piece, if there is one."""
        if piece is not None and not self.cancelled:
            self.send(piece)

    def close(self) -> None:
        """End its texts as they are."""
        for output in self.outputs:
            self.give(output.close())

    def describe(self, token: int, logprobs: torch.Tensor) -> Token:
        """A token with its log-probabilities. logprobs: [vocabulary]."""
        best = logprobs.topk(min(self.top or 0, logprobs.shape[0]))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        top = tuple((self.name(index), value) for index, value in pairs)
        return Token(self.name(token), float(logprobs[token]), top)

    def name(self, token: int) -> str:
        """A token as text."""
        return name_token(self.tokenizer, token)
