"""What an audit asks a model for: everything is gathered before a model is loaded, so that each is scored in one go."""

from __future__ import annotations

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

    corpus: None where both parts that read it are left out. Raises ConfigError for passages that are longer than a row.
    """
    texts = None if "canaries" in absent else draw_texts(canaries, config)
    passages = identifiers = None
    if corpus is not None and "passages" not in absent:
        check_length(config, block_size)
        prepared = EncodedCorpus(corpus, tokenizer).prepare(block_size)  # without canaries, which are no passages
        assert isinstance(prepared.blocks, Blocks)
        passages = draw_passages(prepared.blocks, prepared.held_out.get("validation"), tokenizer, config)
    if corpus is not None and "identifiers" not in absent:
        identifiers = _gather_identifiers(config, corpus, tokenizer)
    return Material(texts, passages, identifiers)


def check_length(config: AuditConfig, block_size: int) -> None:
    """Raise ConfigError for passages that no row of the run holds."""
    if config.prefix + config.continuation > block_size:
        raise ConfigError(
            f"audit.prefix + audit.continuation = {config.prefix + config.continuation}: expected at most {block_size}, the "
            "tokens of a row of the run. Lower one of them."
        )


def _gather_identifiers(
    config: AuditConfig, corpus: Corpus, tokenizer: PreTrainedTokenizerBase
) -> tuple[Prompts, Prompts]:
    training = search(corpus.batches("train"), config.prefix, corpus.seed, config.scan_bytes)
    held_out = search(corpus.batches("validation"), config.prefix, corpus.seed, config.scan_bytes, training.places)
    return build_prompts(training, tokenizer, config), build_prompts(held_out, tokenizer, config)
