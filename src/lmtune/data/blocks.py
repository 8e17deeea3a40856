"""Rows of fixed size that a model is trained on, memory-mapped.

A row holds block_size + 1 ids: its first block_size are the input, its last block_size the targets. Neighbouring rows
share one id (and data.stride more, which are not learned again), so that every token of the stream but the first is a
target exactly once per epoch; a row of block_size ids has only block_size - 1 targets, and a token is lost at every edge.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

import numpy as np
import pyarrow as pa

from lmtune.data.goldfish import CONTEXT, Goldfish

if TYPE_CHECKING:
    import torch

    from lmtune.data.lanes import Positions

Batch: TypeAlias = "dict[str, torch.Tensor]"

ROWS_AT_ONCE = 8192
READ_AT_ONCE, READ_AGAIN = 1 << 20, 512
"""Tokens of a piece that is read in order, and how many of them the next piece starts with."""
HASHED_AT_ONCE = 1 << 17
"""Tokens: more of them do not stay in a processor's cache, and take twice the time."""
IGNORED = -100
"""Label of a position without a loss (torch's default ignore_index)."""
LEFT_OUT = "left_out"
"""Key of a batch: how many targets of each row training.goldfish has left out, [rows]. The model is not given it."""


def id_type(vocabulary: int) -> np.dtype:
    """The smallest unsigned type that holds every id."""
    return np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)


class RowCutter:
    """Cuts a stream that comes in pieces into rows of block_size + 1 ids, of which neighbours share overlap + 1.

    before: ids that precede the stream; look_back gives as many before each row.
    """

    def __init__(self, block_size: int, overlap: int, dtype: np.dtype, before: np.ndarray | None = None) -> None:
        self.block_size = block_size
        self.overlap = overlap
        self.before = np.empty(0, dtype) if before is None else before.astype(dtype)
        """Ids before the next row."""
        self.rest = np.empty(0, dtype)
        """[tokens] that were added and are not in a full row that was taken; of the next row also its overlap + 1 first ids."""
        self.rows = 0

    def add(self, piece: np.ndarray) -> None:
        """Take in the next piece of the stream."""
        self.rest = np.concatenate([self.rest, piece.astype(self.rest.dtype)])

    def take(self, most: int | None = None) -> np.ndarray:
        """[rows, block_size + 1]: full rows, at most `most`."""
        full = self.full if most is None else min(most, self.full)
        if not full:
            return np.empty((0, self.block_size + 1), self.rest.dtype)
        step = self.block_size - self.overlap
        rows = np.lib.stride_tricks.sliding_window_view(self.rest, self.block_size + 1)[: full * step : step]
        self.before = self.look_back(full + 1)[-1].copy()
        self.rest = self.rest[full * step :]
        self.rows += full
        return rows

    def look_back(self, rows: int) -> np.ndarray:
        """[rows, len(before)]: the ids before each of the next rows, at most one row more than are full."""
        step, size = self.block_size - self.overlap, len(self.before)
        if not size:
            return np.empty((rows, 0), self.rest.dtype)
        line = np.concatenate([self.before, self.rest])
        return np.lib.stride_tricks.sliding_window_view(line, size)[: rows * step : step][:rows]

    @property
    def full(self) -> int:
        """Rows that could be taken now."""
        return max(0, (len(self.rest) - 1 - self.overlap) // (self.block_size - self.overlap))

    @property
    def waiting(self) -> int:
        """Targets that were added and are in no row yet."""
        return max(0, len(self.rest) - 1 - (self.overlap if self.rows else 0))

    def finish(self, fill: int) -> np.ndarray:
        """[0 or 1, block_size + 1]: what is left once all full rows are taken, filled up with `fill`."""
        if not self.waiting:
            return np.empty((0, self.block_size + 1), self.rest.dtype)
        last = np.full((1, self.block_size + 1), fill, self.rest.dtype)
        last[0, : len(self.rest)] = self.rest
        self.rows += 1
        return last


def write_blocks(
    file: Path, ids: Iterable[np.ndarray], block_size: int, dtype: np.dtype, fill: int, overlap: int = 0
) -> tuple[int, int]:
    """Write a stream of ids as rows; return (number of rows, number of targets).

    ids: pieces of the stream, each [tokens]. The last row is filled up with `fill`; `targets` tells how much of it counts.
    """
    kind = pa.list_(pa.from_numpy_dtype(dtype), block_size + 1)
    schema = pa.schema({"ids": kind})
    cutter = RowCutter(block_size, overlap, dtype)
    tokens = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:

        def write(rows: np.ndarray) -> None:
            if len(rows):
                values = pa.array(np.ascontiguousarray(rows).reshape(-1))
                column = pa.FixedSizeListArray.from_arrays(values, type=kind)
                writer.write_batch(pa.record_batch([column], schema=schema))

        for piece in ids:
            tokens += len(piece)
            cutter.add(piece)
            write(cutter.take())
        write(cutter.finish(fill))
    return cutter.rows, max(0, tokens - 1)


def write_padded(
    file: Path,
    pieces: Iterable[tuple[np.ndarray, np.ndarray]],
    block_size: int,
    dtype: np.dtype,
    separator: int,
    opening: int = 0,
) -> tuple[int, int]:
    """Write each document in rows of its own, filled up with the separator; return (number of rows, number of targets).

    pieces: (ids, documents) as EncodedCorpus.encode_batches yields them. A row starts with the id before its first target,
    a separator where a document starts, so that all of its tokens are targets; a document longer than a row goes on in the
    next.
    opening: tokens that open each document, such as a BOS. The first of them then stands in place of that separator.
    """
    kind = pa.list_(pa.from_numpy_dtype(dtype), block_size + 1)
    schema = pa.schema({"ids": kind, "learned": pa.uint32()})
    count = targets = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for ids, documents in pieces:
            starts, learned = _cut_documents(documents["tokens"], block_size, opened=opening > 0)
            stream = np.concatenate([[separator], ids, np.full(block_size, separator)]).astype(dtype)
            for start in range(0, len(starts), ROWS_AT_ONCE):
                chunk, size = starts[start : start + ROWS_AT_ONCE, None], learned[start : start + ROWS_AT_ONCE]
                places = np.arange(block_size + 1)
                rows = np.where(places <= size[:, None], stream[chunk + places], dtype.type(separator))
                column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=kind)
                writer.write_batch(pa.record_batch([column, pa.array(size.astype(np.uint32))], schema=schema))
            count, targets = count + len(starts), targets + int(learned.sum())
    return count, targets


def _cut_documents(tokens: np.ndarray, block_size: int, opened: bool) -> tuple[np.ndarray, np.ndarray]:
    """(starts, learned), [rows] each: position of the first target, and number of targets. tokens: [documents] of each.

    opened: the first token of a document is no target.
    """
    targets = tokens - opened
    rows = -(-targets // block_size)
    numbers = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    starts = np.repeat(np.cumsum(tokens) - targets, rows) + numbers * block_size
    return starts, np.minimum(block_size, np.repeat(targets, rows) - numbers * block_size)


class TrainingRows(ABC):
    """A torch dataset that hands out whole batches of ready tensors: no Python list of a row is ever made."""

    block_size: int

    @abstractmethod
    def __len__(self) -> int:
        """Rows of an epoch, or of a whole run where rows are streamed."""

    @abstractmethod
    def __getitems__(self, indices: list[int]) -> "Batch":
        """A batch of rows; see build_batch."""

    def __getitem__(self, index: int) -> "Batch":
        return {name: column[0] for name, column in self.__getitems__([index]).items()}

    @abstractmethod
    def set_batch_shape(self, rows_per_batch: int, batches: int, processes: int = 1) -> None:
        """Set the rows of a batch, over all processes, and how many batches a run takes if that is fixed (else -1)."""

    @abstractmethod
    def leave_out(self, goldfish: Goldfish) -> None:
        """Leave the targets that it chooses out of the loss; batches count them, see LEFT_OUT."""

    def check_start(self, process: int, processes: int) -> None:  # noqa: B027  rows on disk are at hand
        """Raise DataError where this process has nothing to train on in what it is to read; nothing is begun."""

    def build_sampler(self, seed: int) -> Iterable[int] | None:
        """The order of rows; None for Trainer's own, a new permutation for each epoch."""
        return None

    def collect_positions(self, gather: "Callable[[Positions], list[Positions]]") -> None:  # noqa: B027
        """Tell process 0 where each process reads. All call it. gather: gives the values of all ranks, on process 0 alone."""

    def close_ledger(self) -> None:  # noqa: B027
        """Enter into the ledger what is known only at the end; on process 0, after collect_positions."""

    def save_position(self, folder: Path) -> None:  # noqa: B027  rows on disk need nothing
        """Write what is needed to go on from here into the folder of a checkpoint."""

    def load_position(self, folder: Path) -> None:  # noqa: B027
        """Go on from what save_position wrote; where it wrote nothing, from the start."""


class StoredRows(TrainingRows):
    """Rows that all lie on disk, and can be read in order."""

    @abstractmethod
    def read(self) -> Iterator[np.ndarray]:
        """The text as pieces of [tokens]; each starts with the last READ_AGAIN tokens of the one before."""


class RowTable(Protocol):
    """Rows by their numbers; see LineRows and datasets.Dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: "slice | np.ndarray") -> dict[str, np.ndarray]: ...


class Blocks(StoredRows):
    """Rows on disk, followed by empty ones up to a multiple of a batch, whose targets are all ignored.

    rows: with the column `ids` of block_size + 1 ids.
    targets: number of trained positions over all rows; what is beyond them in the last row is padding.
    separator: with it, positions restart at 0 after each one, so that documents do not attend to each other.
    overlap: ids at the start of a row that the row before ends with, seen again and not learned again.
    """

    def __init__(
        self, rows: RowTable, block_size: int, targets: int, separator: int | None = None, overlap: int = 0
    ) -> None:
        self.rows = rows
        self.block_size = block_size
        self.targets = targets
        self.separator = separator
        self.overlap = overlap
        self.goldfish: Goldfish | None = None
        self._multiple = 1

    @classmethod
    def load(cls, file: Path, block_size: int, targets: int, separator: int | None = None, overlap: int = 0) -> Self:
        """Memory-map rows written by write_blocks."""
        import datasets

        rows = datasets.Dataset.from_file(str(file)).with_format("numpy")
        return cls(rows, block_size, targets, separator, overlap)

    def read(self) -> Iterator[np.ndarray]:
        step = self.block_size - self.overlap
        rows = max(1, READ_AT_ONCE // step)
        tail = np.empty(0, np.int64)
        for start in range(0, len(self.rows), rows):
            ids = np.asarray(self.rows[start : start + rows]["ids"])
            piece = np.concatenate([tail, self._lay_out(ids, step)])
            yield piece
            tail = piece[-READ_AGAIN:]

    def _lay_out(self, ids: np.ndarray, step: int) -> np.ndarray:
        """[tokens]: rows end to end, ids that neighbours share only once."""
        return np.concatenate([ids[:, :step].reshape(-1), ids[-1, step:]])

    def set_batch_shape(self, rows_per_batch: int, batches: int, processes: int = 1) -> None:
        self._multiple = rows_per_batch

    def leave_out(self, goldfish: Goldfish) -> None:
        self.goldfish = goldfish

    def __len__(self) -> int:
        return -(-len(self.rows) // self._multiple) * self._multiple

    def count_targets(self, indices: Sequence[int]) -> int:
        """Tokens that these rows learn."""
        first, last = self._learned_places(np.asarray(indices))
        left_out = self.count_left_out(indices) if self.goldfish is not None else 0
        return int(np.maximum(0, np.minimum(last, self.block_size) - first).sum()) - left_out

    def count_left_out(self, indices: Sequence[int]) -> int:
        """Targets of these rows that training.goldfish leaves out."""
        total, at_once = 0, max(1, HASHED_AT_ONCE // self.block_size)
        for start in range(0, len(indices), at_once):
            numbers = np.asarray(indices[start : start + at_once])
            numbers = numbers[numbers < len(self.rows)]
            chosen = self._choose(numbers, np.asarray(self.rows[numbers]["ids"])) if len(numbers) else None
            if chosen is not None:
                total += int((chosen & find_learned(self.block_size, *self._learned_places(numbers))).sum())
        return total

    def _learned_places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first target of each row that is learned, and the one behind the last."""
        step = self.block_size - self.overlap
        return np.where(numbers > 0, self.overlap, 0), self.targets - numbers * step

    def __getitems__(self, indices: list[int]) -> "Batch":
        numbers = np.asarray(indices)
        stored = np.minimum(numbers, len(self.rows) - 1)  # an empty row looks like the last one, with no target
        first, last = self._learned_places(numbers)
        ids = np.asarray(self.rows[stored]["ids"])
        return build_batch(ids, first, last, self.separator, self._choose(stored, ids))

    def _choose(self, numbers: np.ndarray, ids: np.ndarray) -> np.ndarray | None:
        """[rows, block_size] bool: the targets that are left out of these rows; None where none ever are."""
        if self.goldfish is None:
            return None
        before = self._load_before(numbers, ids, self.goldfish.separator)
        return self.goldfish.choose(np.concatenate([before, ids], axis=1))

    def _load_before(self, numbers: np.ndarray, ids: np.ndarray, separator: int) -> np.ndarray:
        """[rows, CONTEXT]: the ids of the text before these rows; separators before its first."""
        step = self.block_size - self.overlap
        places = numbers[:, None] * step + np.arange(-CONTEXT, 0)
        return np.where(places < 0, separator, self._gather(np.maximum(places, 0), step, column=0))

    def _gather(self, places: np.ndarray, step: int, column: int) -> np.ndarray:
        """Ids by their places in a text of which each row has `step`, from `column` on."""
        owners, columns = np.divmod(places, step)
        needed, back = np.unique(owners, return_inverse=True)
        return np.asarray(np.asarray(self.rows[needed]["ids"])[back.reshape(owners.shape), columns + column])


class PaddedBlocks(Blocks):
    """Rows on disk that hold one document each, as write_padded writes them; they need no separator."""

    def _lay_out(self, ids: np.ndarray, step: int) -> np.ndarray:
        return ids[:, 1:].reshape(-1)

    def _load_before(self, numbers: np.ndarray, ids: np.ndarray, separator: int) -> np.ndarray:
        # A row goes on with the document of the one before it where it starts with the last id of that, which ends no document.
        # An id that opens documents is no target here: in rows of fewer than CONTEXT ids it is missed in later ones.
        places = numbers[:, None] * self.block_size + np.arange(-CONTEXT - 1, 0)
        before = np.where(places < 0, separator, self._gather(np.maximum(places, 0), self.block_size, column=1))
        goes_on = (before[:, -1:] == ids[:, :1]) & (before[:, -1:] != separator)
        return np.where(goes_on, before[:, :-1], separator)

    def _learned_places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stored = self.rows[np.minimum(numbers, len(self.rows) - 1)]["learned"]
        learned = np.where(numbers < len(self.rows), np.asarray(stored).astype(np.int64), -1)
        return np.zeros_like(learned), learned


def find_learned(block_size: int, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """[rows, block_size] bool: True for the targets from number `first` up to and without `last`, [rows] each."""
    places = np.arange(block_size)
    return np.asarray((places >= first[:, None]) & (places < last[:, None]))


def build_batch(
    rows: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    separator: int | None,
    left_out: np.ndarray | None = None,
) -> "Batch":
    """Rows as a batch: input_ids, labels and shift_labels, each [rows, block_size] int64.

    rows: [rows, block_size + 1] ids; of each the targets from number `first` up to and without `last` are learned.
    shift_labels are the targets. Losses of transformers use them as they are and leave labels aside, which other models
    shift by one themselves. With a separator, position_ids come with them: transformers then builds the mask from their
    resets, provided that no attention_mask is given and use_cache is off.
    left_out: [rows, block_size] bool, of targets that have no loss either; how many of each row would have been learned then
    stands in the batch as LEFT_OUT.
    """
    import torch

    ids = rows.astype(np.int64)
    inputs, targets = ids[:, :-1], ids[:, 1:].copy()
    labels = inputs.copy()
    learned, places = find_learned(inputs.shape[1], first, last), np.arange(inputs.shape[1])
    first, last = first[:, None], last[:, None]
    targets[~learned] = IGNORED
    labels[(places > last) | ((places <= first) & (first > 0))] = IGNORED
    batch = {"input_ids": inputs, "labels": labels, "shift_labels": targets}
    if left_out is not None:
        targets[left_out] = IGNORED
        labels[:, 1:][left_out[:, :-1]] = IGNORED
        batch[LEFT_OUT] = (left_out & learned).sum(axis=1)
    if separator is not None:
        batch["position_ids"] = positions_in_documents(inputs, separator)
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


def positions_in_documents(ids: np.ndarray, separator: int) -> np.ndarray:
    """[rows, positions] int64: the distance of each position from the start of its document, or of its row.

    ids: [rows, positions].
    """
    places = np.arange(ids.shape[1])
    starts = np.zeros(ids.shape, dtype=np.int64)
    starts[:, 1:] = np.where(ids[:, :-1] == separator, places[1:], 0)
    return places - np.maximum.accumulate(starts, axis=1)


def join_batches(batches: Sequence["Batch"], places: Sequence[np.ndarray]) -> "Batch":
    """One batch of several. places: of each, [rows] where its rows stand in the whole."""
    import torch

    back = torch.from_numpy(np.argsort(np.concatenate(places)))
    return {name: torch.cat([batch[name] for batch in batches])[back] for name in batches[0]}


def collate(batch: "Batch") -> "Batch":
    """The data collator of TrainingRows, which hand out batches already."""
    return batch
