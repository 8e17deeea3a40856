"""The account of every row, document, byte and token: what was read, left out, held out and trained on."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from lmtune.errors import LedgerError
from lmtune.token_stream import sum_losses

SPLITS = ("train", "validation", "test")
LEFT_OUT = {
    "marks": "byte-order marks",
    "recoding": "more than in UTF-8, of other encodings",
    "carriage_returns": "CR of CRLF line ends",
    "table": "names, marks and other columns of tables",
    "line_ends": "line ends behind documents",
    "blank_lines": "blank lines around documents",
    "empty": "rows without text",
    "unwanted": "without the wanted values",
    "normalized": "more than in the form of data.unicode",
    "repeated": "repeated rows",
    "joined": "rows and lines joined into documents",
    "short": "documents too short",
    "over_limit": "documents beyond the limit",
    "in_training": "held out, but also in the training text",
    "held_elsewhere": "held out in another source, or by the run that the model comes from",
    "learned_before": "held out, but learned by the run that the model comes from",
    "copied": "copies of passages that are held out",
}
"""Kinds of bytes that are read and not kept. A negative count means that bytes were added: a line end between rows that are
joined, a letter that takes more bytes in UTF-8."""


@dataclass(slots=True)
class Counts:
    """One split, in every unit."""

    documents: int = 0
    bytes: int = 0
    text_tokens: int = 0
    separators: int = 0
    """One after each document."""
    openings: int = 0
    """Tokens that the tokenizer itself puts before documents, such as BOS."""
    unknown_tokens: int = 0
    """Text tokens that are the unknown token of the vocabulary."""
    lost_bytes: int = 0
    """Bytes that the tokens do not decode to."""
    lengths: list[int] = field(default_factory=list)
    """Documents by their tokens: how many have 2^i to 2^(i+1) - 1 of them, the separator among these."""

    @property
    def tokens(self) -> int:
        """Ids of the split: text, separators and openings."""
        return self.text_tokens + self.separators + self.openings

    def add(self, documents: np.ndarray, opening: int = 0) -> None:
        """Count documents: rows of a table of documents, of which `opening` tokens open each."""
        unknown, lost = sum_losses(documents)
        self.unknown_tokens += unknown
        self.lost_bytes += lost
        self.openings += opening * len(documents)
        self.documents += len(documents)
        self.separators += len(documents)
        self.bytes += int(documents["bytes"].sum())
        self.text_tokens += int(documents["tokens"].sum()) - (1 + opening) * len(documents)
        _, exponents = np.frexp(documents["tokens"])
        self._add_lengths(np.bincount(np.maximum(exponents - 1, 0)).tolist())

    def join(self, other: "Counts") -> None:
        """Add what was counted of other documents."""
        for item in fields(Counts):
            if item.default == 0:
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        self._add_lengths(other.lengths)

    def _add_lengths(self, more: list[int]) -> None:
        self.lengths = [sum(pair) for pair in zip_longest(self.lengths, more, fillvalue=0)]


class Tally(NamedTuple):
    """Counts of a ledger at one time."""

    rows: int
    content_bytes: int
    bytes_kept: int
    left_out: dict[str, int]


@dataclass(slots=True)
class Ledger:
    """Counts from what was read to what is learned."""

    sources: list[dict[str, Any]] = field(default_factory=list)
    """What was read: its name, date, bytes on the disk and xxh3-128 of them, and how the bytes of its content (compression
    undone; of parquet, Arrow and the Hub those of their texts alone) and rows were used."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Number of files that match folders and patterns and were not read, by reason."""
    remarks: list[str] = field(default_factory=list)
    """What was guessed, or looks odd, in words."""
    rows_per_document: int = 1
    documents_are: str = ""
    """What one document is, in words."""
    rows_read: int = 0
    rows_empty: int = 0
    rows_repeated: int = 0
    """Exact repetitions, dropped by data.deduplicate."""
    rows_unwanted: int = 0
    """Without the values that data.where asks for."""
    rows_normalized: int = 0
    """Brought into the form of data.unicode; among the rows used or repeated."""
    rows_used: int = 0
    documents_read: int = 0
    documents_short: int = 0
    """Dropped by data.min_chars."""
    documents_over_limit: int = 0
    """Read, and not taken because of data.max_documents or data.max_bytes; what follows in their files is not read."""
    documents_in_training: int = 0
    """Held-out documents that are also in the training text, dropped from the held-out split (while streaming: from the
    training split)."""
    documents_held_elsewhere: int = 0
    """Held out in the source that this one is mixed with, or by the run that the model comes from, and so not learned from."""
    documents_learned_before: int = 0
    """Kept apart by the source, but learned by the run that the model comes from, and so not held out."""
    documents_spared: int = 0
    """Drawn to be held out, but learned by that run, and so trained on (of stretches: pieces)."""
    documents_held_again: int = 0
    """Held out by that run, and so held out here too (of stretches: pieces)."""
    documents_kept: int = 0
    bytes_read: int = 0
    """Bytes of the content of all sources."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Bytes that were read and not kept, by the kinds of LEFT_OUT."""
    bytes_kept: int = 0
    bytes_copied: int = 0
    """Passages of training documents that are also in stretches that are held out here, or in what the run held out that the
    model comes from. They are neither kept nor learned."""
    documents_planted: int = 0
    """Copies of canaries among the training documents (audit.canaries); they are neither read nor kept, and learned."""
    bytes_planted: int = 0
    split_by: str = ""
    """hash, stretches, or given; given and stretches, where only the test split is drawn; of a stream, among how many documents."""
    sides: dict[str, Counts] = field(default_factory=lambda: {split: Counts() for split in SPLITS})
    block_size: int = 0
    blocks: int = 0
    targets: int = 0
    """Training tokens that are predicted once per epoch: all but the first of the stream."""
    targets_left_out: int = 0
    """Targets that training.goldfish leaves out of the loss, the same in each epoch."""
    packed: bool = True
    """False where each document has rows of its own (data.packing=false); then all tokens are targets."""
    repeated: int = 0
    """Positions of blocks that repeat the end of the block before (data.stride); they are not learned again."""
    padding: int = 0
    """Positions of the last block (data.packing=false: of all) that hold no token; they are not learned."""
    waiting: int = 0
    """While streaming: targets that have been read and are in no block yet."""
    lanes: int = 1
    """Streams that the training text comes in: of data.lanes, those that have been read. The first token of each is no target."""
    mix: dict[str, Any] = field(default_factory=dict)
    """By source of data.mix: its weight, its blocks, and how many of them an epoch takes; of a streamed mixture, how many the run
    takes, and of the other sources their own ledgers."""
    replay: dict[str, Any] = field(default_factory=dict)
    """Of forgetting.on: where old text comes from, its blocks and tokens, and at the end of the run how many of them were learned,
    besides all that is counted above."""

    def count_read(self, texts: int, beside: dict[str, int]) -> None:
        """Count the bytes of the texts that were read, and of what is beside them, by the kinds of LEFT_OUT."""
        self.bytes_read += texts + sum(beside.values())
        for kind, size in beside.items():
            self.leave_out(kind, size)

    def leave_out(self, kind: str, size: int) -> None:
        """Count bytes that are not kept, by a kind of LEFT_OUT."""
        if size:
            self.left_out[kind] = self.left_out.get(kind, 0) + size

    def withdraw(self, kind: str, documents: int, size: int) -> None:
        """Count kept documents of `size` bytes together as left out after all, by a kind of LEFT_OUT."""
        self.documents_kept -= documents
        self.bytes_kept -= size
        self.leave_out(kind, size)

    def tally(self) -> Tally:
        """The counts of bytes and rows now, for settle."""
        return Tally(self.rows_read, self.bytes_read, self.bytes_kept, dict(self.left_out))

    def settle(self, split: str, shard: int, before: Tally) -> None:
        """Add what has been counted since `before` to its source; raise LedgerError where the sums do not close.

        shard: number of the source among those of the split; of several shards of one source, all are added up.
        """
        source = self._find_source(split, shard)
        if source is None:
            return
        now = self.tally()
        left_out = {kind: size - before.left_out.get(kind, 0) for kind, size in now.left_out.items()}
        since = {name: getattr(now, name) - getattr(before, name) for name in ("rows", "content_bytes", "bytes_kept")}
        _add_use(source, {**since, "left_out": left_out})
        left = sum(source["left_out"].values())
        self._close(f"bytes of {source['name']}", source["content_bytes"], source["bytes_kept"] + left)

    def _find_source(self, split: str, shard: int) -> dict[str, Any] | None:
        """The source of a shard; None where a split has none."""
        sources = [source for source in self.sources if source.get("split") == split]
        return sources[min(shard, len(sources) - 1)] if sources else None

    def join(self, other: "Ledger") -> None:
        """Add what was counted of another part of the same text: rows, documents, bytes and splits, and how sources were used."""
        for item in fields(Ledger):
            if item.name.startswith(("rows_", "documents_", "bytes_")) and item.default == 0:
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        for kind, size in other.left_out.items():
            self.left_out[kind] = self.left_out.get(kind, 0) + size
        for split, counts in other.sides.items():
            self.sides[split].join(counts)
        self.remarks = list(dict.fromkeys([*self.remarks, *other.remarks]))

    def open_part(self, shards: Sequence[int]) -> "Ledger":
        """An account of some shards of the training split, numbered from 0, in which nothing is counted."""
        described = (self._find_source("train", shard) for shard in shards)
        return Ledger(sources=[dict(source) for source in described if source is not None])

    def join_part(self, part: "Ledger", shards: Sequence[int]) -> None:
        """Add what was counted of some shards, cut into rows by themselves. part: of open_part."""
        self.join(part)
        for name in ("blocks", "targets", "targets_left_out", "repeated", "padding", "waiting"):
            setattr(self, name, getattr(self, name) + getattr(part, name))
        self.lanes += min(1, part.sides["train"].tokens)
        for shard, used in zip(shards, part.sources, strict=False):
            source = self._find_source("train", shard)
            if source is not None and "left_out" in used:
                _add_use(source, used)

    def describe_sources(self, described: list[dict[str, Any]]) -> None:
        """Take over the present names of the sources, beside how they were used: the same content may have moved."""
        self.sources = [{**known, **now} for known, now in zip(self.sources, described, strict=True)]

    def check(self) -> None:
        """Raise LedgerError where a sum does not close."""
        sides = self.sides.values()
        self._close(
            "rows read", self.rows_read, self.rows_empty + self.rows_unwanted + self.rows_repeated + self.rows_used
        )
        self._close(
            "documents read",
            self.documents_read,
            self.documents_short
            + self.documents_over_limit
            + self.documents_in_training
            + self.documents_held_elsewhere
            + self.documents_learned_before
            + self.documents_kept,
        )
        cut = "stretches" in self.split_by or self.bytes_copied or self.documents_held_again
        if not cut:  # parts of documents count as such, in several splits
            learned = self.documents_kept + self.documents_planted
            self._close("documents kept", learned, sum(side.documents for side in sides))
        self._close("bytes read", self.bytes_read, self.bytes_kept + sum(self.left_out.values()))
        self._close("bytes kept", self.bytes_kept + self.bytes_planted, sum(side.bytes for side in sides))
        for name, side in self.sides.items():
            self._close(f"separators of {name}", side.documents, side.separators)
        train = self.sides["train"]
        # In rows of its own, a document starts with a token that is no target where the tokenizer opens it with one.
        alone = train.documents if train.openings else 0
        unpredicted = min(self.lanes, train.tokens) if self.packed else alone
        self._close("training targets", train.tokens - unpredicted, self.targets + self.waiting)
        self._close("places in blocks", self.blocks * self.block_size, self.targets + self.repeated + self.padding)
        for part in self.mix.values():
            if "ledger" in part:
                self.from_dict(part["ledger"]).check()

    def as_dict(self) -> dict[str, Any]:
        """The content of ledger.json."""
        record = asdict(self)
        for name in ("replay", "targets_left_out"):
            if not record[name]:
                del record[name]  # a ledger without old text, or without goldfish, is that of versions that knew none
        for name, side in self.sides.items():
            record["sides"][name]["tokens"] = side.tokens
        return record

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Ledger":
        """The ledger that as_dict has written."""
        sides = {
            name: Counts(**{key: value for key, value in side.items() if key != "tokens"})
            for name, side in record["sides"].items()
        }
        return cls(**{**record, "sides": sides})

    def restore(self, record: dict[str, Any]) -> None:
        """Overwrite every count with those of `record`, which as_dict wrote and which stays as it is.

        Other sources and old text that a run learns again are no part of what was read, and stay as the run has them.
        """
        other = self.from_dict(copy.deepcopy(record))
        for item in fields(self):
            if item.name not in ("mix", "replay"):
                setattr(self, item.name, getattr(other, item.name))

    @staticmethod
    def _close(what: str, whole: int, parts: int) -> None:
        if whole != parts:
            raise LedgerError(f"the ledger does not close: {what} is {whole:,}, its parts add up to {parts:,}")


def _add_use(source: dict[str, Any], used: dict[str, Any]) -> None:
    """Add to a source how its bytes and rows were used. What it says of its rows before that is of all of them."""
    begun = "left_out" in source
    for name in ("rows", "content_bytes", "bytes_kept"):
        source[name] = (source[name] if begun else 0) + used[name]
    left = source.setdefault("left_out", {})
    for kind, size in used["left_out"].items():
        if size:
            left[kind] = left.get(kind, 0) + size
