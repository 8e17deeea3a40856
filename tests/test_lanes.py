"""data.lanes: each process reads its lanes alone, and the order of batches, the account and a resume are those of one process."""

from functools import lru_cache
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import write_texts
from hypothesis import given
from hypothesis import strategies as st
from streams import WORDS, collect, read

from lmtune.config import DataConfig, SplitRule
from lmtune.config.lanes import check_lanes
from lmtune.data import stream_reader
from lmtune.data.build import build_corpus
from lmtune.data.file_source import FileSource
from lmtune.data.lanes import check_shards, deal_shards, find_lane, render_lanes
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.sources import build_source
from lmtune.data.streaming import prepare_stream
from lmtune.errors import ConfigError, DataError

ROWS, LANES, BATCHES = 2, 4, 72


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(stream_reader, "LEAST_ROWS", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven files of some rows; a pass of a lane is 15 to 40 blocks, in several windows."""
    folder, draw = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    for shard in range(7):
        texts = [" ".join(draw.choice(WORDS, draw.integers(1, 9))) for _ in range(12)]
        write_texts(folder / f"{shard}.jsonl", [f"{shard} {text}" for text in texts])
    return folder


@pytest.fixture(scope="module")
def prepare(folder, tokenizer):
    """A function that gives what each of the processes has prepared. The text is read for its split once."""

    @lru_cache
    def encode(**chosen):
        chosen = {"validation_fraction": 0.2, "split_by": SplitRule.hash, "shuffle_blocks": 4, **chosen}
        config = DataConfig(files=f"{folder}/*.jsonl", streaming=True, **chosen)
        return EncodedCorpus(build_corpus(config, 3), tokenizer)

    def call(ranks=1, lanes=LANES, **chosen):
        found = [prepare_stream(encode(lanes=lanes, **chosen), 8) for _ in range(ranks)]
        for prepared in found:
            prepared.blocks.set_batch_shape(ROWS * ranks, BATCHES // ranks, ranks)
        return found

    return call


@given(shards=st.integers(1, 60), lanes=st.integers(1, 9), seed=st.integers(0, 2**40))
def test_each_shard_is_dealt_to_one_lane(shards, lanes, seed):
    dealt = deal_shards(shards, lanes, seed)
    assert sorted(chain.from_iterable(dealt)) == list(range(shards))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert all(lane == sorted(lane) for lane in dealt)


@given(shards=st.integers(1, 60), lanes=st.integers(1, 9), seed=st.integers(0, 2**40), data=st.data())
def test_a_shard_that_holds_nothing_stands_in_for_no_other(shards, lanes, seed, data):
    empty = data.draw(st.sets(st.integers(0, shards - 1)))
    dealt = deal_shards(shards, lanes, seed, empty)
    assert sorted(chain.from_iterable(dealt)) == list(range(shards))
    assert sum(bool(set(lane) - empty) for lane in dealt) == min(lanes, shards - len(empty))
    assert empty or dealt == deal_shards(shards, lanes, seed)


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
def test_the_order_of_batches_does_not_depend_on_the_processes(prepare, ranks):
    one, several = prepare(), prepare(ranks)
    assert read(several) == read(one)
    assert collect(several).ledger == collect(one).ledger


def test_a_lane_is_the_stream_of_its_own_files(prepare, folder, tokenizer):
    (dealt,) = prepare(shuffle_blocks=1, validation_fraction=0.0)
    for lane in dealt.blocks.sources[0].text.lanes:
        files = [str(folder / f"{shard}.jsonl") for shard in lane.shards]
        config = DataConfig(files=files, streaming=True, shuffle_blocks=1, validation_fraction=0.0)
        alone = prepare_stream(EncodedCorpus(build_corpus(config, 3), tokenizer), 8).blocks.sources[0].text.lanes[0]
        for row in range(0, 80, 8):  # beyond the end of the first pass
            ours, theirs = lane.load_window(row), alone.load_window(row)
            assert (ours.mark.row, ours.mark.turn) == (theirs.mark.row, theirs.mark.turn)
            np.testing.assert_array_equal(ours.rows, theirs.rows)


def test_a_process_opens_the_files_of_its_lanes_alone(prepare, monkeypatch):
    processes = prepare(ranks=2)
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
def test_the_ledger_of_a_pass_is_that_of_one_reader(prepare, folder, tmp_path, given):
    chosen = {}
    if given:
        rows = (folder / "1.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "held.json").write_text("".join([*rows[:3], '{"text": "outra"}\n']), encoding="utf-8")
        chosen = {"validation_files": str(tmp_path / "held.json"), "split_by": SplitRule.given}
    (one,) = prepare(lanes=1, **chosen)
    several = prepare(ranks=2, **chosen)
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
def test_a_run_goes_on_where_it_stopped_also_with_other_processes(prepare, tmp_path, before, after, stop):
    undisturbed = prepare()
    expected = read(undisturbed)
    first = prepare(before)
    assert read(first, 0, stop) == expected[:stop]
    collect(first).blocks.save_position(tmp_path)
    second = prepare(after)
    for prepared in second:
        prepared.blocks.load_position(tmp_path)
    assert read(second, stop) == expected[stop:]
    collect(second).ledger.check()
    assert second[0].ledger == collect(undisturbed).ledger


def test_lanes_that_nobody_has_read_since_keep_their_place(prepare, tmp_path):
    expected = read(prepare())
    begin = 0
    for end in (30, 31, 33, BATCHES):  # a step of one batch, and one of two
        (prepared,) = prepare()
        prepared.blocks.load_position(tmp_path)
        assert read([prepared], begin, end) == expected[begin:end]
        collect([prepared]).blocks.save_position(tmp_path)
        begin = end


def test_batches_of_another_size_are_refused_at_a_resume(prepare, tmp_path):
    (first,) = prepare()
    first.blocks.save_position(tmp_path)
    (second,) = prepare()
    second.blocks.set_batch_shape(ROWS + 1, BATCHES)
    with pytest.raises(
        ConfigError, match=r"batches of 2 rows.*found 3\. Give training\.per_device_train_batch_size=2\."
    ):
        second.blocks.load_position(tmp_path)


def test_what_does_not_go_with_lanes_is_refused(folder):
    for name, value in (("deduplicate", True), ("max_documents", 3), ("max_bytes", 3)):
        with pytest.raises(
            ConfigError, match=rf"data\.lanes=2 and data\.{name} do not go together.*Give data\.lanes=1"
        ):
            DataConfig(files="a", streaming=True, lanes=2, **{name: value})
        DataConfig(files="a", lanes=2, **{name: value})  # the same data, prepared
    config = DataConfig(files=f"{folder}/*.jsonl", streaming=True, lanes=8)
    with pytest.raises(
        DataError, match=r"data\.lanes=8: expected at least as many files .*found 7.*data\.lanes=7 or less"
    ):
        check_shards(config, build_source(config))


def test_empty_files_are_no_files_for_lanes(tmp_path, tokenizer):
    for number in range(4):
        write_texts(tmp_path / f"{number}.jsonl", [f"texto {number} {line}" for line in range(9)])
        (tmp_path / f"{number}-empty.jsonl").touch()
    config = DataConfig(files=f"{tmp_path}/*.jsonl", streaming=True, lanes=5)
    with pytest.raises(DataError, match=r"found 4 with something in them, and 4 empty,.*Give data\.lanes=4 or less"):
        check_shards(config, build_source(config))
    config = DataConfig(files=f"{tmp_path}/*.jsonl", streaming=True, lanes=4, validation_fraction=0.1)
    prepared = prepare_stream(EncodedCorpus(build_corpus(config, 3), tokenizer), 8)
    prepared.blocks.set_batch_shape(2, 100)
    prepared.blocks.check_start(0, 1)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_lane_without_text_is_refused_before_the_first_step(tmp_path, tokenizer, ranks):
    """Its only file holds nothing but white space, which is known once it is read."""
    for number in range(LANES):
        write_texts(tmp_path / f"{number}.jsonl", ["  " if number == 2 else f"texto {line}" for line in range(30)])
    config = DataConfig(files=f"{tmp_path}/*.jsonl", streaming=True, lanes=LANES, validation_fraction=0.1)
    prepared = prepare_stream(EncodedCorpus(build_corpus(config, 3), tokenizer), 8)
    prepared.blocks.set_batch_shape(ROWS * ranks, BATCHES, ranks)
    found = []
    for rank in range(ranks):
        try:
            prepared.blocks.check_start(rank, ranks)
        except DataError as error:
            found.append(str(error))
    assert len(found) == 1
    assert "no training text in one of data.lanes=4" in found[0]


def test_what_was_looked_at_before_the_first_step_is_read_no_other_way(prepare):
    (looked,), (plain,) = prepare(shuffle_blocks=2), prepare(shuffle_blocks=2)
    looked.blocks.check_start(0, 1)
    assert read([looked]) == read([plain])
    assert collect([looked]).ledger == collect([plain]).ledger


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


def test_a_run_says_who_reads_what(folder):
    config = DataConfig(files=f"{folder}/*.jsonl", streaming=True, lanes=4)
    source = build_source(config)
    assert render_lanes(config, source, 2) == "7 files in 4 lanes, 2 for each of 2 processes"
    assert render_lanes(config, source, 1) == "7 files in 4 lanes"
    config.lanes = 1
    assert render_lanes(config, source, 1) is None
    assert "data.lanes=2 each would read files of its own" in render_lanes(config, source, 2)
    config.max_bytes = 100
    assert render_lanes(config, source, 2) == "each of 2 processes reads the whole stream"


def test_a_lane_without_text_is_named(tokenizer, tmp_path):
    for shard, texts in enumerate([WORDS, [" "]]):
        write_texts(tmp_path / f"{shard}.jsonl", texts)
    config = DataConfig(files=f"{tmp_path}/*.jsonl", streaming=True, lanes=2, validation_fraction=0.0)
    prepared = prepare_stream(EncodedCorpus(build_corpus(config, 3), tokenizer), 8)
    with pytest.raises(DataError, match=r"no training text in one of data\.lanes=2.*has 1 of the files"):
        prepared.blocks.__getitems__([0, 1])


def test_files_of_several_kinds_are_streamed_as_one_text(tokenizer, tmp_path):
    write_texts(tmp_path / "a.jsonl", WORDS, column="body")
    (tmp_path / "b.txt").write_text("\n".join(WORDS), encoding="utf-8")
    sources = [
        {"files": f"{tmp_path}/a.jsonl", "text_column": "body"},
        {"files": f"{tmp_path}/b.txt", "documents": "line"},
    ]
    config = DataConfig(sources=sources, streaming=True, lanes=2, validation_fraction=0.0)
    prepared = prepare_stream(EncodedCorpus(build_corpus(config, 3), tokenizer), 8)
    prepared.blocks.__getitems__([0, 1])
    assert collect([prepared]).ledger.documents_kept == 2 * len(WORDS)
    prepared.ledger.check()


def test_reading_again_from_the_start_counts_once(prepare):
    (prepared,) = prepare(lanes=1)
    prepared.blocks.__getitems__([60])
    before = prepared.ledger.as_dict()
    prepared.blocks.__getitems__([0])
    prepared.blocks.__getitems__([60])
    assert prepared.ledger.as_dict() == before
