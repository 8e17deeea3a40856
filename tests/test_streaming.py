"""Streaming hands out the rows that preparing would, goes on exactly where it stopped, and accounts for what it read."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streams import WORDS

from lmtune.config import DataConfig, SplitRule
from lmtune.data import stream_reader
from lmtune.data.build import build_corpus, prepare_training
from lmtune.data.sources import build_source
from lmtune.errors import ConfigError


def write_shards(folder, shards=3, rows=40, seed=0):
    draw = np.random.default_rng(seed)
    for shard in range(shards):
        texts = [" ".join(draw.choice(WORDS, draw.integers(1, 25))) for _ in range(rows)]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{shard}.jsonl").write_text(lines, encoding="utf-8")
    return str(folder / "*.jsonl")


def prepare(files, tokenizer, block_size=8, seed=3, **chosen):
    given = {"validation_fraction": 0.3, "split_by": SplitRule.hash, **chosen}
    prepared = prepare_training(build_corpus(DataConfig(files=files, **given), seed), {}, tokenizer, block_size)
    if given.get("streaming"):
        prepared.blocks.set_batch_shape(4, 500)
    return prepared


def targets(blocks, indices):
    return [tuple(row) for row in blocks.__getitems__(list(indices))["shift_labels"].tolist()]


def account(ledger):
    record = ledger.as_dict()
    for source in record["sources"]:
        source.pop("xxh3_128", None)  # content is not hashed before it is streamed
    return {name: record[name] for name in record if name != "split_by"}


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(stream_reader, "LEAST_ROWS", 16)


@given(block_size=st.integers(2, 30), stride=st.sampled_from([0, 1]), seed=st.integers(0, 99), shards=st.integers(1, 4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_source_order_streaming_equals_preparing(
    tmp_path_factory, small_windows, tokenizer, block_size, stride, seed, shards
):
    files = write_shards(tmp_path_factory.mktemp("shards"), shards, seed=seed)
    whole = prepare(files, tokenizer, block_size, seed, stride=stride)
    stream = prepare(files, tokenizer, block_size, seed, stride=stride, streaming=True, shuffle_blocks=1)
    rows = range(len(whole.blocks))
    ours, theirs = stream.blocks.__getitems__(list(rows)), whole.blocks.__getitems__(list(rows))
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert account(stream.ledger) == account(whole.ledger)
    np.testing.assert_array_equal(stream.held_out["validation"].ids, whole.held_out["validation"].ids)
    assert targets(stream.blocks, [len(rows)]) == targets(whole.blocks, [0]), "the next pass begins anew"


@pytest.mark.parametrize("chosen", [{}, {"deduplicate": True}, {"max_documents": 70}, {"rows_per_document": 3}])
def test_each_pass_holds_the_same_rows_in_another_order(tmp_path, small_windows, tokenizer, chosen):
    files = write_shards(tmp_path)
    whole = prepare(files, tokenizer, **chosen)
    stream = prepare(files, tokenizer, streaming=True, shuffle_blocks=8, **chosen).blocks
    count = len(whole.blocks)
    passes = [targets(stream, range(begin, begin + count)) for begin in (0, count)]
    learned = [sorted(token for row in rows for token in row if token >= 0) for rows in passes]
    assert abs(len(learned[0]) - len(learned[1])) <= 1, "shards in another order: another token is first of all"
    assert passes[0] != passes[1]
    again = prepare(files, tokenizer, streaming=True, shuffle_blocks=8, **chosen).blocks
    assert targets(again, range(2 * count)) == [*passes[0], *passes[1]]


@pytest.mark.parametrize("chosen", [{}, {"deduplicate": True}, {"stride": 2}, {"rows_per_document": 3}])
@pytest.mark.parametrize("stop", [4, 36, 100, 260, 356])
def test_a_stream_goes_on_where_it_stopped(tmp_path, small_windows, tokenizer, chosen, stop):
    files = write_shards(tmp_path)
    undisturbed = prepare(files, tokenizer, streaming=True, shuffle_blocks=8, **chosen)
    expected = targets(undisturbed.blocks, range(460))
    first = prepare(files, tokenizer, streaming=True, shuffle_blocks=8, **chosen)
    assert targets(first.blocks, range(stop)) == expected[:stop]
    first.blocks.save_position(tmp_path)
    second = prepare(files, tokenizer, streaming=True, shuffle_blocks=8, **chosen)
    second.blocks.load_position(tmp_path)
    assert targets(second.blocks, range(stop, 460)) == expected[stop:]
    undisturbed.ledger.check()
    assert account(second.ledger) == account(undisturbed.ledger)
    begun_anew = prepare(files, tokenizer, streaming=True, shuffle_blocks=8, **chosen)
    assert targets(begun_anew.blocks, range(stop, 460)) == expected[stop:], "only slower without the position"


@pytest.mark.parametrize("stop", [60, 250])
def test_the_account_closes_where_held_out_text_is_kept_apart(tmp_path, small_windows, tokenizer, stop):
    files = write_shards(tmp_path)
    rows = (tmp_path / "1.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "held.json").write_text("".join([*rows[:3], '{"text": "outra"}\n']), encoding="utf-8")
    chosen = {"validation_files": str(tmp_path / "held.json"), "split_by": SplitRule.given, "shuffle_blocks": 8}
    straight, first, second = (prepare(files, tokenizer, streaming=True, **chosen) for _ in range(3))
    straight.blocks.__getitems__(list(range(460)))
    first.blocks.__getitems__(list(range(stop)))
    first.blocks.save_position(tmp_path)
    second.blocks.load_position(tmp_path)
    second.blocks.__getitems__(list(range(stop, 460)))
    second.ledger.check()
    assert second.ledger.documents_in_training >= 3
    assert account(second.ledger) == account(straight.ledger)


def test_going_on_reads_no_earlier_shard(tmp_path, small_windows, tokenizer, monkeypatch):
    files = write_shards(tmp_path, shards=6)
    first = prepare(files, tokenizer, streaming=True, shuffle_blocks=8)
    count = len(prepare(files, tokenizer).blocks)
    expected = targets(first.blocks, range(count - 4, count))
    first.blocks.save_position(tmp_path)
    second = prepare(files, tokenizer, streaming=True, shuffle_blocks=8)
    second.blocks.load_position(tmp_path)
    read = []
    source = build_source(DataConfig(files=files))
    load = type(source).load_rows
    monkeypatch.setattr(
        type(source), "load_rows", lambda self, split, shard: (read.append(shard), load(self, split, shard))[1]
    )
    assert targets(second.blocks, range(count - 4, count)) == expected
    assert len(read) <= 2


def test_text_kept_apart_is_not_trained_on(tmp_path, tokenizer):
    files = write_shards(tmp_path, shards=1)
    rows = (tmp_path / "0.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    held = tmp_path / "held.json"
    held.write_text("".join([*rows[:3], '{"text": "outra"}\n']), encoding="utf-8")
    chosen = {"validation_files": str(held), "split_by": SplitRule.given, "shuffle_blocks": 1}
    stream = prepare(files, tokenizer, streaming=True, **chosen)
    stream.blocks.__getitems__(list(range(300)))
    stream.ledger.check()
    assert stream.ledger.documents_in_training >= 3
    assert stream.ledger.sides["validation"].documents == 4


def test_what_does_not_go_with_streaming_is_refused():
    with pytest.raises(ConfigError, match="stretches need the whole text"):
        DataConfig(files="a", streaming=True, split_by=SplitRule.stretches)
    with pytest.raises(ConfigError, match=r"data\.prepared=files: expected names of other sources of data\.mix"):
        DataConfig(files="a", streaming=True, mix={"files": 1.0, "bio": 1.0}, prepared=["files"])
