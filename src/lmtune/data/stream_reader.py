"""Training text that is read and encoded while it is trained on, from any place of it on, pass after pass without end."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from lmtune.config import DataConfig
from lmtune.data.blocks import RowCutter, find_learned
from lmtune.data.columns import Texts, hash_texts
from lmtune.data.encoding import Encoder
from lmtune.data.goldfish import CONTEXT, Goldfish
from lmtune.data.ledger import Ledger
from lmtune.data.selection import Selection, leave_out, withdraw
from lmtune.data.sources import Source
from lmtune.data.splits import HELD_OUT, Assigner, count_withheld
from lmtune.errors import DataError

LEAST_ROWS = 8192
"""Read at once; data.shuffle_blocks may be less."""


class Place(NamedTuple):
    """How far the documents of a pass have been read. The names are those of the position beside a checkpoint."""

    shard: int = 0
    """Number of a shard in the order of the pass, from whose start reading can go on."""
    documents: int = 0
    """Documents from there on that have been read, and are passed over."""
    begin: dict[str, Any] | None = None
    """The ledger at the start of that shard; None at the start of the pass."""
    now: dict[str, Any] | None = None
    """The ledger after those documents."""


class Mark(NamedTuple):
    """Where a window starts. The names are those of the position beside a checkpoint."""

    row: int = 0
    """Number of its first row, over all passes."""
    turn: int = 0
    """Passes before this one."""
    row_of_pass: int = 0
    place: Place = Place()
    rest: np.ndarray = np.empty(0, np.uint32)
    """[tokens] read already, and in no row before the mark."""
    before: np.ndarray = np.empty(0, np.uint32)
    """With training.goldfish, the last tokens before those of the first row; empty at the start of a pass."""
    left_out: int = 0
    """Targets of this pass before the mark that training.goldfish has left out."""


class Window(NamedTuple):
    """Consecutive rows, in the order in which they are trained on."""

    mark: Mark
    rows: np.ndarray
    """[rows, block_size + 1] ids."""
    first: np.ndarray
    last: np.ndarray
    """[rows] each: of a row the targets from `first` up to and without `last` are trained on."""
    left_out: np.ndarray | None = None
    """[rows, block_size] bool: those that training.goldfish leaves out all the same."""

    @property
    def end(self) -> int:
        """Number of the row after the last one, over all passes."""
        return self.mark.row + len(self.rows)

    def count_left_out(self) -> int:
        """Targets that would be trained on without training.goldfish."""
        if self.left_out is None:
            return 0
        return int((self.left_out & find_learned(self.left_out.shape[1], self.first, self.last)).sum())


@dataclass(frozen=True, slots=True)
class StreamedText:
    """The training documents of some shards of a source, encoded; their order is a function of the seeds and the pass."""

    config: DataConfig
    source: Source
    assigner: Assigner
    encoder: Encoder
    kept_apart: np.ndarray
    """[documents] uint64: hashes of the text that the source keeps apart, which is not trained on."""
    left_out: np.ndarray
    """[documents] uint64: hashes, with the seed of the split, of documents that are held out elsewhere."""
    shards: list[int]
    """Their numbers in the source; everywhere else they are counted from 0, as in the ledger."""
    order_seeds: tuple[int, ...]

    def encode(self, turn: int, place: Place, ledger: Ledger) -> Iterator[tuple[Place, np.ndarray]]:
        """(place after it, [tokens] uint32) of each batch of one pass from a place on, counted in the ledger.

        turn: number of the pass; in the first one, 0, held-out documents are counted too.
        """
        if place.begin is not None:
            ledger.restore(place.begin)  # the shard is read, and counted, once more
        selection, order = Selection(self.config, ledger), self._order_shards(turn)
        start, base, done = place.begin or ledger.as_dict(), place.shard, 0
        for shard in range(base, len(order)):
            if not self.config.counted and shard > base:
                start, base, done = ledger.as_dict(), shard, 0
            before = ledger.tally()
            read = selection.take(self.source.load_rows("train", self.shards[order[shard]]))
            for texts in leave_out(read, self.left_out, self.assigner.seed, ledger):
                done += len(texts)
                if base == place.shard and done <= place.documents:  # places are ends of batches, always the same ones
                    if done == place.documents and place.now is not None:
                        ledger.restore(place.now)
                    before = ledger.tally()
                    continue
                ids = self._encode_training(texts, ledger, HELD_OUT if turn == 0 else ())
                ledger.settle("train", order[shard], before)
                before = ledger.tally()
                yield Place(base, done, start, ledger.as_dict()), ids
            ledger.settle("train", order[shard], before)

    def _order_shards(self, turn: int) -> list[int]:
        """Shards in the order of one pass; that of the source where something counts from its start."""
        count = len(self.shards)
        if self.config.shuffle_blocks == 1 or self.config.counted:
            return list(range(count))
        return np.random.default_rng([*self.order_seeds, turn, 0]).permutation(count).tolist()

    def _encode_training(self, texts: Texts, ledger: Ledger, counted: tuple[str, ...]) -> np.ndarray:
        """[tokens] of the training documents among these; those of the splits in `counted` are only counted."""
        (parts,) = count_withheld([self.assigner.assign_by_hash(texts)], ledger)
        for split in counted:
            if split in parts:
                self._encode_counted(parts[split], ledger, split)
        training = parts.get("train")
        if training is not None and len(self.kept_apart):
            known = np.isin(hash_texts(training, seed=0), self.kept_apart)
            ledger.documents_in_training += int(known.sum())
            training = withdraw(training, known, "in_training", ledger)
        if training is None or not len(training):
            return np.empty(0, np.uint32)
        return self._encode_counted(training, ledger, "train")

    def _encode_counted(self, texts: Texts, ledger: Ledger, split: str) -> np.ndarray:
        ids, documents = self.encoder.encode_documents(texts)
        ledger.sides[split].add(documents, len(self.encoder.opening))
        return ids


class StreamReader:
    """Windows of rows from a mark on. The first pass is accounted for in the ledger.

    ledger: of what was read before the first pass. dtype: of ids.
    """

    def __init__(self, text: StreamedText, ledger: Ledger, block_size: int, dtype: np.dtype) -> None:
        self.ledger = ledger
        self.block_size = block_size
        self.shards = text.shards
        self.goldfish: Goldfish | None = None
        self._text = text
        self._dtype = dtype
        self._overlap = text.config.stride
        self._shuffled = text.config.shuffle_blocks
        self._size = self._shuffled * max(1, LEAST_ROWS // self._shuffled)
        self._unread = ledger.as_dict()

    def check_text(self) -> None:
        """Raise DataError where a pass has no text to train on. Reads as far as the first of it, and counts nothing."""
        if not any(len(ids) for _, ids in self._text.encode(0, Place(), Ledger())):
            raise DataError(self._explain_empty())

    def read(self, mark: Mark) -> Iterator[Window]:
        """Windows in order, the one of the mark first. Raises DataError where a pass has no text to train on."""
        while True:
            last = None
            for last in self._read_pass(mark):
                yield last
            if last is None:
                raise DataError(self._explain_empty())
            mark = Mark(row=last.end, turn=mark.turn + 1)

    def _read_pass(self, mark: Mark) -> Iterator[Window]:
        cutter = RowCutter(self.block_size, self._overlap, self._dtype, self._find_before(mark))
        cutter.rows = mark.row_of_pass
        read_ahead = (mark.place, mark.rest)
        for place, ids in chain([read_ahead], self._text.encode(mark.turn, mark.place, self._open_ledger(mark))):
            cutter.add(ids)
            while cutter.full >= self._size:
                before = cutter.look_back(self._size)
                window = self._build_window(mark, before, cutter.take(self._size))
                left_out = mark.left_out + window.count_left_out()
                mark = Mark(window.end, mark.turn, cutter.rows, place, cutter.rest, cutter.before, left_out)
                self._account(mark, cutter)
                yield window
        before = cutter.look_back(cutter.full + 1)
        rows, waiting = cutter.take(), cutter.waiting
        free = self.block_size - (cutter.overlap if cutter.rows else 0)
        rows = np.concatenate([rows, cutter.finish(self._text.encoder.separator)])
        if len(rows):
            window = self._build_window(mark, before[: len(rows)], rows, waiting)
            counted = mark._replace(left_out=mark.left_out + window.count_left_out())
            self._account(counted, cutter, padding=free - waiting if waiting else 0)
            yield window

    def _find_before(self, mark: Mark) -> np.ndarray | None:
        """[CONTEXT] ids before the first row of a mark, separators before the first of a pass; None where nobody looks at them."""
        if self.goldfish is None:
            return None
        return mark.before if len(mark.before) else np.full(CONTEXT, self._text.encoder.separator)

    def _explain_empty(self) -> str:
        config = self._text.config
        if config.lanes == 1:
            return f"{config.name}: no training text to stream. Hold out less, or give more text."
        return (
            f"{config.name}: no training text in one of data.lanes={config.lanes}, expected some in each; that lane has "
            f"{len(self.shards):,} of the files. Give fewer lanes, or more text."
        )

    def _open_ledger(self, mark: Mark) -> Ledger:
        """The account as it was at a mark; only the first pass is kept."""
        if mark.turn:
            return Ledger()
        self.ledger.restore(mark.place.now or self._unread)
        return self.ledger

    def _build_window(self, mark: Mark, before: np.ndarray, rows: np.ndarray, targets_of_last: int = 0) -> Window:
        """before: ids before each row. targets_of_last: targets of the last row, where it is not full."""
        numbers = mark.row_of_pass + np.arange(len(rows))
        first = np.where(numbers > 0, self._overlap, 0)
        last = np.full(len(rows), self.block_size)
        if targets_of_last:
            last[-1] = first[-1] + targets_of_last
        order = self._order_rows(len(rows), mark)
        found = None
        if self.goldfish is not None:
            found = self.goldfish.choose(np.concatenate([before, rows], axis=1))[order]
        return Window(mark, rows[order], first[order], last[order], found)

    def _order_rows(self, rows: int, mark: Mark) -> np.ndarray:
        """[rows] int64: a permutation inside each run of data.shuffle_blocks rows."""
        draw = np.random.default_rng([*self._text.order_seeds, mark.turn, 1, mark.row_of_pass])
        runs = range(0, rows, self._shuffled)
        return np.concatenate([start + draw.permutation(min(self._shuffled, rows - start)) for start in runs])

    def _account(self, mark: Mark, cutter: RowCutter, padding: int = 0) -> None:
        """Count the rows of the first pass. mark: behind the last of them."""
        if mark.turn:
            return
        ledger = self.ledger
        ledger.blocks, ledger.padding = cutter.rows, padding
        ledger.waiting = 0 if padding else cutter.waiting
        ledger.repeated = max(0, cutter.rows - 1) * cutter.overlap
        ledger.targets = cutter.rows * cutter.block_size - ledger.repeated - padding
        ledger.targets_left_out = mark.left_out
