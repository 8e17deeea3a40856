"""Text that is encoded while it is trained on, for what does not fit on the disk twice.

Nothing is kept but a window of rows of each lane. A position in a lane is (pass, shard, document, window), written beside each
checkpoint, so that a resumed run reads on where it stopped; without it the stream is read again from its start, to the
same rows. Order is a pure function of `seed=`, and what is held out one of `data.seed=`: each pass takes the shards of a lane in
an order of its own, and shuffles the rows of each window of data.shuffle_blocks; with data.shuffle_blocks=1 rows of a lane come
as the source has them, and those of a single lane equal the rows of the same data without streaming. Held-out documents come from
the start of the source.
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmtune.data.blocks import Batch, TrainingRows, build_batch
from lmtune.data.columns import hash_texts
from lmtune.data.goldfish import Goldfish
from lmtune.data.lanes import Lane, Position, Positions, deal_shards, find_lane
from lmtune.data.ledger import Ledger
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.prepared import Prepared
from lmtune.data.stream_reader import Mark, Place, StreamedText, StreamReader
from lmtune.errors import ConfigError

POSITION = "stream.npz"
"""Beside a checkpoint: where the stream stood."""
ARRAYS = ("rest", "before")
"""Of a mark, written beside its numbers."""


def prepare_stream(encoded: EncodedCorpus, block_size: int) -> Prepared:
    """Rows that are encoded when they are asked for, and streams of the held-out splits."""
    encoded.check_overlap(block_size)
    corpus, encoder, held = encoded.corpus, encoded.encoder, encoded.load_held_out()
    ledger = copy.deepcopy(corpus.ledger)
    ledger.split_by, ledger.block_size = held.split_by, block_size
    for split in corpus.kept_apart:
        if split in held.streams:
            ledger.sides[split].add(held.streams[split].documents, len(encoder.opening))
    return Prepared(
        blocks=StreamedBlocks(
            open_lanes(encoded, ledger, block_size),
            ledger,
            encoder.separator if corpus.config.isolate_documents else None,
        ),
        held_out=held.streams,
        ledger=ledger,
        facts={"encoder": encoder.name, **encoded.identify()},
    )


def open_lanes(encoded: EncodedCorpus, ledger: Ledger, block_size: int) -> list[Lane]:
    """The lanes of a text. ledger: of what was read before; that of a single lane goes on in it, several have their own."""
    corpus, count = encoded.corpus, encoded.corpus.config.lanes
    hashes = [hash_texts(texts, seed=0) for split in corpus.kept_apart for texts in corpus.split.held_out[split]]
    kept_apart, seed = np.concatenate([np.empty(0, np.uint64), *hashes]), corpus.order_seed
    lanes = []
    for number, shards in enumerate(deal_shards(corpus.source.count_shards("train"), count, seed)):
        seeds = (seed,) if count == 1 else (seed, number)
        text = StreamedText(
            corpus.config, corpus.source, corpus.assigner, encoded.encoder, kept_apart, shards, order_seeds=seeds
        )
        own = ledger if count == 1 else ledger.open_part(shards)
        lanes.append(Lane(StreamReader(text, own, block_size, encoded.dtype)))
    return lanes


class StreamedBlocks(TrainingRows):
    """As many rows as a run takes, read as they are asked for, in order.

    lanes: see open_lanes. ledger: gets the account of all lanes. separator: with it, positions start anew after each one; see
    build_batch.
    """

    def __init__(self, lanes: list[Lane], ledger: Ledger, separator: int | None) -> None:
        self.block_size = ledger.block_size
        self.lanes = lanes
        self._ledger = ledger
        if len(lanes) > 1:
            ledger.lanes = 0
        self._before = ledger.as_dict()
        self._separator = separator
        self._length = 0
        self._rows_per_batch = 1
        """Of one process."""

    def set_batch_shape(self, rows_per_batch: int, batches: int, processes: int = 1) -> None:
        self._length = rows_per_batch * batches
        self._rows_per_batch = rows_per_batch // processes

    def leave_out(self, goldfish: Goldfish) -> None:
        for lane in self.lanes:
            lane.leave_out(goldfish)

    def build_sampler(self, seed: int) -> Iterable[int]:
        from torch.utils.data import SequentialSampler

        return SequentialSampler(self)

    def __len__(self) -> int:
        return self._length

    def __getitems__(self, indices: list[int]) -> Batch:
        places = [find_lane(index, self._rows_per_batch, len(self.lanes)) for index in indices]
        found = [(self.lanes[lane].load_window(row), row) for lane, row in places]
        rows, first, last = (
            np.stack([getattr(window, name)[row - window.mark.row] for window, row in found])
            for name in ("rows", "first", "last")
        )
        left_out = [window.left_out[row - window.mark.row] for window, row in found if window.left_out is not None]
        return build_batch(rows, first, last, self._separator, np.stack(left_out) if left_out else None)

    def collect_positions(self, gather: Callable[[Positions], list[Positions]]) -> None:
        if len(self.lanes) == 1:
            return  # every process reads it, and knows where it stands
        own = {number: lane.position for number, lane in enumerate(self.lanes) if lane.is_read}
        for others in gather(own)[1:]:
            for number, position in others.items():
                self.lanes[number].go_on(position)
        self._join_ledgers()

    def _join_ledgers(self) -> None:
        self._ledger.restore(self._before)
        for lane in self.lanes:
            self._ledger.join_part(lane.ledger, lane.shards)

    def save_position(self, folder: Path) -> None:
        """Write where each lane stands, and its ledger."""
        arrays: dict[str, Any] = {"rows_per_batch": np.array(self._rows_per_batch)}
        for number, lane in enumerate(self.lanes):
            arrays |= {self._name(number) + name: array for name, array in _pack(lane.position).items()}
        np.savez(folder / POSITION, **arrays)

    def load_position(self, folder: Path) -> None:
        if not (folder / POSITION).exists():
            return
        with np.load(folder / POSITION, allow_pickle=False) as saved:
            if len(self.lanes) > 1:
                self._check_batch(int(saved["rows_per_batch"]))
            for number, lane in enumerate(self.lanes):
                lane.go_on(_unpack(saved, self._name(number)))

    def _name(self, lane: int) -> str:
        """What the names of the arrays of a lane start with."""
        return f"lane{lane}-" if len(self.lanes) > 1 else ""

    def _check_batch(self, rows: int) -> None:
        """Raise ConfigError where batches have other rows than those that were dealt to lanes before."""
        if rows != self._rows_per_batch:
            raise ConfigError(
                f"data.lanes={len(self.lanes)}: expected batches of {rows} rows, as they were dealt to the lanes before, found "
                f"{self._rows_per_batch}. Give training.per_device_train_batch_size={rows}."
            )


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
