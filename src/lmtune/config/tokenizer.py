"""Configuration of `lmtune tokenizer`."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from lmtune.config.checks import CommandConfig, require
from lmtune.config.commands import OutputFormat
from lmtune.config.data import DataConfig
from lmtune.config.keys import count, key
from lmtune.config.model import MOST_ENTRIES, ModelConfig
from lmtune.config.ranges import check_ranges
from lmtune.errors import ConfigError


class TokenizerText(Enum):
    """What a vocabulary is learned from."""

    train = "train"
    """The training side alone: held-out text stays unseen."""
    all = "all"
    """Everything, held-out documents included, as GPorTuguese-2 did."""


@dataclass(kw_only=True, slots=True)
class TokenizerConfig:
    """A byte-level BPE vocabulary to learn."""

    vocab_size: int = count(50257, least=257, largest=MOST_ENTRIES)
    """Entries of the vocabulary: 256 bytes, the special tokens, and merges for the rest; GPT-2 has 50,257."""
    min_frequency: int = count(2, least=1)
    """Pairs seen less often than this are not merged, even if the vocabulary stays smaller than asked for."""
    special_tokens: list[str] = key(lambda: ["<|endoftext|>"])
    """Special tokens, which get the first ids; the first of them separates documents. Each must be unique and have two characters
    or more: single characters stand for bytes."""
    text: TokenizerText = TokenizerText.train
    """Text to learn from: `train`, the training documents only, or `all`, held-out ones included, as for the original
    GPorTuguese-2."""
    max_length: int = count(1024, least=2, unit="tokens")
    """Largest number of tokens that a model with this vocabulary takes (model_max_length)."""

    def __post_init__(self) -> None:
        check_ranges(self, "tokenizer.")
        self._check_special_tokens()
        least = 256 + len(self.special_tokens)
        require(
            self.vocab_size >= least,
            "tokenizer.vocab_size",
            self.vocab_size,
            f"{least} or more, one for each byte and special token",
        )

    def _check_special_tokens(self) -> None:
        tokens = self.special_tokens
        require(bool(tokens), "tokenizer.special_tokens", tokens, "one or more tokens")
        for token in tokens:
            require(
                len(token.strip()) >= 2 and token == token.strip(),
                "tokenizer.special_tokens",
                tokens,
                "tokens of two characters or more without blanks around them, since single characters stand for bytes",
            )
        require(len(set(tokens)) == len(tokens), "tokenizer.special_tokens", tokens, "each token once")


@dataclass(kw_only=True, slots=True)
class TokenizerCommandConfig(CommandConfig):
    """`lmtune tokenizer`."""

    output: str | None = key(None, literal=True, one_per_job=True)
    """Folder for the tokenizer, instead of `outputs/<data>-tokenizer/<date>`."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    extend: int = count(0, largest=MOST_ENTRIES)
    """Entries to add to the vocabulary of `model=`, a byte-level BPE, whose ids and merges stay; 0 learns a new vocabulary."""
    tokenizer: TokenizerConfig = key(TokenizerConfig)
    data: DataConfig = MISSING
    model: ModelConfig | None = key(None, absent="no vocabulary is compared with")
    """Model whose tokenizer is compared with, or extended; none by default."""

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before anything is loaded."""
        check_ranges(self, "")
        self.data.check_source()
        if self.model is not None:
            self.model.check_source()
        elif self.extend:
            raise ConfigError(
                f"extend={self.extend} adds to the vocabulary of a model, found no model. Name one with model= or model.path=."
            )

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Make paths absolute."""
        self.data.anchor()
        if self.model is not None:
            self.model.anchor()
