"""Text that is read and encoded while it is trained on, for what does not fit on the disk twice.

Nothing is kept but a window of rows. A position in the stream is (pass, shard, document, window), written beside each
checkpoint, so that a resumed run reads on where it stopped; without it the stream is read again from its begin, to the
same rows. Order is a pure function of `seed=`, and what is held out one of `data.seed=`: each pass takes the shards in an
order of its own, and shuffles the rows of each window of data.shuffle_blocks; with data.shuffle_blocks=1 rows come as the
source has them, and equal those of the same data without streaming.
"""

import json
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lmtune.config import DataConfig, SplitRule
from lmtune.config.data import select_settings
from lmtune.data import cache, splits
from lmtune.data.blocks import RowCutter, TrainingRows, build_batch, id_type
from lmtune.data.columns import Texts, count_bytes, count_chars, hash_texts
from lmtune.data.corpus import Corpus, Prepared
from lmtune.data.documents import Selection
from lmtune.data.encoding import Encoder
from lmtune.data.layout import build_table, lay_out
from lmtune.data.ledger import Ledger
from lmtune.data.past import Past
from lmtune.data.progress import show_progress
from lmtune.data.sides import Survey, sample_texts
from lmtune.data.splits import HELD_OUT
from lmtune.errors import DataError
from lmtune.token_stream import LOSSES
from lmtune.vocabulary import count_ids

HELD_OUT_BYTES = 4_000_000
"""Of each held-out side: about a million tokens, which a small model scores in minutes."""
POSITION = "stream.npz"
"""Beside a checkpoint: where the stream stood."""
LEAST_ROWS = 8192
"""Read at once; data.shuffle_blocks may be less."""


class StreamedCorpus(Corpus):
    """A corpus that is read only as far as it is needed: held-out text is taken from its begin.

    A document's side is decided by the hash of its text alone, as without streaming. Documents beyond the held-out text
    that fall on a held-out side are left out, and are never trained on.
    """

    def __init__(self, config: DataConfig, seed: int, order_seed: int | None = None, past: Past | None = None) -> None:
        super().__init__(config, seed, past=past)
        self.order_seed = seed if order_seed is None else order_seed

    @cached_property
    def key(self) -> str:
        # The content is not read for a fingerprint; names, sizes and dates have to do, and the split, which is not among them.
        content = {"source": self.source.describe(), "train_split": self.config.train_split, **self.conditions}
        return cache.key_of({**content, **select_settings(self.config), "seed": self.seed})

    @cached_property
    def survey(self) -> Survey:
        """Reads the begin of the training split, until there is enough of each held-out side."""
        chars: list[np.ndarray] = []
        by_hash: dict[str, list[Texts]] = {side: [] for side in HELD_OUT}
        wanted = {side for side in HELD_OUT if getattr(self.shares, side)}
        proof: list[tuple[int, str]] = []
        for texts in show_progress(self.load_documents("train", Ledger()), "reading"):
            chars.append(count_chars(texts))
            proof = sample_texts(proof, hash_texts(texts, self.seed), texts)
            dealt = self.deal_by_hash(texts, self.ledger)
            for side in wanted & dealt.keys():
                by_hash[side].append(dealt[side])
            if all(sum(int(count_bytes(t).sum()) for t in by_hash[side]) >= HELD_OUT_BYTES for side in wanted):
                break
        read = sum(map(len, chars))
        self._check_found("train", read, read)
        return Survey(np.concatenate(chars), np.empty(0, np.uint64), by_hash, [text for _, text in proof])

    @cached_property
    def held_out(self) -> dict[str, list[Texts]]:
        """The held-out documents of the begin, and those that the source keeps apart."""
        survey = self.survey
        counts = {side: sum(map(len, texts)) for side, texts in survey.by_hash.items()}
        counts["train"] = len(survey.chars) - sum(counts.values())
        splits.check_sides(counts, survey.chars, self.shares, knows=self.ledger.documents_spared)
        among = f"hash, among the first {len(survey.chars):,} documents"
        self.ledger.split_by = among if self.shares.validation else SplitRule.given.value
        given = {side: list(self.load_documents(side, Ledger())) for side in self.kept_apart}
        return {**{side: texts for side, texts in survey.by_hash.items() if texts}, **given}

    def prepare(self, tokenizer: Any, block_size: int) -> Prepared:
        """Rows that are encoded when they are asked for, and streams of the held-out sides."""
        self.check_overlap(block_size)
        held = self.load_held_out(tokenizer)
        ledger = self.ledger
        ledger.split_by, ledger.block_size = held.split_by, block_size
        reader = Reader(
            self, self.find_encoder(tokenizer), tokenizer.eos_token_id, block_size, id_type(count_ids(tokenizer))
        )
        separator = tokenizer.eos_token_id if self.config.isolate_documents else None
        return Prepared(
            blocks=StreamedBlocks(reader, separator),
            held_out=held.streams,
            ledger=ledger,
            facts={"encoder": self.find_encoder(tokenizer).name, **self.identify(tokenizer)},
        )

    @cached_property
    def given_hashes(self) -> np.ndarray:
        """[documents] of the text that the source keeps apart, which is not to be trained on."""
        hashes = [hash_texts(texts, seed=0) for side in self.kept_apart for texts in self.held_out[side]]
        return np.concatenate([np.empty(0, np.uint64), *hashes])

    @property
    def kept_apart(self) -> list[str]:
        """Sides that the source itself holds out."""
        return [side for side in self.source.splits() if side != "train"]

    def order_shards(self, turn: int) -> list[int]:
        """Shards in the order of one pass; that of the source where something counts from the begin of it."""
        count = self.source.count_shards("train")
        if self.config.shuffle_blocks == 1 or self.counts_from_begin:
            return list(range(count))
        return np.random.default_rng([self.order_seed, turn, 0]).permutation(count).tolist()

    @property
    def counts_from_begin(self) -> bool:
        """True where what is kept of a shard depends on those before."""
        return bool(self.config.deduplicate or self.config.max_documents or self.config.max_bytes)


class Place(NamedTuple):
    """How far the documents of a pass have been read."""

    shard: int = 0
    """Place of a shard in the order of the pass; from its begin reading can start again."""
    documents: int = 0
    """Documents to pass over from there, since they have been read."""
    begin: dict[str, Any] | None = None
    """The account when that shard began; None at the begin of the pass."""
    now: dict[str, Any] | None = None
    """The account behind those documents."""


class Mark(NamedTuple):
    """Where a window begins."""

    row: int = 0
    """Number of its first row, over all passes."""
    turn: int = 0
    """Passes before this one."""
    row_of_pass: int = 0
    place: Place = Place()
    rest: np.ndarray = np.empty(0, np.uint32)
    """Ids that have been read and are in no row before the mark."""


class Window(NamedTuple):
    """Consecutive rows, in the order in which they are trained on."""

    mark: Mark
    rows: np.ndarray
    """[rows, block_size + 1] ids."""
    first: np.ndarray
    last: np.ndarray
    """[rows]: of each row the targets from `first` up to and without `last` are learned."""

    @property
    def end(self) -> int:
        return self.mark.row + len(self.rows)


class Reader:
    """Windows of rows from a mark on, pass after pass without end. The first pass is accounted for in the ledger."""

    def __init__(
        self, corpus: StreamedCorpus, encoder: Encoder, separator: int, block_size: int, dtype: np.dtype
    ) -> None:
        self._corpus = corpus
        self._encoder = encoder
        self._separator = separator
        self.block_size = block_size
        self._dtype = dtype
        self._shuffled = corpus.config.shuffle_blocks
        self._size = self._shuffled * max(1, LEAST_ROWS // self._shuffled)
        self._unread = corpus.ledger.as_dict()

    @property
    def ledger(self) -> Ledger:
        """Of the first pass."""
        return self._corpus.ledger

    def read(self, mark: Mark) -> Iterator[Window]:
        """Windows in order, the one of the mark first."""
        while True:
            last = None
            for last in self._read_pass(mark):
                yield last
            if last is None:
                name = self._corpus.config.name
                raise DataError(f"{name}: no training text to stream. Hold out less, or give more text.")
            mark = Mark(row=last.end, turn=mark.turn + 1)

    def _read_pass(self, mark: Mark) -> Iterator[Window]:
        cutter = RowCutter(self.block_size, self._corpus.config.stride, self._dtype)
        cutter.rows = mark.row_of_pass
        read_ahead = (mark.place, mark.rest)
        for place, ids in chain([read_ahead], self._encode(mark, self._open_ledger(mark))):
            cutter.add(ids)
            while cutter.full >= self._size:
                window = self._build_window(mark, cutter.take(self._size))
                mark = Mark(window.end, mark.turn, cutter.rows, place, cutter.rest)
                self._account(mark.turn, cutter)
                yield window
        rows, waiting = cutter.take(), cutter.waiting
        room = self.block_size - (cutter.overlap if cutter.rows else 0)
        rows = np.concatenate([rows, cutter.finish(self._separator)])
        if len(rows):
            self._account(mark.turn, cutter, padding=room - waiting if waiting else 0)
            yield self._build_window(mark, rows, waiting)

    def _build_window(self, mark: Mark, rows: np.ndarray, learned_of_last: int = 0) -> Window:
        """learned_of_last: targets of the last row, where it is not full."""
        numbers = mark.row_of_pass + np.arange(len(rows))
        first = np.where(numbers > 0, self._corpus.config.stride, 0)
        last = np.full(len(rows), self.block_size)
        if learned_of_last:
            last[-1] = first[-1] + learned_of_last
        order = self._order(len(rows), mark)
        return Window(mark, rows[order], first[order], last[order])

    def _order(self, rows: int, mark: Mark) -> np.ndarray:
        """A permutation inside each run of data.shuffle_blocks rows."""
        draw = np.random.default_rng([self._corpus.order_seed, mark.turn, 1, mark.row_of_pass])
        runs = range(0, rows, self._shuffled)
        return np.concatenate([begin + draw.permutation(min(self._shuffled, rows - begin)) for begin in runs])

    def _encode(self, mark: Mark, ledger: Ledger) -> Iterator[tuple[Place, np.ndarray]]:
        """Training ids of one pass from a place on, each piece with the place behind it."""
        corpus, place = self._corpus, mark.place
        if place.begin is not None:
            ledger.restore(place.begin)  # the shard is read, and counted, once more
        selection = Selection(corpus.config, ledger)
        order = corpus.order_shards(mark.turn)
        begin, base, done = place.begin or ledger.as_dict(), place.shard, 0
        for shard in range(base, len(order)):
            if not corpus.counts_from_begin and shard > base:
                begin, base, done = ledger.as_dict(), shard, 0
            before = ledger.tally()
            for texts in selection.take(corpus.source.load_rows("train", order[shard])):
                done += len(texts)
                if base == place.shard and done <= place.documents:  # places are ends of batches, always the same ones
                    if done == place.documents and place.now is not None:
                        ledger.restore(place.now)
                    before = ledger.tally()
                    continue
                ids = self._encode_training(texts, ledger, accounted=mark.turn == 0)
                ledger.settle("train", order[shard], before)
                before = ledger.tally()
                yield Place(base, done, begin, ledger.as_dict()), ids
            ledger.settle("train", order[shard], before)

    def _open_ledger(self, mark: Mark) -> Ledger:
        """The account as it was at a mark."""
        if mark.turn:
            return Ledger()
        ledger = self._corpus.ledger
        ledger.restore(mark.place.now or self._unread)
        if mark.place.now is None:
            self._count_given(ledger)
        return ledger

    def _count_given(self, ledger: Ledger) -> None:
        for side in self._corpus.kept_apart:
            for texts in self._corpus.load_documents(side, ledger):
                ledger.sides[side].add(self._encode_counted(texts)[1], len(self._encoder.opening))

    def _encode_training(self, texts: Texts, ledger: Ledger, accounted: bool) -> np.ndarray:
        """Ids of the training documents among these; the others are only counted."""
        corpus = self._corpus
        dealt = corpus.deal_by_hash(texts)
        for side in HELD_OUT if accounted else ():
            if side in dealt:
                ledger.sides[side].add(self._encode_counted(dealt[side])[1], len(self._encoder.opening))
        training = dealt.get("train")
        if training is not None and len(corpus.given_hashes):
            known = np.isin(hash_texts(training, seed=0), corpus.given_hashes)
            ledger.documents_in_training += int(known.sum())
            ledger.withdraw("in_training", int(known.sum()), int(count_bytes(training)[known].sum()))
            training = training.filter(pa.array(~known))
        if training is None or not len(training):
            return np.empty(0, np.uint32)
        ids, table = self._encode_counted(training)
        ledger.sides["train"].add(table, len(self._encoder.opening))
        return ids

    def _encode_counted(self, texts: Texts) -> tuple[np.ndarray, np.ndarray]:
        """(ids, documents): as Corpus.encode_batches, of one batch."""
        encoder = self._encoder
        ids, lengths = encoder.encode(texts)
        table = build_table(texts, lengths, None, encoder.opening)
        table[list(LOSSES.names or ())] = encoder.measure(texts, ids, lengths)
        return lay_out(ids, lengths, self._separator, encoder.opening), table

    def _account(self, turn: int, cutter: RowCutter, padding: int = 0) -> None:
        if turn == 0:
            ledger = self._corpus.ledger
            ledger.blocks, ledger.padding = cutter.rows, padding
            ledger.waiting = 0 if padding else cutter.waiting
            ledger.repeated = max(0, cutter.rows - 1) * cutter.overlap
            ledger.targets = cutter.rows * cutter.block_size - ledger.repeated - padding


class StreamedBlocks(TrainingRows):
    """As many rows as a run takes, read as they are asked for, in order."""

    def __init__(self, reader: Reader, separator: int | None) -> None:
        self._reader = reader
        self.block_size = reader.block_size
        self._separator = separator
        self._length = 0
        self._marks = [Mark()]
        """Places to begin from, in order."""
        self._windows: deque[Window] = deque(maxlen=2)  # two, since processes and prefetching are not in step
        self._coming: Iterator[Window] | None = None

    def arrange(self, rows_per_batch: int, batches: int) -> None:
        self._length = rows_per_batch * batches

    def build_sampler(self, seed: int) -> Any:
        from torch.utils.data import SequentialSampler

        return SequentialSampler(self)

    def __len__(self) -> int:
        return self._length

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        """A batch of rows; see build_batch."""
        found = [(self._find(index), index) for index in indices]
        rows, first, last = (
            np.stack([getattr(window, name)[index - window.mark.row] for window, index in found])
            for name in ("rows", "first", "last")
        )
        return build_batch(rows, first, last, self._separator)

    def _find(self, index: int) -> Window:
        """The window of a row; read on to it, or again from the last place before it."""
        if self._coming is None or (self._windows and index < self._windows[0].mark.row):
            self._windows.clear()
            self._coming = self._reader.read(
                max((mark for mark in self._marks if mark.row <= index), key=lambda mark: mark.row)
            )
        while not self._windows or index >= self._windows[-1].end:
            self._windows.append(next(self._coming))
        return next(window for window in self._windows if window.mark.row <= index < window.end)

    def save_position(self, folder: Path) -> None:
        """The begins of the windows at hand, with the ids that were read ahead of them."""
        marks = [window.mark for window in self._windows]
        record: list[dict[str, Any]] = [
            {**mark._asdict(), "place": mark.place._asdict(), "rest": None} for mark in marks
        ]
        rests: dict[str, Any] = {f"rest{number}": mark.rest for number, mark in enumerate(marks)}
        rests["marks"] = np.array(json.dumps(record))
        rests["ledger"] = np.array(json.dumps(self._reader.ledger.as_dict()))
        np.savez(folder / POSITION, **rests)

    def load_position(self, folder: Path) -> None:
        if not (folder / POSITION).exists():
            return
        with np.load(folder / POSITION, allow_pickle=False) as saved:
            self._reader.ledger.restore(json.loads(str(saved["ledger"])))
            record = json.loads(str(saved["marks"]))
            self._marks = [Mark()] + [
                Mark(**{**mark, "place": Place(**mark["place"]), "rest": saved[f"rest{number}"]})
                for number, mark in enumerate(record)
            ]
        self._coming = None
