"""From a data configuration to what a run learns from and is measured on."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lmtune.config import DataConfig, DocumentRule
from lmtune.data import blocks, cache, splits
from lmtune.data.ledger import SIDES, Ledger
from lmtune.data.sources import build_source, checksum_of
from lmtune.data.tokens import Encoder
from lmtune.errors import DataError, LedgerError
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


class Corpus:
    """The text of one data configuration, split into sides. Nothing is read before it is needed."""

    def __init__(self, config: DataConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.source = build_source(config)

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
    def sides(self) -> splits.Sides:
        """Documents of train, validation and test. Fills the ledger up to the split."""
        given = {side: self._read(side) for side in self.source.splits()}
        training = given.pop("train")
        config = self.config
        held = {side: self._without_training(texts, set(training)) for side, texts in given.items()}
        drawn = {side: 0.0 if side in held else getattr(config, f"{side}_fraction") for side in HELD_OUT}
        if any(drawn.values()):
            sides, rule = splits.split_documents(
                training, config.split_by, drawn["validation"], drawn["test"], self.seed
            )
            self.ledger.split_by = rule.value if drawn["validation"] else "given"
        else:
            sides = {"train": training, "validation": [], "test": []}
            self.ledger.split_by = "given"
        return {**sides, **held}

    def texts(self, which: str) -> Sequence[str]:
        """Documents of one side, or of `all`."""
        return [text for side in SIDES for text in self.sides[side]] if which == "all" else self.sides[which]

    def prepare(self, tokenizer: Any, block_size: int) -> Prepared:
        """Blocks of the training side and streams of the held-out sides, from the cache or built now."""
        folder = cache.build_once(
            self._key(tokenizer, block_size), lambda aside: self._build(aside, tokenizer, block_size)
        )
        return self._load(folder, tokenizer, block_size)

    def find_prepared(self, tokenizer: Any, block_size: int) -> Prepared | None:
        """What prepare() would return, if it is in the cache."""
        folder = cache.find_entry(self._key(tokenizer, block_size))
        return self._load(folder, tokenizer, block_size) if folder else None

    def _key(self, tokenizer: Any, block_size: int) -> str:
        return cache.key_of({"corpus": self.key, "tokenizer": hash_tokenizer(tokenizer), "block_size": block_size})

    def _load(self, folder: Path, tokenizer: Any, block_size: int) -> Prepared:
        record = json.loads((folder / cache.RECORD).read_text(encoding="utf-8"))
        ledger = Ledger.from_dict(record["ledger"])
        ledger.sources = self.source.describe()  # the same content may lie elsewhere by now
        return Prepared(
            blocks=blocks.Blocks.load(folder / "train.arrow", block_size, ledger.targets),
            held_out={
                side: _load_stream(folder, side, tokenizer.eos_token_id)
                for side in HELD_OUT
                if ledger.sides[side].documents
            },
            ledger=ledger,
            facts={**record["facts"], "tokenizer": hash_tokenizer(tokenizer), "corpus": self.key},
        )

    def encode_stream(self, which: str, tokenizer: Any) -> TokenStream:
        """One side, or `all`, as a stream; for evaluations that want other text than the held-out sides."""
        texts = self.texts(which)
        if not texts:
            raise DataError(
                f"eval.split={which}: {self.config.name} has no such documents. Set data.{which}_fraction=, or another split."
            )
        encoder = Encoder(tokenizer, texts)
        table, pieces = _encode(texts, encoder, tokenizer.eos_token_id, self.seed)
        return TokenStream(np.concatenate(list(pieces)), np.concatenate(table), tokenizer.eos_token_id)

    def _read(self, side: str) -> list[str]:
        """Documents of one split of the source, filtered and counted."""
        rows = list(self._join_rows(self._count_rows(self.source.load_rows(side))))
        if not rows:
            names = ", ".join(str(entry["name"]) for entry in self.source.describe()[:3])
            raise DataError(f"{names}: expected text, found none ({side}). Check the files and data.text_column.")
        kept = list(self._filter(rows))
        self.ledger.documents_read += len(rows)
        self.ledger.documents_kept += len(kept)
        self.ledger.bytes_kept += sum(map(_bytes, kept))
        if not kept:
            raise DataError(
                f"All {len(rows):,} documents ({side}) have fewer than data.min_chars={self.config.min_chars} characters. Lower it."
            )
        return kept

    def _count_rows(self, rows: Iterable[str]) -> Iterator[str]:
        """Rows with text, each once where data.deduplicate asks so."""
        ledger, seen = self.ledger, set()
        for row in rows:
            ledger.rows_read += 1
            if not row.strip():
                ledger.rows_empty += 1
                continue
            if self.config.deduplicate:
                mark = splits.hash_of(row, seed=0)
                if mark in seen:
                    ledger.rows_repeated += 1
                    continue
                seen.add(mark)
            ledger.rows_used += 1
            yield row

    def _join_rows(self, rows: Iterator[str]) -> Iterator[str]:
        many = self.config.rows_per_document
        if many == 1:
            yield from rows
            return
        batch: list[str] = []
        for row in rows:
            batch.append(row)
            if len(batch) == many:
                yield "\n".join(batch)
                batch = []
        if batch:
            yield "\n".join(batch)

    def _filter(self, texts: Iterable[str]) -> Iterator[str]:
        config, ledger = self.config, self.ledger
        taken = size = 0
        for text in texts:
            if len(text) < config.min_chars:
                ledger.documents_short += 1
            elif (config.max_documents and taken >= config.max_documents) or (
                config.max_bytes and size >= config.max_bytes
            ):
                ledger.documents_over_limit += 1
            else:
                taken += 1
                size += _bytes(text)
                yield text

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

    def _build(self, folder: Path, tokenizer: Any, block_size: int) -> None:
        """Encode every side into `folder`; the record is written last."""
        separator = tokenizer.eos_token_id
        dtype = blocks.id_type(len(tokenizer))
        encoder = Encoder(tokenizer, self.sides["train"])
        counts = np.zeros(max(len(tokenizer), separator + 1), np.int64)
        ledger = self.ledger
        table, pieces = _encode(self.sides["train"], encoder, separator, self.seed)
        rows, targets = blocks.write_blocks(
            folder / "train.arrow", _counted(pieces, counts), block_size, dtype, separator
        )
        _account(ledger, "train", np.concatenate(table))
        ledger.block_size, ledger.blocks, ledger.targets = block_size, rows, targets
        ledger.padding = rows * block_size - targets
        facts: dict[str, Any] = {"encoder": encoder.name}
        for side in HELD_OUT:
            if self.sides[side]:
                table, pieces = _encode(self.sides[side], encoder, separator, self.seed)
                ids = np.concatenate(list(pieces))
                _save_stream(folder, side, ids.astype(dtype), np.concatenate(table))
                _account(ledger, side, np.concatenate(table))
                if side == "validation":
                    facts["unigram_bits_per_byte"] = unigram_bits_per_byte(
                        counts, ids, np.concatenate(table), separator
                    )
        ledger.check()
        record = {"ledger": ledger.as_dict(), "facts": facts}
        (folder / cache.RECORD).write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")


def hash_tokenizer(tokenizer: Any) -> str:
    """Changes with what decides the ids: vocabulary, merges, normalisation, separator; not with names or truncation."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return checksum_of(json.dumps([sorted(tokenizer.get_vocab().items()), tokenizer.eos_token_id]))
    described = json.loads(backend.to_str())
    parts = {name: described.get(name) for name in ("model", "normalizer", "pre_tokenizer")}
    parts["added"] = [token["content"] for token in described.get("added_tokens", []) if not token["special"]]
    return checksum_of(json.dumps([parts, tokenizer.eos_token_id], sort_keys=True))


def unigram_bits_per_byte(counts: np.ndarray, ids: np.ndarray, table: np.ndarray, separator: int) -> float:
    """Bits per byte of held-out text under a unigram model of the training tokens, each counted once more than seen.

    counts: [vocabulary] training counts. ids: [tokens] held out. What any model of the same tokens should beat.
    """
    probabilities = (counts + 1) / (counts.sum() + len(counts))
    text = np.bincount(ids, minlength=len(counts)).astype(np.float64)
    text[separator] = 0
    return float(-(text @ np.log2(probabilities)) / table["bytes"].sum())


def _encode(
    texts: Sequence[str], encoder: Encoder, separator: int, seed: int
) -> tuple[list[np.ndarray], Iterator[np.ndarray]]:
    """(table, pieces): the stream as an iterator, and a list that fills with DOCUMENT_TABLE rows while it is read."""
    table: list[np.ndarray] = []

    def pieces() -> Iterator[np.ndarray]:
        done = 0
        for ids, lengths in encoder.encode_batches(texts):
            batch = texts[done : done + len(lengths)]
            done += len(lengths)
            table.append(_describe(batch, lengths, seed))
            if np.any(ids == separator):
                raise LedgerError("a text encoded to the separator's id: special tokens were not read as text")
            yield np.insert(ids, np.cumsum(lengths), separator)

    return table, pieces()


def _describe(texts: Sequence[str], lengths: np.ndarray, seed: int) -> np.ndarray:
    rows = [
        (length + 1, _bytes(text), len(text.split()), splits.hash_of(text, seed))
        for text, length in zip(texts, lengths.tolist(), strict=True)
    ]
    return np.array(rows, dtype=DOCUMENT_TABLE)


def _counted(pieces: Iterable[np.ndarray], counts: np.ndarray) -> Iterator[np.ndarray]:
    for piece in pieces:
        counts += np.bincount(piece, minlength=len(counts))
        yield piece


def _account(ledger: Ledger, side: str, table: np.ndarray) -> None:
    counts = ledger.sides[side]
    counts.documents = counts.separators = len(table)
    counts.bytes = int(table["bytes"].sum())
    counts.text_tokens = int(table["tokens"].sum()) - len(table)


def _save_stream(folder: Path, side: str, ids: np.ndarray, table: np.ndarray) -> None:
    np.save(folder / f"{side}-ids.npy", ids)
    np.save(folder / f"{side}-documents.npy", table)


def _load_stream(folder: Path, side: str, separator: int) -> TokenStream:
    return TokenStream(
        np.load(folder / f"{side}-ids.npy", mmap_mode="r"), np.load(folder / f"{side}-documents.npy"), separator
    )


def _bytes(text: str) -> int:
    return len(text.encode())
