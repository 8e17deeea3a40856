"""Windows score every token once, and a stride gives it the context it promises."""

import numpy as np
import pytest

from lmtune.errors import ConfigError
from lmtune.evaluation.windows import cut_windows, resolve_stride

SIZES = [(1, 8, 2), (7, 8, 2), (8, 8, 2), (9, 8, 2), (100, 8, 3), (5, 64, 4), (101, 7, 7)]


def scored(windows):
    return windows.places[:, windows.length - windows.scored :].reshape(-1)


@pytest.mark.parametrize(("tokens", "context", "batch_size"), SIZES)
@pytest.mark.parametrize("part", [1, 2, 8])
def test_every_token_is_scored_once(tokens, context, batch_size, part):
    batches = list(cut_windows(tokens, context, max(1, context // part), batch_size))
    assert np.concatenate([scored(windows) for windows in batches]).tolist() == list(range(tokens))
    assert all(len(windows.starts) <= batch_size and windows.length <= context for windows in batches)


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_token_has_at_least_a_window_less_a_stride_before_it(stride):
    for windows in cut_windows(50, 8, stride, 4):
        for begin, place in zip(np.repeat(windows.starts, windows.scored), scored(windows), strict=True):
            assert place - begin >= (8 - stride if place >= 8 else 0)


def test_no_tokens_need_no_windows():
    assert list(cut_windows(0, 8, 8, 2)) == []


def test_a_stride_longer_than_the_window_is_refused():
    with pytest.raises(ConfigError, match=r"eval.stride=9: windows have 8 tokens .* Give at most 8\."):
        resolve_stride(9, 8)
    assert (resolve_stride(None, 8), resolve_stride(3, 8)) == (8, 3)
