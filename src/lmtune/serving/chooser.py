"""The next token of one text, chosen as model.generate would with the same settings and seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from lmtune.modeling.generation import check_scores, explaining_settings

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

Processor: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Changes scores [rows, vocabulary] by ids [rows, tokens], as LogitsProcessor does."""


class Chooser:
    """The logits processors of one text, as generate builds them, and its own random generator.

    torch.multinomial draws the same from a generator with a seed as from the global one after torch.manual_seed.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: GenerationConfig,
        prompt: Sequence[int],
        seed: int,
        processors: Sequence[Processor] = (),
    ) -> None:
        settled = settle_config(model, config, len(prompt))
        self._model = model
        self._ids = torch.zeros((1, int(settled.max_length)), dtype=torch.long, device=model.device)
        self._ids[0, : len(prompt)] = torch.tensor(prompt)
        self._length = len(prompt)
        self._processors = _build_processors(model, settled, self._ids[:, : len(prompt)], processors)
        self._random = torch.Generator(device=model.device).manual_seed(seed) if settled.do_sample else None
        self.ends = frozenset(_list_ids(settled.eos_token_id))
        """Ids that end a text."""

    @property
    def is_plain(self) -> bool:
        """True if the token with the best score is always taken, without any processor."""
        return self._random is None and not self._processors

    def choose(self, logits: torch.Tensor) -> int:
        """The next token. logits: [1, vocabulary]; raises ModelError or ConfigError if there is nothing to choose from."""
        ids = self._ids[:, : self._length]
        with explaining_settings():
            scores = check_scores(self._model, ids, self._processors(ids, logits.clone()))
        if self._random is None:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(dim=-1), num_samples=1, generator=self._random))

    def append(self, token: int) -> None:
        """Append a chosen token."""
        self._ids[0, self._length] = token
        self._length += 1


def settle_config(model: PreTrainedModel, config: GenerationConfig, length: int) -> GenerationConfig:
    """The config as generate completes it: defaults of the model and of transformers, special ids as tensors, lengths.

    length: tokens of the prompt.
    """
    parts = cast("Any", model)
    settled: GenerationConfig = parts._prepare_generation_config(copy.deepcopy(config))[0]
    # transformers before 5.23 takes no batch size.
    rows = {"batch_size": 1} if "batch_size" in signature(parts._prepare_special_tokens).parameters else {}
    parts._prepare_special_tokens(settled, device=model.device, **rows)
    settled.max_length = length + int(settled.max_new_tokens or 0)
    if settled.min_new_tokens is not None:
        settled.min_length = length + settled.min_new_tokens
    return settled


def _build_processors(
    model: PreTrainedModel, settled: GenerationConfig, prompt: torch.Tensor, own: Sequence[Processor]
) -> Any:
    from transformers import LogitsProcessorList

    return cast("Any", model)._get_logits_processor(
        settled,
        input_ids_seq_length=prompt.shape[1],
        encoder_input_ids=prompt,
        logits_processor=LogitsProcessorList(own),
        device=model.device,
    )


def _list_ids(ids: Any) -> list[int]:
    return [] if ids is None else list(ids) if isinstance(ids, list) else [ids]


class CountPenalties:
    """OpenAI's penalties: a token's score falls with its count in the text, and once if it occurs at all.

    Source: the definition of presence_penalty and frequency_penalty in OpenAI's API reference. The prompt does not count.
    """

    def __init__(self, presence: float, frequency: float, prompt_length: int) -> None:
        self.presence = presence
        self.frequency = frequency
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: [rows, vocabulary]."""
        written = input_ids[:, self.prompt_length :]
        counts = torch.zeros_like(scores).scatter_add_(1, written, torch.ones_like(written, dtype=scores.dtype))
        return scores - self.frequency * counts - self.presence * (counts > 0)
