"""training.goldfish: which targets are left out depends on the tokens before them in their document, and on nothing else."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lmtune.config import DataConfig, LossChoice, SplitRule
from lmtune.config.training import check_training
from lmtune.data import stream_reader
from lmtune.data.blocks import IGNORED, LEFT_OUT, Blocks, PaddedBlocks, write_blocks, write_padded
from lmtune.data.build import build_corpus, count_left_out, leave_out, prepare_training
from lmtune.data.goldfish import CONTEXT, Goldfish
from lmtune.errors import ConfigError
from lmtune.modeling.loss import install_loss
from lmtune.training.trained_tokens import TokenCounter

END, BEGIN = 0, 1
PINNED = [5, 6, 10, 13, 17, 20, 22, 28, 33, 36, 37, 38, 39]
"""Of 40 targets behind 100, 101, 102, ...: runs that are resumed by another version learn the same."""
UINT16 = np.dtype(np.uint16)


def draw_documents(seed, most=40, opened=False):
    """Documents as lists of ids, with the separator behind each; some of them stand twice."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(0, most, 12)
    found = [[*([BEGIN] if opened else []), *draw.integers(2, 9, size).tolist(), END] for size in sizes]
    return [*found, *found[:4]]


def choose_in(stream, goldfish):
    """[tokens] bool: the tokens of a stream that are left out, the first of which is no target."""
    ids = np.concatenate([np.full(CONTEXT, END), stream])
    return np.concatenate([[False], goldfish.choose(ids[None])[0]])


def read_chosen(blocks):
    """(targets, left out), [places] each, of all rows in their order."""
    numbers = list(range(len(blocks.rows)))
    plain, kept = type(blocks)(*_shape(blocks)), blocks
    whole, some = plain.__getitems__(numbers)["shift_labels"], kept.__getitems__(numbers)["shift_labels"]
    learned = whole != IGNORED
    assert torch.equal(some[some != IGNORED], whole[some != IGNORED])
    return whole[learned].numpy(), (some == IGNORED)[learned].numpy()


def _shape(blocks):
    return blocks.rows, blocks.block_size, blocks.targets, blocks.separator, blocks.overlap


def test_the_same_tokens_are_left_out_on_every_machine():
    ids = np.arange(100, 100 + CONTEXT + 41)[None]
    chosen = np.flatnonzero(Goldfish(4, END).choose(ids)[0])
    assert chosen.tolist() == PINNED
    wide = Goldfish(4, END).choose(ids.astype(np.uint32))[0]
    assert np.flatnonzero(wide).tolist() == PINNED, "the type of the ids has no part in it"


@pytest.mark.parametrize("one_in", [2, 3, 4, 128])
def test_one_in_so_many_is_left_out(one_in):
    ids = np.random.default_rng(0).integers(1, 50_000, (64, 4096))
    assert Goldfish(one_in, END).choose(ids).mean() == pytest.approx(1 / one_in, rel=0.05)


def test_a_passage_loses_the_same_tokens_behind_other_text():
    draw = np.random.default_rng(1)
    passage = draw.integers(1, 500, 80)
    found = [
        choose_in(np.concatenate([draw.integers(1, 500, size), passage]), Goldfish(3, END))[-80:][CONTEXT:]
        for size in (1, 7, 90)
    ]
    assert found[0].any()
    assert all((each == found[0]).all() for each in found)


@given(seed=st.integers(0, 999), opened=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_document_loses_the_same_tokens_wherever_it_stands_and_none_of_its_first(seed, opened):
    documents, goldfish = draw_documents(seed, opened=opened), Goldfish(2, END, int(opened))
    chosen = choose_in(np.concatenate([[END], *documents]), goldfish)
    ends = np.cumsum([1, *map(len, documents)])
    parts = [chosen[start:end].tolist() for start, end in pairwise(ends)]
    assert parts[-4:] == parts[:4]
    assert not any(flag for part in parts for flag in part[: 1 + opened])


@given(
    seed=st.integers(0, 999), block_size=st.integers(2, 40), overlap=st.sampled_from([0, 1, 5]), parts=st.integers(1, 3)
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_edges_of_rows_have_no_part_in_it(tmp_path_factory, seed, block_size, overlap, parts):
    stream = np.concatenate(draw_documents(seed))
    overlap = min(overlap, block_size - 1)
    file = tmp_path_factory.mktemp("rows") / "rows.arrow"
    _, targets = write_blocks(file, np.array_split(stream, parts), block_size, UINT16, END, overlap)
    blocks = Blocks.load(file, block_size, targets, None, overlap)
    goldfish = Goldfish(3, END)
    blocks.leave_out(goldfish)
    ids, chosen = read_chosen(blocks)
    np.testing.assert_array_equal(ids, stream[1:])
    np.testing.assert_array_equal(chosen, choose_in(stream, goldfish)[1:])
    numbers = range(len(blocks.rows))
    assert blocks.count_left_out(numbers) == chosen.sum() == targets - blocks.count_targets(numbers)
    assert blocks.__getitems__(list(numbers))[LEFT_OUT].sum() == chosen.sum()


@given(seed=st.integers(0, 999), block_size=st.integers(2, 40), opened=st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_documents_in_rows_of_their_own_lose_what_they_lose_side_by_side(tmp_path_factory, seed, block_size, opened):
    assume(not opened or block_size > CONTEXT)
    documents, file = draw_documents(seed, opened=opened), tmp_path_factory.mktemp("rows") / "rows.arrow"
    table = np.zeros(len(documents), [("tokens", np.int64)])
    table["tokens"] = [len(each) for each in documents]
    stream = np.concatenate(documents)
    _, targets = write_padded(file, [(stream, table)], block_size, UINT16, END, int(opened))
    blocks, goldfish = PaddedBlocks.load(file, block_size, targets), Goldfish(3, END, int(opened))
    blocks.leave_out(goldfish)
    ids, chosen = read_chosen(blocks)
    side_by_side = choose_in(np.concatenate([[END], stream]), goldfish)[1:]
    kept = np.concatenate([np.arange(len(each)) >= opened for each in documents])  # BOS is no target in rows of its own
    np.testing.assert_array_equal(ids, stream[kept])
    np.testing.assert_array_equal(chosen, side_by_side[kept])


def prepare(folder, tokenizer, **chosen):
    draw = np.random.default_rng(0)
    words = ["saúde", "médica", "exame", "a", "dor", "hospital"]
    for shard in range(3):
        texts = [" ".join(draw.choice(words, draw.integers(1, 60))) for _ in range(40)]
        (folder / f"{shard}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    given = {"validation_fraction": 0.3, "split_by": SplitRule.hash, **chosen}
    config = DataConfig(files=str(folder / "*.jsonl"), **given)
    prepared = prepare_training(build_corpus(config, 3), {}, tokenizer, 24)
    leave_out(4, prepared.blocks, tokenizer)
    count_left_out(prepared)
    if config.streaming:
        prepared.blocks.set_batch_shape(4, 500)
    return prepared


def list_labels(prepared, rows):
    return prepared.blocks.__getitems__(list(rows))["shift_labels"]


@pytest.mark.parametrize("stride", [0, 3])
def test_a_stream_leaves_out_what_stored_rows_do_and_counts_the_same(tmp_path, tokenizer, monkeypatch, stride):
    monkeypatch.setattr(stream_reader, "LEAST_ROWS", 16)
    whole = prepare(tmp_path, tokenizer, stride=stride)
    stream = prepare(tmp_path, tokenizer, stride=stride, streaming=True, shuffle_blocks=1)
    rows = range(len(whole.blocks))
    assert torch.equal(list_labels(stream, rows), list_labels(whole, rows))
    assert stream.ledger.targets_left_out == whole.ledger.targets_left_out > 0
    stream.ledger.check()


@pytest.mark.parametrize("stop", [4, 36, 100, 260])
def test_a_stream_goes_on_to_the_same_targets(tmp_path, tokenizer, monkeypatch, stop):
    monkeypatch.setattr(stream_reader, "LEAST_ROWS", 16)
    settings = {"streaming": True, "shuffle_blocks": 8}
    straight, first, second = (prepare(tmp_path, tokenizer, **settings) for _ in range(3))
    expected = list_labels(straight, range(400))
    list_labels(first, range(stop))
    first.blocks.save_position(tmp_path)
    second.blocks.load_position(tmp_path)
    assert torch.equal(list_labels(second, range(stop, 400)), expected[stop:])
    assert second.ledger.targets_left_out == straight.ledger.targets_left_out > 0


def test_a_ledger_tells_what_is_left_out_and_says_nothing_of_it_without(tmp_path, tokenizer):
    prepared = prepare(tmp_path, tokenizer)
    record = prepared.ledger.as_dict()
    assert record["targets_left_out"] == prepared.blocks.count_left_out(range(len(prepared.blocks.rows)))
    assert type(prepared.ledger).from_dict(record) == prepared.ledger
    prepared.ledger.targets_left_out = 0
    assert "targets_left_out" not in prepared.ledger.as_dict()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_loss_is_the_mean_over_the_targets_that_remain(build_tiny, tmp_path, tokenizer, kind):
    prepared, model = prepare(tmp_path, tokenizer), build_tiny(kind)
    batch = prepared.blocks.__getitems__([0, 1, 2])
    left_out = batch.pop(LEFT_OUT)
    labels = batch["shift_labels"]
    assert 0 < left_out.sum() == 3 * 24 - (labels != IGNORED).sum()
    assert torch.equal(batch["labels"][:, 1:] == IGNORED, labels[:, :-1] == IGNORED)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"]).logits
        expected = torch.nn.functional.cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED])
        plain = model(**batch, num_items_in_batch=(labels != IGNORED).sum()).loss
        install_loss(model, LossChoice.auto)
        fused = model(**batch).loss
    torch.testing.assert_close(plain, expected)
    torch.testing.assert_close(fused, expected)


@pytest.mark.parametrize("value", [1, 0, -4])
def test_what_would_leave_nothing_to_learn_is_refused(value):
    with pytest.raises(
        ConfigError, match=rf"^training\.goldfish={value}: expected 2 or more\. 1 would leave out every token"
    ):
        check_training({"goldfish": value})


@pytest.mark.parametrize("value", [True, "4", 2.5])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ConfigError, match=r"^training\.goldfish=\S+: expected a whole number or null"):
        check_training({"goldfish": value})


def test_what_is_left_out_counts_for_the_mfu_and_not_as_tokens():
    meter = SimpleNamespace(utilisation=lambda tokens_per_second, processes: tokens_per_second)
    counter = TokenCounter(meter, torch.device("cpu"), 1, counts_alone=False)
    counter.start(0)
    counter.add(torch.tensor(30))
    counter.add_left_out(torch.tensor(10))
    pace = counter.measure_pace(1, 2)
    assert pace["mfu"] == pytest.approx(4 / 3 * pace["tokens_per_second"])
    assert (counter.trained.targets, counter.trained.left_out) == (30, 10)
