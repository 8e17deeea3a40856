"""The shards of a stream dealt out to lanes, each of which is read by itself: data.lanes.

Batch i comes from lane i % lanes, so of several processes each reads the lanes of its own batches alone, and which row stands
in which batch does not depend on how many processes there are, as long as their number divides that of the lanes.
"""

from collections import deque
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lmtune.config import DataConfig
from lmtune.data.goldfish import Goldfish
from lmtune.data.ledger import Ledger
from lmtune.data.sources import Source
from lmtune.data.stream_reader import Mark, StreamReader, Window
from lmtune.errors import DataError


def deal_shards(shards: int, lanes: int, seed: int, empty: Collection[int] = ()) -> list[list[int]]:
    """Numbers of shards, of each lane in their order; lanes differ by one shard at most.

    empty: shards that hold nothing. They are dealt last, so that no lane gets them alone while others have several that do.
    """
    dealt = np.random.default_rng([seed, 0, 0, 2]).permutation(shards).tolist()
    dealt.sort(key=lambda shard: shard in empty)
    return [sorted(dealt[lane::lanes]) for lane in range(lanes)]


def find_lane(row: int, rows_per_batch: int, lanes: int) -> tuple[int, int]:
    """(lane, row of the lane) of a row, by its number over all batches. rows_per_batch: of one process."""
    batch, place = divmod(row, rows_per_batch)
    return batch % lanes, batch // lanes * rows_per_batch + place


def check_shards(config: DataConfig, source: Source, *, mixed: bool = False) -> None:
    """Raise DataError where a lane of a stream would have nothing to read. mixed: it is another source of data.mix."""
    if not config.streaming or config.lanes == 1:
        return
    empty = len(source.find_empty("train"))
    shards = source.count_shards("train") - empty
    if shards < config.lanes:
        name = config.name
        raise DataError(
            f"data.lanes={config.lanes}: expected at least as many files{f' of {name}' if mixed else ''} (of the Hub: shards), "
            f"found {shards:,}{f' with something in them, and {empty:,} empty' if empty else ''}, and each is read in one lane. "
            f"Give data.lanes={shards} or less, or cut the text into more files"
            f"{f', or prepare it whole: data.prepared=[{name}]' if mixed else ''}."
        )


def render_lanes(config: DataConfig, source: Source, processes: int) -> str | None:
    """How much of a stream each process reads; None where one reads all of it."""
    shards = source.count_shards("train")
    if config.lanes > 1:
        each = f", {config.lanes // processes} for each of {processes} processes" if processes > 1 else ""
        return f"{shards:,} files in {config.lanes} lanes{each}"
    if processes == 1:
        return None
    apart = shards >= processes and not config.counted
    remedy = f"; in a run with data.lanes={processes} each would read files of its own" if apart else ""
    return f"each of {processes} processes reads the whole stream{remedy}"


class Position(NamedTuple):
    """The position of reading in a lane."""

    marks: list[Mark]
    """Where reading can start: the windows at hand, with the ids that were read ahead of them."""
    ledger: dict[str, Any]


Positions: TypeAlias = dict[int, Position]
"""Positions by the number of the lane."""


class Lane:
    """Rows of some of the shards, read in order as they are asked for."""

    def __init__(self, reader: StreamReader) -> None:
        self.shards = reader.shards
        self._reader = reader
        self._marks = [Mark()]
        """Marks at which reading can start, in order."""
        self._windows: deque[Window] = deque(maxlen=2)  # two, since processes and prefetching are not in step
        self._coming: Iterator[Window] | None = None

    @property
    def ledger(self) -> Ledger:
        """The account of the first pass, as far as it has been read."""
        return self._reader.ledger

    @property
    def is_read(self) -> bool:
        """True once this process has read rows of it."""
        return bool(self._windows)

    def leave_out(self, goldfish: Goldfish) -> None:
        """Leave the targets that it chooses out of the loss. Called before anything is read."""
        self._reader.goldfish = goldfish

    def check_text(self) -> None:
        """Raise DataError where there is none to train on; nothing is begun."""
        self._reader.check_text()

    def load_window(self, row: int) -> Window:
        """The window of a row: reads on to it, or again from the last mark before it."""
        if self._coming is None or (self._windows and row < self._windows[0].mark.row):
            self._windows.clear()
            before = (mark for mark in self._marks if mark.row <= row)
            self._coming = self._reader.read(max(before, key=lambda mark: mark.row))
        while not self._windows or row >= self._windows[-1].end:
            self._windows.append(next(self._coming))
        return next(window for window in self._windows if window.mark.row <= row < window.end)

    @property
    def position(self) -> Position:
        """Where it stands: read by this process, or as go_on was told."""
        marks = [window.mark for window in self._windows] or self._marks[1:]
        return Position(marks, self.ledger.as_dict())

    def go_on(self, position: Position) -> None:
        """Continue reading at a position."""
        self.ledger.restore(position.ledger)
        self._marks = [Mark(), *position.marks]
        self._windows.clear()
        self._coming = None
