"""Rows of ids that lie end to end in several files, memory-mapped: what parts of a text wrote is read where it is."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np


class LineRows:
    """The rows that RowCutter would cut the ids of several files into, one file after another; none of them is copied.

    files: ids without a header, each [tokens] of dtype. overlap: ids that neighbours share beyond the one of each edge.
    fill: what the last row is filled up with.
    """

    def __init__(self, files: Sequence[Path], dtype: np.dtype, block_size: int, overlap: int, fill: int) -> None:
        self._files = files
        self._dtype = dtype
        self._width = block_size + 1
        self._step = block_size - overlap
        self._fill = fill
        sizes = [file.stat().st_size // dtype.itemsize for file in files]
        self._ends = np.cumsum([0, *sizes])[1:]
        self._starts = self._ends - sizes
        self.tokens = int(sum(sizes))

    def __len__(self) -> int:
        targets, overlap = self.tokens - 1, self._width - 1 - self._step
        return max(1, -(-(targets - overlap) // self._step)) if targets > 0 else 0

    def __getitem__(self, numbers: "slice | np.ndarray") -> dict[str, np.ndarray]:
        """`ids`, [rows, block_size + 1], of the rows with these numbers."""
        if isinstance(numbers, slice):
            numbers = np.arange(*numbers.indices(len(self)))
        places = numbers[:, None] * self._step + np.arange(self._width)
        owners = np.searchsorted(self._ends, places, side="right")  # beyond the last file, places are filled up
        ids = np.full(places.shape, self._fill, self._dtype)
        for owner in np.unique(owners[owners < len(self._files)]):
            here = owners == owner
            ids[here] = self._maps[owner][places[here] - self._starts[owner]]
        return {"ids": ids}

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        """[tokens] of each file. An empty one cannot be mapped."""
        return [
            np.memmap(file, self._dtype, mode="r") if file.stat().st_size else np.empty(0, self._dtype)
            for file in self._files
        ]

    def __getstate__(self) -> dict[str, object]:
        """The state for another process, which maps the files itself: a pickled map would be a copy of all ids."""
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}
