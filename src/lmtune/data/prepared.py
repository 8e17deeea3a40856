"""What preparation hands to training and evaluation."""

from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypedDict

from lmtune.data.blocks import TrainingRows
from lmtune.data.ledger import Ledger
from lmtune.token_stream import TokenStream


class StreamFacts(TypedDict):
    """Which text a held-out stream is, and how much of it."""

    text: str
    """xxh3-128 of its documents; see TokenStream.identify."""
    documents: int
    bytes: int


class Identity(TypedDict):
    """Hashes of a text, with how it is split, and of what encodes it."""

    corpus: str
    tokenizer: str


class Facts(Identity):
    """Where a prepared text comes from."""

    encoder: str
    """The library that encoded it."""
    unigram_bits_per_byte: NotRequired[float]
    """Bits per byte of the validation split under a unigram model of the training tokens; absent for a stream."""
    held_out: NotRequired[dict[str, StreamFacts]]
    """Facts by split."""
    mix: NotRequired[dict[str, str]]
    """Hashes of the other texts of data.mix, by name."""
    watched: NotRequired[dict[str, str]]
    """Hashes of what the sets of eval_data and forgetting.on hold out, by name; see TokenStream.identify."""
    replay: NotRequired[str]
    """Hash of the old text that is learned again: of its corpus, or of what the model has written."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Ids ready for training and evaluation, and the account of how they were made."""

    blocks: TrainingRows
    held_out: dict[str, TokenStream]
    """`validation`, and `test` where there is one."""
    ledger: Ledger
    facts: Facts


class HeldOut(NamedTuple):
    """The held-out splits as streams."""

    streams: dict[str, TokenStream]
    """`validation` and `test`, where there are such documents."""
    split_by: str
    """hash, stretches or given; of a stream, among how many documents too."""
