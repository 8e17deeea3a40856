"""Text that is encoded while it is trained on, for what does not fit on the disk twice.

Nothing is kept but a window of rows of each lane. A position in a lane is (pass, shard, document, window), written beside each
checkpoint, so that a resumed run reads on where it stopped; without it the stream is read again from its start, to the
same rows. Order is a pure function of `seed=`, and what is held out one of `data.seed=`: each pass takes the shards of a lane in
an order of its own, and shuffles the rows of each window of data.shuffle_blocks; with data.shuffle_blocks=1 rows of a lane come
as the source has them, and those of a single lane equal the rows of the same data without streaming. Held-out documents come from
the start of the source.

Of several sources (data.mix) each is read so, by itself, and in each lane they take turns.
"""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmtune.data.blocks import Batch, TrainingRows, join_batches
from lmtune.data.columns import hash_texts
from lmtune.data.goldfish import Goldfish
from lmtune.data.laned import Gather, LanedStream, LanedText
from lmtune.data.lanes import Lane, deal_shards, find_lane
from lmtune.data.ledger import Ledger
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.prepared import Prepared
from lmtune.data.stream_reader import StreamedText, StreamReader
from lmtune.data.turns import Turns
from lmtune.errors import ConfigError

POSITION = "stream.npz"
"""Beside a checkpoint: where the stream stood."""


def prepare_stream(encoded: EncodedCorpus, block_size: int) -> Prepared:
    """Rows that are encoded when they are asked for, and streams of the held-out splits."""
    encoded.check_overlap(block_size)
    corpus, encoder, held = encoded.corpus, encoded.encoder, encoded.load_held_out()
    ledger = copy.deepcopy(corpus.ledger)
    ledger.split_by, ledger.block_size = held.split_by, block_size
    for split in corpus.kept_apart:
        if split in held.streams:
            ledger.sides[split].add(held.streams[split].documents, len(encoder.opening))
    separator = encoder.separator if corpus.config.isolate_documents else None
    text = LanedStream(open_lanes(encoded, ledger, block_size), ledger, separator)
    return Prepared(
        blocks=StreamedBlocks([Source(corpus.config.name, 1.0, text)], corpus.config.lanes),
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
    source = corpus.source
    for number, shards in enumerate(deal_shards(source.count_shards("train"), count, seed, source.find_empty("train"))):
        seeds = (seed,) if count == 1 else (seed, number)
        text = StreamedText(
            corpus.config, source, corpus.assigner, encoded.encoder, kept_apart, corpus.left_out, shards, seeds
        )
        own = ledger if count == 1 else ledger.open_part(shards)
        lanes.append(Lane(StreamReader(text, own, block_size, encoded.dtype)))
    return lanes


class Source(NamedTuple):
    """A text that rows come from."""

    name: str
    weight: float
    text: LanedText


class StreamedBlocks(TrainingRows):
    """As many rows as a run takes, read as they are asked for, in order.

    sources: that of data= first, whose ledger tells of the others too; in each lane they take turns by their weights. lanes: of
    each of them.
    """

    def __init__(self, sources: Sequence[Source], lanes: int) -> None:
        self.sources = sources
        self.block_size = sources[0].text.ledger.block_size
        self._lanes = lanes
        self._turns = Turns([source.weight for source in sources], lanes)
        self._length = 0
        self._rows_per_batch = 1
        """Rows in a batch of one process."""

    def set_batch_shape(self, rows_per_batch: int, batches: int, processes: int = 1) -> None:
        self._length = rows_per_batch * batches
        self._rows_per_batch = rows_per_batch // processes
        if len(self.sources) > 1:
            self._ledger.mix = {
                name: {"weight": weight, **text.describe(), "blocks_per_run": taken}
                for (name, weight, text), taken in zip(self.sources, self.rows_per_run, strict=True)
            }

    @property
    def _ledger(self) -> Ledger:
        return self.sources[0].text.ledger

    @property
    def rows_per_run(self) -> list[int]:
        """Rows that the run takes of each source."""
        return [sum(taken) for taken in zip(*self._rows_per_lane, strict=True)]

    @property
    def _rows_per_lane(self) -> list[list[int]]:
        """[lanes][sources] rows that the run takes."""
        batches = range(self._length // self._rows_per_batch)
        rows = [len(batches[lane :: self._lanes]) * self._rows_per_batch for lane in range(self._lanes)]
        return list(map(self._turns.count, range(self._lanes), rows))

    def leave_out(self, goldfish: Goldfish) -> None:
        for source in self.sources:
            source.text.leave_out(goldfish)

    def check_start(self, process: int, processes: int) -> None:
        for lane, taken in enumerate(self._rows_per_lane):
            if self._lanes > 1 and lane % processes != process:
                continue
            for (_, _, text), rows in zip(self.sources, taken, strict=True):
                if rows:
                    text.check_text(lane)

    def build_sampler(self, seed: int) -> Iterable[int]:
        from torch.utils.data import SequentialSampler

        return SequentialSampler(self)

    def __len__(self) -> int:
        return self._length

    def __getitems__(self, indices: list[int]) -> Batch:
        places = [find_lane(index, self._rows_per_batch, self._lanes) for index in indices]
        found = [(lane, *self._turns.find(lane, row)) for lane, row in places]
        numbers = np.array([source for _, source, _ in found])
        batches, order = [], []
        for source in np.unique(numbers):
            order.append(np.flatnonzero(numbers == source))
            rows = [(found[place][0], found[place][2]) for place in order[-1]]
            batches.append(self.sources[source].text.load(rows))
        self._keep_pace(dict(places))
        return join_batches(batches, order)

    def _keep_pace(self, last: dict[int, int]) -> None:
        """Read all sources on to where they stand after these rows, by lane, whatever rows of them this process has taken.

        So where a source stands, and what of it is accounted for, follows from how far the run has come.
        """
        for lane, row in last.items():
            for (_, _, text), rows in zip(self.sources, self._turns.count(lane, row + 1), strict=True):
                if rows:
                    text.read_to(lane, rows - 1)

    def collect_positions(self, gather: Gather) -> None:
        for source in self.sources:
            source.text.collect_positions(gather)

    def close_ledger(self) -> None:
        for name, _, text in self.sources[1:]:
            self._ledger.mix[name]["ledger"] = text.ledger.as_dict()

    def save_position(self, folder: Path) -> None:
        """Write where each lane of each source stands, and its ledger."""
        arrays = {"rows_per_batch": np.array(self._rows_per_batch)}
        for number, source in enumerate(self.sources):
            arrays |= {self._name(number) + name: array for name, array in source.text.pack().items()}
        np.savez(folder / POSITION, **arrays)  # type: ignore[arg-type]  # names of arrays are no settings of savez

    def load_position(self, folder: Path) -> None:
        if not (folder / POSITION).exists():
            return
        with np.load(folder / POSITION, allow_pickle=False) as saved:
            if self._lanes > 1:
                self._check_batch(int(saved["rows_per_batch"]))
            for number, source in enumerate(self.sources):
                source.text.go_on(saved, self._name(number))

    def _name(self, source: int) -> str:
        """What the names of the arrays of a source start with."""
        return f"source{source}-" if len(self.sources) > 1 else ""

    def _check_batch(self, rows: int) -> None:
        """Raise ConfigError where batches have other rows than those that were dealt to lanes before."""
        if rows != self._rows_per_batch:
            raise ConfigError(
                f"data.lanes={self._lanes}: expected batches of {rows} rows, as they were dealt to the lanes before, found "
                f"{self._rows_per_batch}. Give training.per_device_train_batch_size={rows}."
            )
