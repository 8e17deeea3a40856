"""A corpus as one tokenizer reads it: blocks to train on, streams to score, from the cache or encoded now."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lmtune.data import blocks, cache
from lmtune.data.canaries import Canary, identify_canaries, plant
from lmtune.data.columns import Texts, sum_bytes
from lmtune.data.corpus import Corpus
from lmtune.data.encoding import Encoder
from lmtune.data.layout import unigram_bits_per_byte
from lmtune.data.ledger import Ledger
from lmtune.data.lines import LineRows
from lmtune.data.losses import check_any_tokens
from lmtune.data.prepared import Facts, HeldOut, Identity, Prepared
from lmtune.data.shards import say_remark
from lmtune.data.splits import HELD_OUT
from lmtune.errors import ConfigError, DataError
from lmtune.gauges import MEGABYTES
from lmtune.patience import saying
from lmtune.token_stream import TokenStream
from lmtune.vocabulary import count_ids, encode_document_opening, hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class EncodedCorpus:
    """A corpus and a tokenizer with an end-of-text token. Nothing is read or encoded before it is needed.

    canaries: planted between the documents of the training split.
    """

    def __init__(self, corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", canaries: Sequence[Canary] = ()) -> None:
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.canaries = canaries

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of the tokenizer, tested on this very text."""
        sample = [text for _, text in self.corpus.first_pass.sample]
        with saying("comparing ways to encode the text"):
            return Encoder(self.tokenizer, sample)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of ids on disk."""
        return blocks.id_type(count_ids(self.tokenizer))

    def identify(self) -> Identity:
        """Hashes of the text and of what encodes it."""
        return {"corpus": self.corpus.key, "tokenizer": hash_tokenizer(self.tokenizer)}

    def prepare(self, block_size: int) -> Prepared:
        """Blocks of the training split and streams of the held-out ones, from the cache or built now."""
        self.check_overlap(block_size)

        def load(folder: Path, record: dict[str, Any]) -> Prepared:
            ledger = self._load_ledger(record["ledger"])
            return Prepared(
                blocks=self._load_blocks(folder, record, ledger),
                held_out=self.load_held_out().streams,
                ledger=ledger,
                facts=cast(Facts, {**record["facts"], **self.identify()}),
            )

        return cache.cached(self.build_key(block_size), lambda aside: self._build(aside, block_size), load)

    def build_key(self, block_size: int) -> str:
        """The key of the cache entry that holds the rows."""
        config = self.corpus.config
        shape = {"block_size": block_size, "overlap": config.stride, "packing": config.packing}
        planted = {"canaries": identify_canaries(self.canaries)} if self.canaries else {}
        return cache.key_of({**self.identify(), **shape, **planted})

    def check_overlap(self, block_size: int) -> None:
        """Raise ConfigError for rows that would hold nothing new."""
        stride = self.corpus.config.stride
        if stride >= block_size:
            raise ConfigError(
                f"data.stride={stride:,}: expected less than the {block_size:,} tokens of a block. "
                "Lower it, or leave it out."
            )

    def load_held_out(self) -> HeldOut:
        """Streams of the held-out splits, from the cache or encoded now; the training split is not encoded."""

        def load(folder: Path, record: dict[str, Any]) -> HeldOut:
            streams = {split: self._load_stream(folder, split) for split in record["sides"]}
            return HeldOut(streams, record["split_by"])

        return cache.cached(cache.key_of({**self.identify(), "held_out": True}), self._build_held_out, load)

    def encode_stream(self, split: str) -> TokenStream:
        """One split, or `all`, as a stream, encoded now. Raises DataError where there is no such text."""
        name = self.corpus.config.name
        pieces = list(self.encode_batches(split, measured=True))
        if not pieces:
            raise DataError(
                f"eval.split={split}: {name} has no such documents. Set data.{split}_fraction=, or another split."
            )
        ids, tables = zip(*pieces, strict=True)
        opening = self.encoder.opening
        stream = TokenStream(np.concatenate(ids), np.concatenate(tables), self.encoder.separator, opening)
        size = int(stream.documents["bytes"].sum())
        check_any_tokens(name, len(stream.ids) - (1 + len(opening)) * len(stream.documents), size)
        return stream

    def encode_batches(
        self, split: str, measured: bool = False, ledger: Ledger | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids, documents) of consecutive documents, as Encoder.encode_documents; they are read again at each call.

        measured: fill in the words, characters and order of documents too. ledger: as for Corpus.batches.
        """
        encoder, seed = self.encoder, self.corpus.seed if measured else None
        batches, size = self._load_batches(split, ledger), self.corpus.first_pass.ledger.bytes_kept
        with saying("encoding", size, MEGABYTES) as work:
            for texts in batches:
                yield encoder.encode_documents(texts, seed, work.advance)

    def _load_batches(self, split: str, ledger: Ledger | None) -> Iterator[Texts]:
        """As Corpus.batches, with the canaries in the training split."""
        batches = self.corpus.batches(split, ledger)
        if split != "train" or not self.canaries:
            return batches
        held_out = sum(sum_bytes(texts) for held in self.corpus.split.held_out.values() for texts in held)
        size = self.corpus.ledger.bytes_kept - held_out
        return plant(batches, self.canaries, size, self.corpus.seed, Ledger() if ledger is None else ledger)

    def _load_ledger(self, record: dict[str, Any]) -> Ledger:
        """The account of a cached text, with the names that its files have now; what was remarked is said again."""
        ledger, source = Ledger.from_dict(record), self.corpus.source
        ledger.describe_sources(source.describe())
        ledger.passed_over = dict(source.passed_over)
        for remark in ledger.remarks:
            say_remark(remark)
        return ledger

    def _load_blocks(self, folder: Path, record: dict[str, Any], ledger: Ledger) -> blocks.Blocks:
        """Rows of an entry, or of the files that parts of the text have written elsewhere."""
        config, end = self.corpus.config, self.tokenizer.eos_token_id
        separator = end if config.isolate_documents and config.packing else None
        shape = (ledger.block_size, ledger.targets, separator, config.stride)
        if cache.ELSEWHERE in record:
            files = [Path(name) for name in record[cache.ELSEWHERE]]
            return blocks.Blocks(LineRows(files, self.dtype, ledger.block_size, config.stride, end), *shape)
        kind = blocks.Blocks if config.packing else blocks.PaddedBlocks
        return kind.load(folder / "train.arrow", *shape)

    def _load_stream(self, folder: Path, split: str) -> TokenStream:
        ids = np.load(folder / f"{split}-ids.npy", mmap_mode="r", allow_pickle=False)
        documents = np.load(folder / f"{split}-documents.npy", allow_pickle=False)
        return TokenStream(ids, documents, self.tokenizer.eos_token_id, encode_document_opening(self.tokenizer))

    def _build_held_out(self, folder: Path) -> dict[str, Any]:
        """Encode the held-out splits into `folder`; return what the cache is to remember of them."""
        split = self.corpus.split
        names = [name for name in HELD_OUT if split.held_out.get(name)]
        for name in names:
            stream = self.encode_stream(name)
            np.save(folder / f"{name}-ids.npy", stream.ids.astype(self.dtype))
            np.save(folder / f"{name}-documents.npy", stream.documents)
        return {"sides": names, "split_by": split.note}

    def _build(self, folder: Path, block_size: int) -> dict[str, Any]:
        """Encode the training split into `folder`; return what the cache is to remember of it."""
        corpus, encoder = self.corpus, self.encoder
        held = self.load_held_out()
        ledger, counts = copy.deepcopy(corpus.ledger), self.open_counts()
        content = self._build_rows(folder, block_size, ledger, counts)
        for split, stream in held.streams.items():
            ledger.sides[split].add(stream.documents, len(encoder.opening))
        train = ledger.sides["train"]
        check_any_tokens(corpus.config.name, train.text_tokens, train.bytes)
        ledger.check()
        facts: dict[str, Any] = {"encoder": encoder.name}
        if "validation" in held.streams:
            facts["unigram_bits_per_byte"] = unigram_bits_per_byte(counts, held.streams["validation"])
        return {"ledger": ledger.as_dict(), "facts": facts, **content}

    def open_counts(self) -> np.ndarray:
        """[vocabulary] int64: how often each id was met, which is not yet."""
        return np.zeros(max(count_ids(self.tokenizer), self.encoder.separator + 1), np.int64)

    def _build_rows(self, folder: Path, block_size: int, ledger: Ledger, counts: np.ndarray) -> dict[str, Any]:
        """Write the rows that the training split is cut into, and count them; return what the record is to say of them."""
        config, encoder = self.corpus.config, self.encoder
        file, pieces = folder / "train.arrow", self.count(self.encode_batches("train", ledger=ledger), ledger, counts)
        if config.packing:
            end_to_end = (ids for ids, _ in pieces)
            written = blocks.write_blocks(file, end_to_end, block_size, self.dtype, encoder.separator, config.stride)
        else:
            written = blocks.write_padded(file, pieces, block_size, self.dtype, encoder.separator, len(encoder.opening))
        self.account(ledger, block_size, *written)
        return {}

    def account(self, ledger: Ledger, block_size: int, rows: int, targets: int) -> None:
        """Count rows, and the places in them."""
        config = self.corpus.config
        ledger.block_size, ledger.packed = block_size, config.packing
        ledger.blocks, ledger.targets = rows, targets
        ledger.repeated = max(0, ledger.blocks - 1) * config.stride
        ledger.padding = ledger.blocks * block_size - ledger.targets - ledger.repeated

    def count(
        self, pieces: Iterable[tuple[np.ndarray, np.ndarray]], ledger: Ledger, counts: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pieces of the training split, counted in the ledger and token by token in `counts`: [vocabulary]."""
        for ids, documents in pieces:
            ledger.sides["train"].add(documents, len(self.encoder.opening))
            counts += np.bincount(ids, minlength=len(counts))
            yield ids, documents
