"""From a data configuration to what a run learns from and is measured on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmtune.config import DataConfig, DocumentRule, SplitRule
from lmtune.data import blocks, cache, splits
from lmtune.data.documents import select_documents
from lmtune.data.ledger import Ledger
from lmtune.data.sources import build_source
from lmtune.data.tokens import Encoder, hash_tokenizer
from lmtune.errors import DataError, LedgerError
from lmtune.runs import load_json, write_json
from lmtune.streams import DOCUMENT_TABLE, TokenStream

RULES_IN_WORDS = {
    DocumentRule.file: "whole files",
    DocumentRule.blank_line: "stretches between blank lines",
    DocumentRule.line: "lines",
    DocumentRule.row: "rows",
    DocumentRule.wikitext: "articles, from one ` = Title = ` to the next",
}
HELD_OUT = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Ids ready for training and evaluation, and the account of how they came to be."""

    blocks: blocks.Blocks
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
    """hash, stretches or given."""


class Corpus:
    """The text of one data configuration, split into sides. Nothing is read before it is needed."""

    def __init__(self, config: DataConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.source = build_source(config)
        self._encoders: dict[int, Encoder] = {}

    @cached_property
    def key(self) -> str:
        """Changes with the content of the source and with every setting that decides what is read and held out."""
        settings = {
            name: getattr(self.config, name)
            for name in [
                "text_column",
                "documents",
                "rows_per_document",
                "deduplicate",
                "min_chars",
                "unicode",
                "where",
                "max_documents",
                "max_bytes",
                "encoding",
                "validation_fraction",
                "test_fraction",
                "split_by",
                "validation_split",
                "test_split",
            ]
        }
        return cache.key_of(
            {"source": self.source.fingerprint(), "rules": self.source.rules, "seed": self.seed, **settings}
        )

    @cached_property
    def ledger(self) -> Ledger:
        rule = " and ".join(RULES_IN_WORDS[rule] for rule in self.source.rules)
        many = self.config.rows_per_document
        return Ledger(
            sources=self.source.describe(),
            rows_per_document=many,
            documents_are=rule
            if many == 1
            else f"runs of {many:,} consecutive {rule}, since the source names no articles",
        )

    @cached_property
    def documents(self) -> dict[str, list[str]]:
        """Documents of each split that the source itself keeps apart, filtered and counted, in the order of the source."""
        return {side: self._read(side) for side in self.source.splits()}

    @cached_property
    def sides(self) -> splits.Sides:
        """Documents of train, validation and test. Fills the ledger up to the split."""
        given = dict(self.documents)
        training = given.pop("train")
        config = self.config
        if config.split_by is SplitRule.given and not given:
            raise DataError(
                f"data.split_by=given: {config.name} keeps nothing apart. Give data.validation_files=, "
                "name a split with data.validation_split=, or choose hash or stretches."
            )
        held = {side: self._without_training(texts, set(training)) for side, texts in given.items()}
        drawn = {side: 0.0 if side in held else getattr(config, f"{side}_fraction") for side in HELD_OUT}
        if any(drawn.values()) and config.split_by is not SplitRule.given:
            sides, rule = splits.split_documents(
                training, config.split_by, drawn["validation"], drawn["test"], self.seed
            )
            self.ledger.split_by = rule.value if drawn["validation"] else "given"
        else:
            sides = {"train": training, "validation": [], "test": []}
            self.ledger.split_by = "given"
        return {**sides, **held}

    def texts(self, which: str) -> Sequence[str]:
        """Documents of one side, or `all` of them as the source has them."""
        return [text for texts in self.documents.values() for text in texts] if which == "all" else self.sides[which]

    def prepare(self, tokenizer: Any, block_size: int) -> Prepared:
        """Blocks of the training side and streams of the held-out sides, from the cache or built now."""
        key = cache.key_of({**self._identity(tokenizer), "block_size": block_size})
        folder = cache.build_once(key, lambda aside: self._build_blocks(aside, tokenizer, block_size))
        record = load_json(folder / cache.RECORD)
        ledger = Ledger.from_dict(record["ledger"])
        ledger.sources = self.source.describe()  # the same content may lie elsewhere by now
        separator = tokenizer.eos_token_id if self.config.isolate_documents else None
        return Prepared(
            blocks=blocks.Blocks.load(folder / "train.arrow", block_size, ledger.targets, separator),
            held_out=self.load_held_out(tokenizer).streams,
            ledger=ledger,
            facts={**record["facts"], **self._identity(tokenizer)},
        )

    def load_held_out(self, tokenizer: Any) -> HeldOut:
        """Streams of the held-out sides, from the cache or encoded now; the training side is not."""
        key = cache.key_of({**self._identity(tokenizer), "held_out": True})
        folder = cache.build_once(key, lambda aside: self._build_held_out(aside, tokenizer))
        record = load_json(folder / cache.RECORD)
        streams = {side: _load_stream(folder, side, tokenizer.eos_token_id) for side in record["sides"]}
        return HeldOut(streams, record["split_by"])

    def _encoder(self, tokenizer: Any, proof: Sequence[str]) -> Encoder:
        """One for each tokenizer, proven on the documents that come first."""
        if id(tokenizer) not in self._encoders:
            self._encoders[id(tokenizer)] = Encoder(tokenizer, proof)
        return self._encoders[id(tokenizer)]

    def _identity(self, tokenizer: Any) -> dict[str, str]:
        return {"corpus": self.key, "tokenizer": hash_tokenizer(tokenizer)}

    def encode_stream(self, which: str, tokenizer: Any) -> TokenStream:
        """One side, or `all`, as a stream; for evaluations that want other text than the held-out sides."""
        texts = self.texts(which)
        if not texts:
            raise DataError(
                f"eval.split={which}: {self.config.name} has no such documents. Set data.{which}_fraction=, or another split."
            )
        table, pieces = _encode(texts, self._encoder(tokenizer, texts), tokenizer.eos_token_id, self.seed)
        return TokenStream(np.concatenate(list(pieces)), np.concatenate(table), tokenizer.eos_token_id)

    def _read(self, side: str) -> list[str]:
        """Documents of one split of the source, filtered and counted."""
        before = self.source.unwanted
        read, kept = select_documents(self.source.load_rows(side), self.config, self.ledger)
        unwanted = self.source.unwanted - before
        self.ledger.rows_read += unwanted
        self.ledger.rows_unwanted += unwanted
        if not read:
            names = ", ".join(str(entry["name"]) for entry in self.source.describe()[:3])
            raise DataError(f"{names}: expected text, found none ({side}). Check the files and data.text_column.")
        if not kept:
            raise DataError(
                f"All {read:,} documents ({side}) have fewer than data.min_chars={self.config.min_chars} characters. Lower it."
            )
        self.ledger.documents_read += read
        self.ledger.documents_kept += len(kept)
        self.ledger.bytes_kept += sum(map(_bytes, kept))
        return kept

    def _without_training(self, texts: list[str], training: set[str]) -> list[str]:
        kept = [text for text in texts if text not in training]
        dropped = len(texts) - len(kept)
        self.ledger.documents_in_training += dropped
        self.ledger.documents_kept -= dropped
        self.ledger.bytes_kept -= sum(_bytes(text) for text in texts if text in training)
        if not kept:
            raise DataError(
                f"Every held-out document also stands in the training text ({len(texts):,} of them). Give other files to hold out."
            )
        return kept

    def _build_held_out(self, folder: Path, tokenizer: Any) -> None:
        """Encode the held-out sides into `folder`; the record is written last."""
        sides = [side for side in HELD_OUT if self.sides[side]]
        for side in sides:
            stream = self.encode_stream(side, tokenizer)
            np.save(folder / f"{side}-ids.npy", stream.ids.astype(blocks.id_type(len(tokenizer))))
            np.save(folder / f"{side}-documents.npy", stream.documents)
        write_json(folder / cache.RECORD, {"sides": sides, "split_by": self.ledger.split_by})

    def _build_blocks(self, folder: Path, tokenizer: Any, block_size: int) -> None:
        """Encode the training side into `folder`; the record is written last."""
        separator, ledger = tokenizer.eos_token_id, self.ledger
        encoder = self._encoder(tokenizer, self.sides["train"])
        counts = np.zeros(max(len(tokenizer), separator + 1), np.int64)
        table, pieces = _encode(self.sides["train"], encoder, separator)
        ledger.block_size = block_size
        ledger.blocks, ledger.targets = blocks.write_blocks(
            folder / "train.arrow", _counted(pieces, counts), block_size, blocks.id_type(len(tokenizer)), separator
        )
        ledger.padding = ledger.blocks * block_size - ledger.targets
        _account(ledger, "train", np.concatenate(table))
        facts: dict[str, Any] = {"encoder": encoder.name}
        for side, stream in self.load_held_out(tokenizer).streams.items():
            _account(ledger, side, stream.documents)
            if side == "validation":
                facts["unigram_bits_per_byte"] = unigram_bits_per_byte(counts, stream)
        ledger.check()
        write_json(folder / cache.RECORD, {"ledger": ledger.as_dict(), "facts": facts})


def unigram_bits_per_byte(counts: np.ndarray, held_out: TokenStream) -> float:
    """Bits per byte of held-out text under a unigram model of the training tokens, each counted once more than seen.

    counts: [vocabulary] training counts. What any model of the same tokens should beat.
    """
    probabilities = (counts + 1) / (counts.sum() + len(counts))
    text = np.bincount(held_out.ids, minlength=len(counts)).astype(np.float64)
    text[held_out.separator] = 0
    return float(-(text @ np.log2(probabilities)) / held_out.documents["bytes"].sum())


def _encode(
    texts: Sequence[str], encoder: Encoder, separator: int, seed: int | None = None
) -> tuple[list[np.ndarray], Iterator[np.ndarray]]:
    """(table, pieces): the stream as an iterator, and a list that fills with DOCUMENT_TABLE rows while it is read.

    Words and order, which cost more than the encoding itself, are filled in only with a seed: evaluations need them.
    """
    table: list[np.ndarray] = []

    def pieces() -> Iterator[np.ndarray]:
        done = 0
        for ids, lengths, sizes in encoder.encode_batches(texts):
            rows = np.zeros(len(lengths), dtype=DOCUMENT_TABLE)
            rows["tokens"], rows["bytes"] = lengths + 1, sizes
            if seed is not None:
                batch = texts[done : done + len(lengths)]
                rows["characters"] = [len(text) for text in batch]
                rows["words"] = [len(text.split()) for text in batch]
                rows["order"] = [splits.hash_of(text, seed) for text in batch]
            table.append(rows)
            done += len(lengths)
            if np.any(ids == separator):
                raise LedgerError("a text encoded to the separator's id: special tokens were not read as text")
            yield np.insert(ids, np.cumsum(lengths), separator)

    return table, pieces()


def _counted(pieces: Iterable[np.ndarray], counts: np.ndarray) -> Iterator[np.ndarray]:
    for piece in pieces:
        counts += np.bincount(piece, minlength=len(counts))
        yield piece


def _account(ledger: Ledger, side: str, table: np.ndarray) -> None:
    counts = ledger.sides[side]
    counts.documents = counts.separators = len(table)
    counts.bytes = int(table["bytes"].sum())
    counts.text_tokens = int(table["tokens"].sum()) - len(table)


def _load_stream(folder: Path, side: str, separator: int) -> TokenStream:
    return TokenStream(
        np.load(folder / f"{side}-ids.npy", mmap_mode="r"), np.load(folder / f"{side}-documents.npy"), separator
    )


def _bytes(text: str) -> int:
    return len(text.encode())
