"""Mixtures: every row of the first source once an epoch, of the others as many as their weights ask, none before its turn."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from lmtune.config import DataConfig
from lmtune.data.blocks import Blocks, write_blocks
from lmtune.data.mixture import MixedBlocks, MixtureSampler, Part
from lmtune.errors import ConfigError


def epochs(sampler, count):
    taken = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        taken.append(list(sampler))
    return taken


@pytest.mark.parametrize("taken", [3, 7, 10, 25])
def test_rows_come_once_before_any_comes_again(taken):
    sampler = MixtureSampler(rows=[20, 10], taken=[20, taken], length=20 + taken, seed=1)
    drawn = epochs(sampler, 6)
    for epoch in drawn:
        assert len(epoch) == len(sampler) == 20 + taken
        assert Counter(row for row in epoch if row < 20) == Counter(range(20))
    others = Counter(row for row in chain(*drawn) if row >= 20)
    assert sum(others.values()) == 6 * taken
    assert max(others.values()) - min(others[row] for row in range(20, 30)) <= 1
    assert drawn[0] != drawn[1]
    assert epochs(MixtureSampler([20, 10], [20, taken], 20 + taken, seed=1), 6) == drawn
    assert epochs(MixtureSampler([20, 10], [20, taken], 20 + taken, seed=2), 6) != drawn


def test_batches_hold_the_rows_of_each_source_and_empty_ones(tmp_path):
    parts = {}
    for name, begin, tokens in (("new", 0, 41), ("old", 1000, 81)):
        ids = [np.arange(begin, begin + tokens, dtype=np.uint32)]
        _, targets = write_blocks(tmp_path / name, ids, 10, np.dtype(np.uint16), fill=0)
        parts[name] = Part(Blocks.load(tmp_path / name, 10, targets), {"new": 0.75, "old": 0.25}[name])
    mixed = MixedBlocks(parts)
    assert mixed.rows_per_epoch == [4, 1]
    mixed.set_batch_shape(4, -1)
    assert len(mixed) == 8
    batch = mixed.__getitems__([5, 0, 12, 4, 3])
    assert batch["input_ids"][:, 0].tolist() == [1010, 0, 1070, 1000, 30]
    assert batch["shift_labels"][:, 0].tolist() == [1011, 1, -100, 1001, 31]
    assert sorted(mixed.build_sampler(0))[:4] == [0, 1, 2, 3]


def test_a_mixture_names_its_own_data_and_weights_above_nothing():
    with pytest.raises(ConfigError, match=r"data\.mix=\{bio, pt-wiki\}: expected files, which data= names"):
        DataConfig(files="a", mix={"bio": 0.7, "pt-wiki": 0.3})
    with pytest.raises(ConfigError, match=r"data\.mix\.bio"):
        DataConfig(files="a", mix={"files": 1.0, "bio": 0.0})
