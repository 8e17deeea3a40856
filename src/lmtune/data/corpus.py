"""From a data configuration to what a run learns from and is measured on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from lmtune.config import DataConfig, DocumentRule, SplitRule
from lmtune.data import blocks, cache, splits
from lmtune.data.documents import Selection
from lmtune.data.ledger import SIDES, Ledger
from lmtune.data.losses import check_any_tokens
from lmtune.data.progress import show_progress
from lmtune.data.sources import build_source
from lmtune.data.splits import HELD_OUT, Dealt, Shares
from lmtune.data.texts import Texts, count_bytes, count_chars, hash_texts, iterate_strings
from lmtune.data.tokens import PROOF_CHARS, PROOF_DOCUMENTS, Encoder
from lmtune.errors import ConfigError, DataError
from lmtune.patience import saying
from lmtune.streams import LOSSES, MEASURED_TABLE, TokenStream
from lmtune.vocabulary import count_ids, find_document_opening, hash_tokenizer

RULES_IN_WORDS = {
    DocumentRule.file: "whole files",
    DocumentRule.blank_line: "stretches between blank lines",
    DocumentRule.line: "lines",
    DocumentRule.row: "rows",
    DocumentRule.wikitext: "articles, from one ` = Title = ` to the next",
}
IDENTITY = [
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
"""Settings that decide what is read and held out."""


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


class Survey(NamedTuple):
    """What one reading of the training split tells, before anything is held out."""

    chars: np.ndarray
    """[documents] characters of each."""
    hashes: np.ndarray
    """[documents] of the text, where the source keeps other splits to compare with; else empty."""
    by_hash: dict[str, list[Texts]]
    """Documents that a hash would hold out."""
    proof: list[str]
    """Beginnings of documents from all over the text, to prove an encoder on."""


class Corpus:
    """The text of one data configuration, split into sides. Nothing is read before it is needed.

    Documents pass through in batches and are not kept: the training side is read once to decide what is held out, and
    once more whenever it is asked for. Held-out documents stay in memory.

    left_out: hashes of documents (with this seed) that are held out elsewhere, and so are not to be learned from here.
    """

    def __init__(self, config: DataConfig, seed: int, left_out: np.ndarray | None = None) -> None:
        self.config = config
        self.seed = seed
        self.left_out = np.empty(0, np.uint64) if left_out is None else np.unique(left_out)
        self.source = build_source(config)
        self.shares = self._find_shares()
        self._encoders: dict[int, Encoder] = {}

    @cached_property
    def key(self) -> str:
        """Changes with the content of the source and with every setting that decides what is read and held out."""
        settings = {name: getattr(self.config, name) for name in IDENTITY}
        with saying("reading the files for their checksums"):
            fingerprint = self.source.fingerprint()
        content = {"source": fingerprint, "left_out": xxhash.xxh3_128_hexdigest(self.left_out.tobytes())}
        return cache.key_of({**content, "rules": self.source.rules, "seed": self.seed, **settings})

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

    # Reading

    @cached_property
    def survey(self) -> Survey:
        """Reads the training split for the first time and fills the ledger up to the split."""
        chars, hashes = [], []
        by_hash: dict[str, list[Texts]] = {side: [] for side in HELD_OUT}
        proof: list[tuple[int, str]] = []
        for texts in show_progress(self.load_documents("train", self.ledger), "reading"):
            marks = hash_texts(texts, self.seed)
            proof = sample_texts(proof, marks, texts)
            chars.append(count_chars(texts))
            if self._keeps_apart:
                hashes.append(hash_texts(texts, seed=0))
            for side, held in splits.deal_by_hash(texts, self.shares, self.seed).items():
                if side in by_hash:
                    by_hash[side].append(held)
        self._check_found("train", self.ledger.documents_read, self.ledger.documents_kept)
        return Survey(
            np.concatenate(chars),
            np.concatenate(hashes or [np.empty(0, np.uint64)]),
            by_hash,
            [text for _, text in proof],
        )

    @cached_property
    def held_out(self) -> dict[str, list[Texts]]:
        """Documents of validation and test. Decides the rule of the split and writes it into the ledger."""
        config = self.config
        if config.split_by is SplitRule.given and not self._keeps_apart:
            raise DataError(
                f"data.split_by=given: {config.name} keeps nothing apart. Give data.validation_files=, "
                "name a split with data.validation_split=, or choose hash or stretches."
            )
        survey = self.survey
        given = {side: self._load_given(side) for side in self.source.splits() if side != "train"}
        if not any(self.shares):
            self.ledger.split_by = "given"
            return given
        rule = splits.choose_rule(survey.chars, config.split_by)
        counts = {side: sum(map(len, held)) for side, held in survey.by_hash.items()}
        counts["train"] = len(survey.chars) - sum(counts.values())
        if config.split_by is None and splits.find_empty(counts, self.shares):
            rule = SplitRule.stretches  # as a hash may do with some dozens of documents
        drawn = survey.by_hash
        if rule is SplitRule.stretches:
            drawn, counts = self._draw_stretches()
        splits.check_sides(counts, survey.chars, self.shares)
        self.ledger.split_by = rule.value if self.shares.validation else "given"
        return {**{side: texts for side, texts in drawn.items() if texts}, **given}

    @property
    def rule(self) -> str:
        """hash, stretches or given: how documents were held out."""
        _ = self.held_out
        return self.ledger.split_by

    def batches(self, which: str) -> Iterator[Texts]:
        """Documents of one side, or `all` of them as the source has them, in its order."""
        if which == "all":
            return chain.from_iterable(self.load_documents(split, Ledger()) for split in self.source.splits())
        held = self.held_out
        if which in HELD_OUT:
            return iter(held.get(which, []))
        return (dealt["train"] for dealt in self._deal() if "train" in dealt)

    def texts(self, which: str) -> Iterator[str]:
        """Documents of one side, or `all`, one by one."""
        return iterate_strings(self.batches(which))

    def load_documents(self, split: str, ledger: Ledger) -> Iterator[Texts]:
        """Documents of one split of the source, filtered and counted."""
        selection = Selection(self.config, ledger)
        for shard in range(self.source.count_shards(split)):
            documents = selection.take(self.source.load_rows(split, shard))
            yield from self._leave_out(documents, ledger) if len(self.left_out) else documents

    def _leave_out(self, batches: Iterable[Texts], ledger: Ledger) -> Iterator[Texts]:
        for texts in batches:
            known = np.isin(hash_texts(texts, self.seed), self.left_out)
            ledger.documents_held_elsewhere += int(known.sum())
            ledger.documents_kept -= int(known.sum())
            ledger.bytes_kept -= int(count_bytes(texts)[known].sum())
            if not known.all():
                yield texts.filter(pa.array(~known))

    def _find_shares(self) -> Shares:
        """What is drawn from the training split: nothing for a side that the source keeps apart itself."""
        if self.config.split_by is SplitRule.given:
            return Shares(0.0, 0.0)
        kept = self.source.splits()
        return Shares(*(0.0 if side in kept else getattr(self.config, f"{side}_fraction") for side in HELD_OUT))

    @property
    def _keeps_apart(self) -> bool:
        return len(self.source.splits()) > 1

    def _deal(self) -> Iterator[Dealt]:
        """The training split once more, dealt out by the rule that was chosen."""
        documents = self.load_documents("train", Ledger())
        if self.ledger.split_by == SplitRule.stretches.value:
            return splits.deal_by_stretches(documents, self.survey.chars, self.shares, self.seed)
        return (splits.deal_by_hash(texts, self.shares, self.seed) for texts in documents)

    def _draw_stretches(self) -> tuple[dict[str, list[Texts]], dict[str, int]]:
        """(held-out texts, documents with text on each side)."""
        drawn: dict[str, list[Texts]] = {side: [] for side in HELD_OUT}
        counts = dict.fromkeys(SIDES, 0)
        documents = self.load_documents("train", Ledger())
        for dealt in splits.deal_by_stretches(documents, self.survey.chars, self.shares, self.seed):
            for side, texts in dealt.items():
                counts[side] += sum(not text.isspace() for text in texts.to_pylist())
                if side in drawn:
                    drawn[side].append(texts)
        return drawn, counts

    def _load_given(self, side: str) -> list[Texts]:
        """Documents that the source itself keeps apart, but for those that also stand in the training text."""
        ledger = self.ledger
        read, kept_before = ledger.documents_read, ledger.documents_kept
        kept, dropped = [], 0
        for texts in self.load_documents(side, ledger):
            known = np.isin(hash_texts(texts, seed=0), self.survey.hashes)
            dropped += int(known.sum())
            ledger.bytes_kept -= int(count_bytes(texts)[known].sum())
            if not known.all():
                kept.append(texts.filter(pa.array(~known)))
        self._check_found(side, ledger.documents_read - read, ledger.documents_kept - kept_before)
        ledger.documents_in_training += dropped
        ledger.documents_kept -= dropped
        if not kept:
            raise DataError(
                f"Every held-out document also stands in the training text ({dropped:,} of them). Give other files to hold out."
            )
        return kept

    def _check_found(self, split: str, read: int, kept: int) -> None:
        if not read:
            names = ", ".join(str(entry["name"]) for entry in self.source.describe()[:3])
            raise DataError(f"{names}: expected text, found none ({split}). Check the files and data.text_column.")
        if not kept:
            raise DataError(
                f"All {read:,} documents ({split}) have fewer than data.min_chars={self.config.min_chars} characters. Lower it."
            )

    # Encoding

    def prepare(self, tokenizer: Any, block_size: int) -> Prepared:
        """Blocks of the training side and streams of the held-out sides, from the cache or built now."""
        self.check_overlap(block_size)
        overlap = self.config.stride
        shape = {"block_size": block_size, "overlap": overlap, "packing": self.config.packing}
        key = cache.key_of({**self.identify(tokenizer), **shape})
        separator = tokenizer.eos_token_id if self.config.isolate_documents else None

        def load(folder: Path, record: dict[str, Any]) -> Prepared:
            ledger = Ledger.from_dict(record["ledger"])
            ledger.sources = self.source.describe()  # the same content may lie elsewhere by now
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


def lay_out(ids: np.ndarray, lengths: np.ndarray, separator: int, opening: tuple[int, ...]) -> np.ndarray:
    """[tokens]: the ids of documents, each behind what opens it and before a separator. lengths: [documents] tokens of each."""
    ends = np.cumsum(lengths)
    if not opening:
        return np.insert(ids, ends, separator)
    closed = np.insert(ids, ends, separator)
    begins = ends - lengths + np.arange(len(ends))
    return np.insert(closed, np.repeat(begins, len(opening)), np.tile(opening, len(begins)))


def build_table(texts: Texts, lengths: np.ndarray, seed: int | None, opening: tuple[int, ...] = ()) -> np.ndarray:
    """[documents] of MEASURED_TABLE, nothing lost yet; characters, words and order only with a seed.

    lengths: [documents] tokens of each, without its separator and what opens it.
    """
    rows = np.zeros(len(lengths), dtype=MEASURED_TABLE)
    rows["tokens"], rows["bytes"] = lengths + 1 + len(opening), count_bytes(texts)
    if seed is not None:
        rows["characters"] = count_chars(texts)
        rows["words"] = [len(text.split()) for text in texts.to_pylist()]
        rows["order"] = hash_texts(texts, seed)
    return rows


def unigram_bits_per_byte(counts: np.ndarray, held_out: TokenStream) -> float:
    """Bits per byte of held-out text under a unigram model of the training tokens, each counted once more than seen.

    counts: [vocabulary] training counts. What any model of the same tokens should beat.
    """
    probabilities = (counts + 1) / (counts.sum() + len(counts))
    text = np.bincount(held_out.ids, minlength=len(counts)).astype(np.float64)
    text[[held_out.separator, *held_out.opening]] = 0
    return float(-(text @ np.log2(probabilities)) / held_out.documents["bytes"].sum())


def sample_texts(kept: list[tuple[int, str]], hashes: np.ndarray, texts: Texts) -> list[tuple[int, str]]:
    """The beginnings of the documents with the smallest hashes so far: a sample of all, whatever their order."""
    import pyarrow.compute as pc

    smallest = np.argsort(hashes)[:PROOF_DOCUMENTS]
    beginnings = pc.utf8_slice_codeunits(texts.take(pa.array(smallest)), 0, PROOF_CHARS).to_pylist()
    return sorted([*kept, *zip(hashes[smallest].tolist(), beginnings, strict=True)])[:PROOF_DOCUMENTS]


def _load_stream(folder: Path, side: str, tokenizer: Any) -> TokenStream:
    ids = np.load(folder / f"{side}-ids.npy", mmap_mode="r", allow_pickle=False)
    documents = np.load(folder / f"{side}-documents.npy", allow_pickle=False)
    return TokenStream(ids, documents, tokenizer.eos_token_id, find_document_opening(tokenizer))
