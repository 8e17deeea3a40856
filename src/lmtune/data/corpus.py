"""From a data configuration to what a run learns from and is measured on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmtune.data import blocks, cache
from lmtune.data.encoding import Encoder
from lmtune.data.layout import build_table, lay_out, unigram_bits_per_byte
from lmtune.data.ledger import Ledger
from lmtune.data.losses import check_any_tokens
from lmtune.data.progress import show_progress
from lmtune.data.shards import say_remark
from lmtune.data.sides import SplitText
from lmtune.data.splits import HELD_OUT
from lmtune.errors import ConfigError, DataError
from lmtune.patience import saying
from lmtune.token_stream import LOSSES, TokenStream
from lmtune.vocabulary import count_ids, find_document_opening, hash_tokenizer


@dataclass(frozen=True, slots=True)
class Prepared:
    """Ids ready for training and evaluation, and the account of how they came to be."""

    blocks: blocks.TrainingRows
    held_out: dict[str, TokenStream]
    """`validation`, and `test` where there is one."""
    ledger: Ledger
    facts: dict[str, Any]
    """encoder, unigram_bits_per_byte, and the hashes `tokenizer` and `corpus`."""


class HeldOut(NamedTuple):
    """Held-out sides as streams."""

    streams: dict[str, TokenStream]
    """`validation` and `test`, where there are such documents."""
    split_by: str
    """hash, stretches or given; of a stream, among how many documents too."""


class Corpus(SplitText):
    """A text whose sides are encoded: into blocks to learn from, and into streams to be scored."""

    @cached_property
    def _encoders(self) -> dict[int, Encoder]:
        """By the identity of the tokenizer, which an encoder holds on to."""
        return {}

    def prepare(self, tokenizer: Any, block_size: int) -> Prepared:
        """Blocks of the training side and streams of the held-out sides, from the cache or built now."""
        self.check_overlap(block_size)
        overlap = self.config.stride
        shape = {"block_size": block_size, "overlap": overlap, "packing": self.config.packing}
        key = cache.key_of({**self.identify(tokenizer), **shape})
        separator = tokenizer.eos_token_id if self.config.isolate_documents else None

        def load(folder: Path, record: dict[str, Any]) -> Prepared:
            ledger = Ledger.from_dict(record["ledger"])
            ledger.describe_sources(self.source.describe())
            ledger.passed_over = dict(self.source.passed_over)
            for remark in ledger.remarks:
                say_remark(remark)
            kind = blocks.Blocks if self.config.packing else blocks.PaddedBlocks
            return Prepared(
                blocks=kind.load(folder / "train.arrow", block_size, ledger.targets, separator, overlap),
                held_out=self.load_held_out(tokenizer).streams,
                ledger=ledger,
                facts={**record["facts"], **self.identify(tokenizer)},
            )

        return cache.cached(key, lambda aside: self._build_blocks(aside, tokenizer, block_size), load)

    def check_overlap(self, block_size: int) -> None:
        """Raise ConfigError for rows that would hold nothing new."""
        if self.config.stride >= block_size:
            raise ConfigError(
                f"data.stride={self.config.stride:,}: expected less than the {block_size:,} tokens of a block. "
                "Lower it, or leave it out."
            )

    def load_held_out(self, tokenizer: Any) -> HeldOut:
        """Streams of the held-out sides, from the cache or encoded now; the training side is not."""
        key = cache.key_of({**self.identify(tokenizer), "held_out": True})

        def load(folder: Path, record: dict[str, Any]) -> HeldOut:
            streams = {side: _load_stream(folder, side, tokenizer) for side in record["sides"]}
            return HeldOut(streams, record["split_by"])

        return cache.cached(key, lambda aside: self._build_held_out(aside, tokenizer), load)

    def encode_stream(self, which: str, tokenizer: Any) -> TokenStream:
        """One side, or `all`, as a stream; for evaluations that want other text than the held-out sides."""
        pieces = list(self.encode_batches(which, tokenizer, measured=True))
        if not pieces:
            raise DataError(
                f"eval.split={which}: {self.config.name} has no such documents. Set data.{which}_fraction=, or another split."
            )
        ids, tables = zip(*pieces, strict=True)
        opening = find_document_opening(tokenizer)
        stream = TokenStream(np.concatenate(ids), np.concatenate(tables), tokenizer.eos_token_id, opening)
        size = int(stream.documents["bytes"].sum())
        check_any_tokens(self.config.name, len(stream.ids) - (1 + len(opening)) * len(stream.documents), size)
        return stream

    def encode_batches(
        self, which: str, tokenizer: Any, measured: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids, documents) of consecutive documents: [tokens] laid out, a separator after each, and their MEASURED_TABLE rows.

        Words, characters and order, which cost more than the encoding itself, are filled in only where `measured`.
        """
        separator = tokenizer.eos_token_id
        encoder = self.find_encoder(tokenizer)
        for texts in show_progress(self.batches(which), "encoding", self.ledger.bytes_kept):
            ids, lengths = encoder.encode(texts)
            table = build_table(texts, lengths, self.seed if measured else None, encoder.opening)
            table[list(LOSSES.names or ())] = encoder.measure(texts, ids, lengths)
            yield lay_out(ids, lengths, separator, encoder.opening), table

    def find_encoder(self, tokenizer: Any) -> Encoder:
        """One for each tokenizer, proven on this very text."""
        if id(tokenizer) not in self._encoders:
            proof = self.survey.proof
            with saying("comparing ways to encode the text"):
                self._encoders[id(tokenizer)] = Encoder(tokenizer, proof)
        return self._encoders[id(tokenizer)]

    def identify(self, tokenizer: Any) -> dict[str, str]:
        """Hashes of the text and of what encodes it."""
        return {"corpus": self.key, "tokenizer": hash_tokenizer(tokenizer)}

    def _build_held_out(self, folder: Path, tokenizer: Any) -> dict[str, Any]:
        """Encode the held-out sides into `folder`; return what the cache is to remember of them."""
        sides = [side for side in HELD_OUT if self.held_out.get(side)]
        for side in sides:
            stream = self.encode_stream(side, tokenizer)
            np.save(folder / f"{side}-ids.npy", stream.ids.astype(blocks.id_type(count_ids(tokenizer))))
            np.save(folder / f"{side}-documents.npy", stream.documents)
        return {"sides": sides, "split_by": self.rule}

    def _build_blocks(self, folder: Path, tokenizer: Any, block_size: int) -> dict[str, Any]:
        """Encode the training side into `folder`; return what the cache is to remember of it."""
        held = self.load_held_out(tokenizer)
        separator, ledger = tokenizer.eos_token_id, self.ledger
        ledger.split_by = held.split_by
        opening = find_document_opening(tokenizer)
        counts = np.zeros(max(count_ids(tokenizer), separator + 1), np.int64)
        ledger.block_size, ledger.packed = block_size, self.config.packing
        file, pieces = folder / "train.arrow", self._count(self.encode_batches("train", tokenizer), counts, opening)
        dtype = blocks.id_type(count_ids(tokenizer))
        if self.config.packing:
            end_to_end = (ids for ids, _ in pieces)
            written = blocks.write_blocks(file, end_to_end, block_size, dtype, separator, self.config.stride)
        else:
            written = blocks.write_padded(file, pieces, block_size, dtype, separator, len(opening))
        ledger.blocks, ledger.targets = written
        ledger.bytes_copied = self.bytes_copied
        ledger.withdraw("copied", 0, self.bytes_copied)
        ledger.repeated = max(0, ledger.blocks - 1) * self.config.stride
        ledger.padding = ledger.blocks * block_size - ledger.targets - ledger.repeated
        facts: dict[str, Any] = {"encoder": self.find_encoder(tokenizer).name}
        for side, stream in held.streams.items():
            ledger.sides[side].add(stream.documents, len(opening))
            if side == "validation":
                facts["unigram_bits_per_byte"] = unigram_bits_per_byte(counts, stream)
        self._check_tokens()
        ledger.check()
        return {"ledger": ledger.as_dict(), "facts": facts}

    def _check_tokens(self) -> None:
        """Raise DataError where the training text has become no tokens."""
        train = self.ledger.sides["train"]
        check_any_tokens(self.config.name, train.text_tokens, train.bytes)

    def _count(
        self, pieces: Iterable[tuple[np.ndarray, np.ndarray]], counts: np.ndarray, opening: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pieces of the training side, counted in the ledger and token by token in `counts`: [vocabulary]."""
        for ids, documents in pieces:
            self.ledger.sides["train"].add(documents, len(opening))
            counts += np.bincount(ids, minlength=len(counts))
            yield ids, documents


def _load_stream(folder: Path, side: str, tokenizer: Any) -> TokenStream:
    ids = np.load(folder / f"{side}-ids.npy", mmap_mode="r", allow_pickle=False)
    documents = np.load(folder / f"{side}-documents.npy", allow_pickle=False)
    return TokenStream(ids, documents, tokenizer.eos_token_id, find_document_opening(tokenizer))
