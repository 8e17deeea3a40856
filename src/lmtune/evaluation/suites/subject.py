"""The model that a benchmark is run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtune.errors import DataError
from lmtune.evaluation.scorer import open_scorer
from lmtune.evaluation.suites.requests import Answer, Request, score_requests
from lmtune.patience import saying
from lmtune.vocabulary import encode_opening, encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its tokenizer, and how texts are scored on it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int
    """Tokens of a window."""
    batch_size: int
    """Windows, or requests, at once."""
    dtype: str
    """The dtype of weights and activations, by torch's name."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text alone."""
        return encode_plain(self.tokenizer, [text])[0]

    def encode_opened(self, text: str) -> list[int]:
        """The tokenizer's opening ids, then the ids of a text."""
        return [*self.opening, *self.encode(text)]

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that the tokenizer itself puts before a text, such as a BOS."""
        return encode_opening(self.tokenizer)

    def score(self, requests: list[Request]) -> list[Answer]:
        """An answer to each request, in their order; raises DataError and TrainingError as score_requests does."""
        with open_scorer(self.model, self.dtype) as scorer, saying(f"scoring {len(requests):,} requests"):
            return score_requests(scorer, requests, self.context, self.batch_size)

    @property
    def separator(self) -> int:
        """The end-of-text token, which the first token of a text is predicted from."""
        if self.tokenizer.eos_token_id is None:
            raise DataError("the vocabulary has no end-of-text token to predict the first token from")
        return int(self.tokenizer.eos_token_id)
