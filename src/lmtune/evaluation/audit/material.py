"""What an audit asks a model for: everything is gathered before a model is loaded, so that each is scored in one go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from lmtune.data.blocks import Blocks
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import ConfigError
from lmtune.evaluation.audit.canaries import CanaryTexts, draw_texts
from lmtune.evaluation.audit.identifiers import Prompts, build_prompts, search
from lmtune.evaluation.audit.passages import Sides, draw_passages
from lmtune.evaluation.audit.rows import Row

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from transformers import PreTrainedTokenizerBase

    from lmtune.config import AuditConfig
    from lmtune.data.canaries import Canary
    from lmtune.data.corpus import Corpus

FEWEST = 16
"""Tokens of a part of a passage whose length was not given, at least: a few come back by chance."""


class Material(NamedTuple):
    """The rows that an audit scores, by its parts; None for a part that is left out."""

    canaries: CanaryTexts | None
    passages: Sides | None
    identifiers: tuple[Prompts, Prompts] | None
    """Those of the training text, and those of held-out text that the training text does not have."""

    def build_rows(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Row]]:
        """All rows, by what they belong to. Canaries are asked of the model alone."""
        rows = {} if self.canaries is None else {"canaries": self.canaries.build_rows(tokenizer)}
        if self.passages is not None:
            rows |= self.passages._asdict()
        if self.identifiers is not None:
            training, held_out = self.identifiers
            rows |= {"identifiers": training.rows, "held_out_identifiers": held_out.rows}
        return rows


def gather(
    config: AuditConfig,
    corpus: Corpus | None,
    tokenizer: PreTrainedTokenizerBase,
    canaries: Sequence[Canary],
    block_size: int,
    absent: Container[str],
) -> Material:
    """The texts of an audit. block_size: of the rows that the run was trained on, for passages. absent: parts that are left out.

    corpus: None where both parts that read it are left out.
    """
    texts = None if "canaries" in absent else draw_texts(canaries, config)
    passages = identifiers = None
    if corpus is not None and "passages" not in absent:
        prepared = EncodedCorpus(corpus, tokenizer).prepare(block_size)  # without canaries, which are no passages
        assert isinstance(prepared.blocks, Blocks)
        passages = draw_passages(prepared.blocks, prepared.held_out.get("validation"), tokenizer, config)
    if corpus is not None and "identifiers" not in absent:
        identifiers = _gather_identifiers(config, corpus, tokenizer)
    return Material(texts, passages, identifiers)


def resolve_lengths(config: AuditConfig, block_size: int) -> AuditConfig:
    """The same settings, with lengths of passages that a row of the run holds; only those that were not given change.

    Raises ConfigError if they do not fit, or if fewer than FEWEST tokens are left for one that was not given.
    """
    if config.given + config.asked <= block_size:
        return config
    prefix, continuation = config.prefix, config.continuation
    if prefix is None:
        prefix = block_size // 2 if continuation is None else block_size - continuation
    if continuation is None:
        continuation = block_size - prefix
    lengths = ((prefix, config.prefix), (continuation, config.continuation))
    changed = [length for length, given in lengths if given is None]
    if not changed or min(changed) < FEWEST:
        half = block_size // 2
        raise ConfigError(
            f"audit.prefix + audit.continuation = {config.given + config.asked}: expected at most {block_size}, the tokens of a "
            f"row of the run. Give lengths that it holds: audit.prefix={half} audit.continuation={block_size - half}."
        )
    return replace(config, prefix=prefix, continuation=continuation)


def _gather_identifiers(
    config: AuditConfig, corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> tuple[Prompts, Prompts]:
    training = search(corpus.batches("train"), config.given, corpus.seed, config.scan_bytes)
    held_out = search(corpus.batches("validation"), config.given, corpus.seed, config.scan_bytes, training.places)
    return build_prompts(training, tokenizer, config), build_prompts(held_out, tokenizer, config)
