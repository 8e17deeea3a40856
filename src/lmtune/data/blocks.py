"""Rows of fixed size that a model is trained on, memory-mapped.

A row holds block_size + 1 ids: its first block_size are the input, its last block_size the targets. Neighbouring rows
share one id, so that every token of the stream but the first is a target exactly once per epoch; a row of block_size
ids has only block_size - 1 targets, and a token is lost at every edge.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

IGNORED = -100
"""Label of a place that is not learned (torch's default ignore_index)."""


def id_type(vocabulary: int) -> np.dtype:
    """The smallest unsigned type that holds every id."""
    return np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)


def write_blocks(file: Path, ids: Iterable[np.ndarray], block_size: int, dtype: np.dtype, fill: int) -> tuple[int, int]:
    """Write a stream of ids as rows; return (rows, targets).

    ids: pieces of the stream, each [tokens]. The last row is filled up with `fill`; `targets` tells how much of it counts.
    """
    import pyarrow as pa

    kind = pa.list_(pa.from_numpy_dtype(dtype), block_size + 1)
    schema = pa.schema({"ids": kind})
    rest = np.empty(0, dtype)
    rows = targets = 0
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:

        def write(table: np.ndarray) -> None:
            values = pa.array(np.ascontiguousarray(table).reshape(-1))
            writer.write_batch(pa.record_batch([pa.FixedSizeListArray.from_arrays(values, type=kind)], schema=schema))

        for piece in ids:
            rest = np.concatenate([rest, piece.astype(dtype)])
            full = max(0, (len(rest) - 1) // block_size)
            if full:
                write(np.lib.stride_tricks.sliding_window_view(rest, block_size + 1)[: full * block_size : block_size])
                rest = rest[full * block_size :]
                rows, targets = rows + full, targets + full * block_size
        if len(rest) > 1:
            last = np.full(block_size + 1, fill, dtype)
            last[: len(rest)] = rest
            write(last[None])
            rows, targets = rows + 1, targets + len(rest) - 1
    return rows, targets


class Blocks:
    """A torch dataset that hands out whole batches of ready tensors: no Python list of a row is ever made.

    rows: a datasets.Dataset with the column `ids` of block_size + 1 ids.
    targets: places that are learned, over all rows; what is beyond them in the last row is padding.
    separator: with it, positions begin anew behind each one, so that documents do not attend to each other.
    multiple: rows are made up to a multiple of it with empty ones, whose targets are all ignored.
    """

    def __init__(self, rows: Any, block_size: int, targets: int, separator: int | None = None) -> None:
        self.rows = rows.with_format("numpy")
        self.block_size = block_size
        self.targets = targets
        self.separator = separator
        self.multiple = 1

    @classmethod
    def load(cls, file: Path, block_size: int, targets: int, separator: int | None = None) -> "Blocks":
        """Memory-map rows written by write_blocks."""
        import datasets

        return cls(datasets.Dataset.from_file(str(file)), block_size, targets, separator)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.multiple) * self.multiple

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: column[0] for name, column in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        """A batch of rows: input_ids, labels and shift_labels, each [rows, block_size] int64.

        shift_labels are the targets. Losses of transformers use them as they are and leave labels aside, which other
        models shift by one themselves. position_ids come with them where documents are isolated: transformers then
        builds the mask from their resets, provided that no attention_mask is given and use_cache is off.
        """
        import torch

        stored = np.minimum(indices, len(self.rows) - 1)  # an empty row looks like the last one, with no target
        ids = np.asarray(self.rows[stored]["ids"]).astype(np.int64)
        inputs, targets = ids[:, :-1], ids[:, 1:].copy()
        labels = inputs.copy()
        places = np.asarray(indices)[:, None] * self.block_size + np.arange(self.block_size)
        targets[places >= self.targets] = IGNORED
        labels[places > self.targets] = IGNORED
        batch = {"input_ids": inputs, "labels": labels, "shift_labels": targets}
        if self.separator is not None:
            batch["position_ids"] = positions_in_documents(inputs, self.separator)
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


def positions_in_documents(ids: np.ndarray, separator: int) -> np.ndarray:
    """[rows, places]: the distance of each place from the begin of its document, or of its row."""
    places = np.arange(ids.shape[1])
    begins = np.zeros(ids.shape, dtype=np.int64)
    begins[:, 1:] = np.where(ids[:, :-1] == separator, places[1:], 0)
    return places - np.maximum.accumulate(begins, axis=1)


def collate(batch: Any) -> Any:
    """Blocks hand out batches already."""
    return batch
