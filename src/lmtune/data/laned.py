"""The texts that a stream of rows comes from: each is read lane by lane as it is trained on, or lies on disk as a whole.

A row is known by its lane and its number there, (lane, row). Rows of a text on disk are dealt to the lanes one by one.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lmtune.data.blocks import Batch, Blocks, build_batch
from lmtune.data.goldfish import Goldfish
from lmtune.data.lanes import Lane, Position, Positions
from lmtune.data.ledger import Ledger
from lmtune.data.stream_reader import Mark, Place
from lmtune.data.turns import draw_rows

Gather = Callable[[Positions], list[Positions]]
"""The positions of all processes by rank, on process 0."""

ARRAYS = ("rest", "before")
"""Arrays of a mark, written beside its numbers."""


class LanedText(ABC):
    """Rows of one text, of each lane an endless sequence.

    ledger: the account of the text.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @abstractmethod
    def load(self, places: Sequence[tuple[int, int]]) -> Batch:
        """Rows by (lane, row); see build_batch."""

    @abstractmethod
    def leave_out(self, goldfish: Goldfish) -> None:
        """See TrainingRows. Called before anything is read."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """How much there is of it, as far as that is known before it is read."""

    def check_text(self, lane: int) -> None:  # noqa: B027  what lies on disk has rows
        """Raise DataError for a lane without text to train on; nothing is begun."""

    def read_to(self, lane: int, row: int) -> None:  # noqa: B027  rows on disk are at hand
        """Read a lane on to a row, as every process does whose batches come from that lane."""

    def collect_positions(self, gather: Gather) -> None:  # noqa: B027
        """See TrainingRows."""

    def pack(self) -> dict[str, np.ndarray]:
        """The position as arrays by name."""
        return {}

    def go_on(self, arrays: Mapping[str, np.ndarray], start: str) -> None:  # noqa: B027
        """Go on from what pack gave. start: what has been put before its names."""


class LanedStore(LanedText):
    """Rows on disk, which come in one permutation after another. seeds: of the permutations."""

    def __init__(self, blocks: Blocks, ledger: Ledger, lanes: int, seeds: tuple[int, ...]) -> None:
        super().__init__(ledger)
        self._blocks = blocks
        self._lanes = lanes
        self._seeds = seeds

    def load(self, places: Sequence[tuple[int, int]]) -> Batch:
        numbers = (row * self._lanes + lane for lane, row in places)
        return self._blocks.__getitems__(draw_rows(numbers, len(self._blocks.rows), *self._seeds))

    def leave_out(self, goldfish: Goldfish) -> None:
        self._blocks.leave_out(goldfish)
        self.ledger.targets_left_out = self._blocks.count_left_out(range(len(self._blocks.rows)))

    def describe(self) -> dict[str, Any]:
        return {"blocks": len(self._blocks.rows)}


class LanedStream(LanedText):
    """Rows that are read and encoded when they are asked for.

    lanes: see open_lanes. ledger: gets the account of all lanes. separator: with it, positions start anew after each one; see
    build_batch.
    """

    def __init__(self, lanes: list[Lane], ledger: Ledger, separator: int | None) -> None:
        super().__init__(ledger)
        self.lanes = lanes
        if len(lanes) > 1:
            ledger.lanes = 0
        self._before = ledger.as_dict()
        self._separator = separator

    def load(self, places: Sequence[tuple[int, int]]) -> Batch:
        found = [(self.lanes[lane].load_window(row), row) for lane, row in places]
        rows, first, last = (
            np.stack([getattr(window, name)[row - window.mark.row] for window, row in found])
            for name in ("rows", "first", "last")
        )
        left_out = [window.left_out[row - window.mark.row] for window, row in found if window.left_out is not None]
        return build_batch(rows, first, last, self._separator, np.stack(left_out) if left_out else None)

    def leave_out(self, goldfish: Goldfish) -> None:
        for lane in self.lanes:
            lane.leave_out(goldfish)

    def describe(self) -> dict[str, Any]:
        return {}

    def check_text(self, lane: int) -> None:
        self.lanes[lane].check_text()

    def read_to(self, lane: int, row: int) -> None:
        self.lanes[lane].load_window(row)

    def collect_positions(self, gather: Gather) -> None:
        if len(self.lanes) == 1:
            return  # every process reads it, and knows where it stands
        own = {number: lane.position for number, lane in enumerate(self.lanes) if lane.is_read}
        for others in gather(own)[1:]:
            for number, position in others.items():
                self.lanes[number].go_on(position)
        self._join_ledgers()

    def _join_ledgers(self) -> None:
        self.ledger.restore(self._before)
        for lane in self.lanes:
            self.ledger.join_part(lane.ledger, lane.shards)

    def pack(self) -> dict[str, np.ndarray]:
        return {
            self._name(number) + name: array
            for number, lane in enumerate(self.lanes)
            for name, array in _pack(lane.position).items()
        }

    def go_on(self, arrays: Mapping[str, np.ndarray], start: str) -> None:
        for number, lane in enumerate(self.lanes):
            lane.go_on(_unpack(arrays, start + self._name(number)))

    def _name(self, lane: int) -> str:
        """What the names of the arrays of a lane start with."""
        return f"lane{lane}-" if len(self.lanes) > 1 else ""


def _pack(position: Position) -> dict[str, np.ndarray]:
    """A position as arrays by name."""
    record = [{**mark._asdict(), "place": mark.place._asdict(), **dict.fromkeys(ARRAYS)} for mark in position.marks]
    rests = {f"{name}{number}": getattr(mark, name) for number, mark in enumerate(position.marks) for name in ARRAYS}
    return {**rests, "marks": np.array(json.dumps(record)), "ledger": np.array(json.dumps(position.ledger))}


def _unpack(arrays: Mapping[str, np.ndarray], start: str) -> Position:
    """The position that _pack has made arrays of. start: of their names."""
    marks = [
        Mark(**{**mark, "place": Place(**mark["place"]), **_unpack_arrays(arrays, start, number)})
        for number, mark in enumerate(json.loads(str(arrays[f"{start}marks"])))
    ]
    return Position(marks, json.loads(str(arrays[f"{start}ledger"])))


def _unpack_arrays(arrays: Mapping[str, np.ndarray], start: str, number: int) -> dict[str, np.ndarray]:
    """The arrays of one mark. A version without training.goldfish has written no more than the first."""
    named = {name: f"{start}{name}{number}" for name in ARRAYS}
    return {name: arrays[key] for name, key in named.items() if key in arrays}
