"""Streams of several sources: shares, order, resume and account are those of one process that was never stopped."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers import write_texts
from streams import WORDS, collect, read

from lmtune.config import DataConfig, SplitRule
from lmtune.config.mixing import resolve_mixed
from lmtune.data import stream_reader
from lmtune.data.build import build_corpus, prepare_training
from lmtune.data.lanes import check_shards
from lmtune.data.sources import build_source
from lmtune.errors import ConfigError, DataError

ROWS, BATCHES = 2, 96


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(stream_reader, "LEAST_ROWS", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four files of `new`, of which a pass lasts longer than a run, and four of `old`, which are read several times."""
    folder, draw = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    for name, documents in (("new", 40), ("old", 9)):
        for shard in range(4):
            texts = [" ".join(draw.choice(WORDS, draw.integers(1, 9))) for _ in range(documents)]
            write_texts(folder / f"{name}-{shard}.jsonl", [f"{name} {shard} {text}" for text in texts])
    return folder


@pytest.fixture
def prepare(folder, tokenizer):
    """A function that gives what each of the processes has prepared."""

    def call(ranks=1, rows=ROWS, **chosen):
        given = {"validation_fraction": 0.2, "split_by": SplitRule.hash, "shuffle_blocks": 4, "streaming": True}
        mix = {"new": 0.7, "old": 0.3}
        files = f"{folder}/new-*.jsonl"
        lead = DataConfig(name="new", **{"files": files, "mix": mix, **given, **chosen})
        other = DataConfig(name="old", files=f"{folder}/old-*.jsonl", validation_fraction=0.1, split_by=SplitRule.hash)
        other = resolve_mixed(lead, other)
        found = [prepare_training(build_corpus(lead, 3), {"old": other}, tokenizer, 8) for _ in range(ranks)]
        for prepared in found:
            prepared.blocks.set_batch_shape(rows * ranks, BATCHES // ranks, ranks)
        return found

    return call


def close(processes):
    """The ledger at the end, checked."""
    prepared = collect(processes)
    prepared.blocks.close_ledger()
    prepared.ledger.check()
    return prepared.ledger.as_dict()


def test_each_source_comes_in_its_own_order_and_by_its_share(prepare, folder, tokenizer):
    (mixed,) = prepare(shuffle_blocks=1)
    rows = [tuple(row) for batch in read([mixed]) for row in batch]
    streams = {}
    for name, source in zip(("new", "old"), mixed.blocks.sources, strict=True):
        fraction = 0.2 if name == "new" else 0.1
        config = DataConfig(
            files=f"{folder}/{name}-*.jsonl", streaming=True, shuffle_blocks=1, validation_fraction=fraction,
            split_by=SplitRule.hash,
        )  # fmt: skip
        alone = prepare_training(build_corpus(config, 3), {}, tokenizer, 8).blocks
        count = mixed.ledger.mix[name]["blocks_per_run"]
        streams[name] = [tuple(row) for row in alone.__getitems__(list(range(count)))["shift_labels"].tolist()]
        assert source.weight == pytest.approx(count / len(rows), abs=0.5 / len(rows))
    assert Counter(rows) == Counter([*streams["new"], *streams["old"]])
    for stream in streams.values():
        remaining = iter(rows)
        assert all(row in remaining for row in stream), "in the order of the stream"


@pytest.mark.parametrize("chosen", [{}, {"prepared": ["old"]}, {"stride": 2}])
@pytest.mark.parametrize("stop", [3, 40, 77])
def test_a_mixture_goes_on_where_it_stopped(prepare, tmp_path, chosen, stop):
    straight, first, second = (prepare(**chosen) for _ in range(3))
    expected = read(straight)
    assert read(first, 0, stop) == expected[:stop]
    collect(first).blocks.save_position(tmp_path)
    second[0].blocks.load_position(tmp_path)
    assert read(second, stop) == expected[stop:]
    ledger = close(second)
    assert ledger == close(straight)
    assert ledger["mix"]["old"]["ledger"]["documents_kept"] > 20


@pytest.mark.parametrize("chosen", [{}, {"prepared": ["old"]}])
@pytest.mark.parametrize(("before", "after", "stop"), [(1, 1, 30), (2, 4, 20), (4, 1, 60)])
def test_the_order_in_lanes_does_not_depend_on_the_processes(prepare, tmp_path, chosen, before, after, stop):
    straight, first, second = (
        prepare(lanes=4, **chosen),
        prepare(before, lanes=4, **chosen),
        prepare(after, lanes=4, **chosen),
    )
    expected = read(straight)
    assert read(first, 0, stop) == expected[:stop]
    collect(first).blocks.save_position(tmp_path)
    for prepared in second:
        prepared.blocks.load_position(tmp_path)
    assert read(second, stop) == expected[stop:]
    assert close(second) == close(straight)


def test_a_process_that_learns_no_row_of_a_source_knows_where_it_stands(prepare):
    chosen = {"rows": 1, "mix": {"new": 1.0, "old": 1.0}}
    processes, alone = prepare(2, **chosen), prepare(**chosen)
    expected = read(alone, rows=1)
    assert read(processes, rows=1) == expected
    assert [close([prepared])["mix"] for prepared in processes] == [close(alone)["mix"]] * 2
    assert processes[0].ledger.mix["old"]["ledger"]["blocks"] > 0


def test_a_source_that_is_read_to_its_end_begins_anew_in_another_order(prepare):
    for chosen, count in (({}, None), ({"prepared": ["old"]}, "blocks")):
        (mixed,) = prepare(mix={"new": 1.0, "old": 2.0}, **chosen)
        source = mixed.blocks.sources[1].text
        of_pass = mixed.ledger.mix["old"][count] if count else None
        rows = [tuple(source.load([(0, row)])["shift_labels"][0].tolist()) for row in range(200)]
        of_pass = of_pass or mixed.blocks.sources[1].text.ledger.blocks
        assert len(rows) > 2 * of_pass
        passes = [rows[:of_pass], rows[of_pass : 2 * of_pass]]
        assert passes[0] != passes[1]
        learned = [sorted(token for row in each for token in row if token >= 0) for each in passes]
        assert abs(len(learned[0]) - len(learned[1])) <= 1, "shards in another order: another token is first of all"


@pytest.mark.parametrize("prepared", [[], ["old"]])
def test_what_one_source_holds_out_is_not_learned_from_another(tmp_path, tokenizer, prepared):
    texts = [f"um documento, número {n}, com algumas palavras" for n in range(120)]
    for name in ("new", "old"):
        write_texts(tmp_path / f"{name}.jsonl", texts)
    mix = {"new": 0.5, "old": 0.5}
    lead = DataConfig(
        name="new", files=str(tmp_path / "new.jsonl"), mix=mix, prepared=prepared, streaming=True,
        validation_fraction=0.3, split_by=SplitRule.hash,
    )  # fmt: skip
    old = DataConfig(name="old", files=str(tmp_path / "old.jsonl"), validation_fraction=0.05, split_by=SplitRule.hash)
    corpus = build_corpus(lead, 0)
    mixed = prepare_training(corpus, {"old": resolve_mixed(lead, old)}, tokenizer, 128)
    mixed.blocks.set_batch_shape(4, 200)
    learned = " ".join(tokenizer.batch_decode(mixed.blocks.__getitems__(list(range(400)))["input_ids"]))
    held = set(corpus.texts("validation"))
    ledger = close([mixed])
    assert ledger["mix"]["old"]["ledger"]["documents_held_elsewhere"] == len(held) > 20
    assert not [text for text in held if text in learned]
    assert sum(text in learned for text in texts) > 60


def test_what_cannot_be_streamed_in_lanes_may_be_prepared_whole(folder):
    config = DataConfig(name="old", files=f"{folder}/old-*.jsonl", streaming=True, lanes=5)
    with pytest.raises(
        DataError, match=r"lanes=5: .* files of old .*found 4.*or prepare it whole: data\.prepared=\[old\]"
    ):
        check_shards(config, build_source(config), mixed=True)
    lead = DataConfig(name="new", files="a", streaming=True, lanes=2, mix={"new": 1, "old": 1})
    other = DataConfig(name="old", files="b", deduplicate=True)
    with pytest.raises(ConfigError, match=r"data\.mix cannot stream old: .*data\.deduplicate.*data\.prepared=\[old\]"):
        resolve_mixed(lead, other)
    whole = resolve_mixed(replace(lead, prepared=["old"]), other)
    assert not whole.streaming
    assert resolve_mixed(replace(lead, streaming=False), other) is other
