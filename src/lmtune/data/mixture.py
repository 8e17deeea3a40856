"""Several sources in one epoch, by weight: new text together with some of the old, against forgetting it.

The rows of the first source, that of `data=`, come once an epoch each. Of every other source an epoch takes as many rows
as its weight asks for, from where the epoch before stopped: each row comes once before any comes again.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lmtune.data.blocks import Batch, Blocks, StoredRows, join_batches
from lmtune.data.goldfish import Goldfish
from lmtune.data.turns import draw_rows


class Part(NamedTuple):
    """One source of a mixture."""

    blocks: Blocks
    weight: float


class MixedBlocks(StoredRows):
    """Rows of several sources, numbered one source after another; the sampler draws epochs from them.

    parts: by name, the one that decides the length of an epoch first.
    """

    def __init__(self, parts: dict[str, Part]) -> None:
        self.parts = parts
        self._parts = list(parts.values())
        self.block_size = self._parts[0].blocks.block_size
        self._starts = np.cumsum([0, *(len(part.blocks.rows) for part in self._parts)])
        self._multiple = 1

    def read(self) -> Iterator[np.ndarray]:
        for part in self._parts:
            yield from part.blocks.read()

    def leave_out(self, goldfish: Goldfish) -> None:
        for part in self._parts:
            part.blocks.leave_out(goldfish)

    def set_batch_shape(self, rows_per_batch: int, batches: int, processes: int = 1) -> None:
        self._multiple = rows_per_batch

    @property
    def rows_per_epoch(self) -> list[int]:
        """Rows that an epoch takes of each source."""
        first = self._parts[0]
        return [max(1, round(len(first.blocks.rows) * part.weight / first.weight)) for part in self._parts]

    def __len__(self) -> int:
        return -(-sum(self.rows_per_epoch) // self._multiple) * self._multiple

    def build_sampler(self, seed: int) -> "MixtureSampler":
        rows = [len(part.blocks.rows) for part in self._parts]
        return MixtureSampler(rows, self.rows_per_epoch, len(self), seed)

    def __getitems__(self, indices: list[int]) -> Batch:
        """A batch of rows; numbers beyond the last row are empty ones."""
        numbers = np.asarray(indices)
        sources = np.minimum(np.searchsorted(self._starts, numbers, side="right") - 1, len(self._parts) - 1)
        batches, places = [], []
        for source in np.unique(sources):
            places.append(np.flatnonzero(sources == source))
            batches.append(
                self._parts[source].blocks.__getitems__((numbers[places[-1]] - self._starts[source]).tolist())
            )
        return join_batches(batches, places)


class MixtureSampler:
    """Row numbers of an epoch, a pure function of the seed and the epoch.

    rows: number of rows of each source. taken: how many of them an epoch takes. length: rows of an epoch, filled up with
    empty ones.
    """

    def __init__(self, rows: list[int], taken: list[int], length: int, seed: int) -> None:
        self._rows = rows
        self._taken = taken
        self._length = length
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch, a resumed one too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        drawn = [self._draw(source) for source in range(len(self._rows))]
        empty = np.full(self._length - sum(map(len, drawn)), sum(self._rows))
        epoch = np.random.default_rng([self._seed, self.epoch]).permutation(np.concatenate([*drawn, empty]))
        return iter(epoch.tolist())

    def _draw(self, source: int) -> np.ndarray:
        """[rows] int64: the numbers that this epoch takes of one source."""
        taken = self._taken[source]
        places = range(self.epoch * taken, (self.epoch + 1) * taken)
        return sum(self._rows[:source]) + np.array(draw_rows(places, self._rows[source], self._seed, source), np.int64)
