"""data.lanes: each process reads its lanes alone, and the order of batches, the account and a resume are those of one process."""

import json
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtune.config import DataConfig, SplitRule
from lmtune.config.lanes import check_lanes
from lmtune.data import stream_reader
from lmtune.data.build import build_corpus, prepare_training
from lmtune.data.file_source import FileSource
from lmtune.data.lanes import check_shards, deal_shards, find_lane, render_lanes
from lmtune.data.sources import build_source
from lmtune.errors import ConfigError, DataError

ROWS, LANES, BATCHES = 2, 4, 72
WORDS = ["saúde", "médica", "exame", "a", "dor", "…", "🙂", "hospital"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Seven files of some rows; a pass of a lane is 15 to 40 blocks, in several windows."""
    monkeypatch.setattr(stream_reader, "LEAST_ROWS", 8)
    draw = np.random.default_rng(0)
    for shard in range(7):
        texts = [" ".join(draw.choice(WORDS, draw.integers(1, 9))) for _ in range(12)]
        (tmp_path / f"{shard}.jsonl").write_text(
            "".join(json.dumps({"text": f"{shard} {text}"}) + "\n" for text in texts), encoding="utf-8"
        )
    return str(tmp_path / "*.jsonl")


def prepare(files, tokenizer, ranks=1, lanes=LANES, **chosen):
    """What each of the processes has prepared."""
    given = {"validation_fraction": 0.2, "split_by": SplitRule.hash, "streaming": True, "shuffle_blocks": 4, **chosen}
    config = DataConfig(files=files, lanes=lanes, **given)
    found = [prepare_training(build_corpus(config, 3), {}, tokenizer, 8) for _ in range(ranks)]
    for prepared in found:
        prepared.blocks.set_batch_shape(ROWS * ranks, BATCHES // ranks, ranks)
    return found


def read(processes, begin=0, end=BATCHES):
    """The batches as the processes read them, by their numbers."""
    found = {}
    for rank, prepared in enumerate(processes):
        for batch in range(begin, end):
            if batch % len(processes) == rank:
                rows = range(batch * ROWS, (batch + 1) * ROWS)
                found[batch] = prepared.blocks.__getitems__(list(rows))["shift_labels"].tolist()
    return [found[batch] for batch in range(begin, end)]


def collect(processes):
    """What a save does before process 0 writes: it is told where the others stand. Return process 0's."""
    first, *others = processes
    sent = []
    for other in others:
        other.blocks.collect_positions(lambda own: sent.append(own) or [])
    first.blocks.collect_positions(lambda own: [own, *sent])
    return first


@given(shards=st.integers(1, 60), lanes=st.integers(1, 9), seed=st.integers(0, 2**40))
def test_each_shard_is_dealt_to_one_lane(shards, lanes, seed):
    dealt = deal_shards(shards, lanes, seed)
    assert sorted(chain.from_iterable(dealt)) == list(range(shards))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert all(lane == sorted(lane) for lane in dealt)


@given(lanes=st.integers(1, 24), rows=st.integers(1, 5), data=st.data())
def test_a_process_reads_its_lanes_alone_and_each_in_order(lanes, rows, data):
    ranks = data.draw(st.sampled_from([number for number in range(1, lanes + 1) if lanes % number == 0]))
    following = dict.fromkeys(range(lanes), 0)
    for row in range(lanes * rows * 3):
        lane, of_lane = find_lane(row, rows, lanes)
        rank = row // rows % ranks
        assert lane % ranks == rank
        assert of_lane == following[lane]
        following[lane] += 1
        assert lanes > 1 or of_lane == row


@pytest.mark.parametrize("ranks", [2, 4])
def test_the_order_of_batches_does_not_depend_on_the_processes(files, tokenizer, ranks):
    one, several = prepare(files, tokenizer), prepare(files, tokenizer, ranks)
    assert read(several) == read(one)
    assert collect(several).ledger == collect(one).ledger


def test_another_seed_is_another_order_and_a_lane_keeps_that_of_the_source_if_asked(files, tokenizer):
    (whole,) = prepare(files, tokenizer, lanes=1, shuffle_blocks=1)
    (lanes,) = prepare(files, tokenizer, shuffle_blocks=1)
    for number, shards in enumerate(deal_shards(7, LANES, seed=3)):
        assert lanes.blocks.lanes[number].shards == shards
    firsts = [batch[0][:4] for batch in read([lanes], 0, LANES)]
    documents = [token for batch in read([whole]) for row in batch for token in row]
    assert all(any(documents[at : at + 4] == first for at in range(len(documents))) for first in firsts)


def test_a_process_opens_the_files_of_its_lanes_alone(files, tokenizer, monkeypatch):
    processes = prepare(files, tokenizer, ranks=2)
    opened, load = [], FileSource.load_rows
    monkeypatch.setattr(
        FileSource, "load_rows", lambda self, split, shard: opened.append(shard) or load(self, split, shard)
    )
    dealt = deal_shards(7, LANES, seed=3)
    for rank, prepared in enumerate(processes):
        opened.clear()
        for batch in range(rank, BATCHES, 2):
            prepared.blocks.__getitems__([batch * ROWS])
        assert set(opened) == {*dealt[rank], *dealt[rank + 2]}


@pytest.mark.parametrize("given", [False, True])
def test_the_ledger_of_a_pass_is_that_of_one_reader(files, tokenizer, tmp_path, given):
    chosen = {}
    if given:
        rows = (tmp_path / "1.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "held.json").write_text("".join([*rows[:3], '{"text": "outra"}\n']), encoding="utf-8")
        chosen = {"validation_files": str(tmp_path / "held.json"), "split_by": SplitRule.given}
    (one,) = prepare(files, tokenizer, lanes=1, **chosen)
    several = prepare(files, tokenizer, ranks=2, **chosen)
    read([one], 0, 200)
    read(several, 0, 200)
    joined, alone = collect(several).ledger, one.ledger
    joined.check()
    alone.check()
    of_rows = {"blocks", "targets", "padding", "waiting", "repeated", "lanes"}
    ours, theirs = (ledger.as_dict() for ledger in (joined, alone))
    assert {name: ours[name] for name in ours.keys() - of_rows} == {
        name: theirs[name] for name in theirs.keys() - of_rows
    }
    assert (joined.lanes, alone.lanes) == (LANES, 1)
    assert joined.targets == alone.targets - LANES + 1, "the first token of each lane is predicted from nothing"
    assert joined.waiting == alone.waiting == 0


@pytest.mark.parametrize(("before", "after", "stop"), [(1, 1, 3), (2, 2, 20), (4, 2, 60), (2, 1, 2), (1, 4, 44)])
def test_a_run_goes_on_where_it_stopped_also_with_other_processes(files, tokenizer, tmp_path, before, after, stop):
    undisturbed = prepare(files, tokenizer)
    expected = read(undisturbed)
    first = prepare(files, tokenizer, before)
    assert read(first, 0, stop) == expected[:stop]
    collect(first).blocks.save_position(tmp_path)
    second = prepare(files, tokenizer, after)
    for prepared in second:
        prepared.blocks.load_position(tmp_path)
    assert read(second, stop) == expected[stop:]
    collect(second).ledger.check()
    assert second[0].ledger == collect(undisturbed).ledger


def test_lanes_that_nobody_has_read_since_keep_their_place(files, tokenizer, tmp_path):
    expected = read(prepare(files, tokenizer))
    begin = 0
    for end in (30, 31, 33, BATCHES):  # a step of one batch, and one of two
        (prepared,) = prepare(files, tokenizer)
        prepared.blocks.load_position(tmp_path)
        assert read([prepared], begin, end) == expected[begin:end]
        collect([prepared]).blocks.save_position(tmp_path)
        begin = end


def test_batches_of_another_size_are_refused_at_a_resume(files, tokenizer, tmp_path):
    (first,) = prepare(files, tokenizer)
    first.blocks.save_position(tmp_path)
    (second,) = prepare(files, tokenizer)
    second.blocks.set_batch_shape(ROWS + 1, BATCHES)
    with pytest.raises(
        ConfigError, match=r"batches of 2 rows.*found 3\. Give training\.per_device_train_batch_size=2\."
    ):
        second.blocks.load_position(tmp_path)


def test_what_does_not_go_with_lanes_is_refused(files):
    for name, value in (("deduplicate", True), ("max_documents", 3), ("max_bytes", 3)):
        with pytest.raises(
            ConfigError, match=rf"data\.lanes=2 and data\.{name} do not go together.*Give data\.lanes=1"
        ):
            DataConfig(files="a", streaming=True, lanes=2, **{name: value})
        DataConfig(files="a", lanes=2, **{name: value})  # the same data, prepared
    config = DataConfig(files=files, streaming=True, lanes=8)
    with pytest.raises(
        DataError, match=r"data\.lanes=8: expected at least as many files .*found 7.*data\.lanes=7 or less"
    ):
        check_shards(config, build_source(config))


def test_the_processes_have_to_divide_the_lanes(monkeypatch):
    config = SimpleNamespace(data=DataConfig(files="a", streaming=True, lanes=6), training={})
    for ranks in (1, 2, 3, 6):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        check_lanes(config)
    for ranks, fitting in ((4, "1 or 2 or 3 of them"), (12, "1 or 2 or 3 or 6 of them")):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        with pytest.raises(
            ConfigError, match=rf"data\.lanes=6: .*divides it, found {ranks}\. Start {fitting}.*data\.lanes={ranks}"
        ):
            check_lanes(config)
    config.data.lanes = 1
    check_lanes(config)
    monkeypatch.delenv("WORLD_SIZE")
    config.data.lanes, config.training = 6, {"auto_find_batch_size": True}
    with pytest.raises(ConfigError, match=r"auto_find_batch_size do not go together.*Choose one of the two"):
        check_lanes(config)


def test_a_run_says_who_reads_what(files):
    config = DataConfig(files=files, streaming=True, lanes=4)
    source = build_source(config)
    assert render_lanes(config, source, 2) == "7 files in 4 lanes, 2 for each of 2 processes"
    assert render_lanes(config, source, 1) == "7 files in 4 lanes"
    config.lanes = 1
    assert render_lanes(config, source, 1) is None
    assert "data.lanes=2 each would read files of its own" in render_lanes(config, source, 2)
    config.max_bytes = 100
    assert render_lanes(config, source, 2) == "each of 2 processes reads the whole stream"


def test_a_lane_without_text_is_named(files, tokenizer, tmp_path):
    (tmp_path / "6.jsonl").write_text('{"text": " "}\n', encoding="utf-8")
    (prepared,) = prepare(files, tokenizer, lanes=7)
    with pytest.raises(DataError, match=r"no training text in one of data\.lanes=7.*has 1 of the files"):
        read([prepared], 0, 7)


def test_reading_again_from_the_start_counts_once(files, tokenizer):
    (prepared,) = prepare(files, tokenizer, lanes=1)
    prepared.blocks.__getitems__([60])
    before = prepared.ledger.as_dict()
    prepared.blocks.__getitems__([0])
    prepared.blocks.__getitems__([60])
    assert prepared.ledger.as_dict() == before
