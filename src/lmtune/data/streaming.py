"""Text that is encoded while it is trained on, for what does not fit on the disk twice.

Nothing is kept but a window of rows. A position in the stream is (pass, shard, document, window), written beside each
checkpoint, so that a resumed run reads on where it stopped; without it the stream is read again from its start, to the
same rows. Order is a pure function of `seed=`, and what is held out one of `data.seed=`: each pass takes the shards in an
order of its own, and shuffles the rows of each window of data.shuffle_blocks; with data.shuffle_blocks=1 rows come as the
source has them, and equal those of the same data without streaming. Held-out documents come from the start of the source.
"""

import copy
import json
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lmtune.data.blocks import Batch, TrainingRows, build_batch
from lmtune.data.columns import hash_texts
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.prepared import Prepared
from lmtune.data.stream_reader import Mark, Place, StreamedText, StreamReader, Window

POSITION = "stream.npz"
"""Beside a checkpoint: where the stream stood."""


def prepare_stream(encoded: EncodedCorpus, block_size: int) -> Prepared:
    """Rows that are encoded when they are asked for, and streams of the held-out splits."""
    encoded.check_overlap(block_size)
    corpus, encoder, held = encoded.corpus, encoded.encoder, encoded.load_held_out()
    ledger = copy.deepcopy(corpus.ledger)
    ledger.split_by, ledger.block_size = held.split_by, block_size
    hashes = [np.empty(0, np.uint64)]
    for split in corpus.kept_apart:
        if split in held.streams:
            ledger.sides[split].add(held.streams[split].documents, len(encoder.opening))
        hashes += [hash_texts(texts, seed=0) for texts in corpus.split.held_out[split]]
    text = StreamedText(
        corpus.config, corpus.source, corpus.assigner, encoder, np.concatenate(hashes), corpus.order_seed
    )
    reader = StreamReader(text, ledger, block_size, encoded.dtype)
    return Prepared(
        blocks=StreamedBlocks(reader, encoder.separator if corpus.config.isolate_documents else None),
        held_out=held.streams,
        ledger=ledger,
        facts={"encoder": encoder.name, **encoded.identify()},
    )


class StreamedBlocks(TrainingRows):
    """As many rows as a run takes, read as they are asked for, in order.

    separator: with it, positions start anew after each one; see build_batch.
    """

    def __init__(self, reader: StreamReader, separator: int | None) -> None:
        self.block_size = reader.block_size
        self._reader = reader
        self._separator = separator
        self._length = 0
        self._marks = [Mark()]
        """Where reading can start, in order."""
        self._windows: deque[Window] = deque(maxlen=2)  # two, since processes and prefetching are not in step
        self._coming: Iterator[Window] | None = None

    def set_batch_shape(self, rows_per_batch: int, batches: int) -> None:
        self._length = rows_per_batch * batches

    def build_sampler(self, seed: int) -> Iterable[int]:
        from torch.utils.data import SequentialSampler

        return SequentialSampler(self)

    def __len__(self) -> int:
        return self._length

    def __getitems__(self, indices: list[int]) -> Batch:
        found = [(self._load_window(index), index) for index in indices]
        rows, first, last = (
            np.stack([getattr(window, name)[index - window.mark.row] for window, index in found])
            for name in ("rows", "first", "last")
        )
        return build_batch(rows, first, last, self._separator)

    def _load_window(self, index: int) -> Window:
        """The window of a row: reads on to it, or again from the last mark before it."""
        if self._coming is None or (self._windows and index < self._windows[0].mark.row):
            self._windows.clear()
            before = (mark for mark in self._marks if mark.row <= index)
            self._coming = self._reader.read(max(before, key=lambda mark: mark.row))
        while not self._windows or index >= self._windows[-1].end:
            self._windows.append(next(self._coming))
        return next(window for window in self._windows if window.mark.row <= index < window.end)

    def save_position(self, folder: Path) -> None:
        """Write the marks of the windows at hand, with the ids that were read ahead of them, and the ledger."""
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
