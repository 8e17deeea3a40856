"""A text prepared in parts is the text that one process prepares: the same rows, held-out text, account and key."""

import errno
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import write_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtune.config import DataConfig, DocumentRule, SplitRule
from lmtune.config.parts import Shard, read_shard
from lmtune.data import cache
from lmtune.data.blocks import RowCutter
from lmtune.data.corpus import Corpus
from lmtune.data.lines import LineRows
from lmtune.data.merging import join_parts
from lmtune.data.part_files import load_parts
from lmtune.data.parts import cut_files, prepare_part
from lmtune.data.past import build_past
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import CheckpointError, ConfigError, DataError
from lmtune.paths import GivenPath


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """Gives each of several machines a cache of its own."""

    def use(name):
        monkeypatch.setenv("LMTUNE_CACHE", str(tmp_path / "caches" / name))
        return tmp_path / "caches" / name

    return use


@pytest.fixture
def files(tmp_path, texts):
    """Seven files of different sizes, one of them empty of documents."""
    draw = random.Random(3)
    (tmp_path / "texts").mkdir()
    for number in range(6):
        chosen = [f"{draw.choice(texts)} {number} {row}" for row in range(10 + 17 * number)]
        write_texts(tmp_path / "texts" / f"{number}.jsonl", [*chosen, "", chosen[0]])
    write_texts(tmp_path / "texts" / "6.jsonl", [""])
    return str(tmp_path / "texts" / "*.jsonl")


def prepare_all(folder, config, tokenizer, count, past=None):
    """All parts, the last one first."""
    for number in range(count, 0, -1):
        given = GivenPath("output", str(folder / str(number)), CheckpointError)
        prepare_part(config, Shard(number, count), given, tokenizer, past)


def read_entries(folder):
    """What the entries of a cache hold, by their keys."""
    entries = {}
    for record in folder.glob("*/record.json"):
        content = json.loads(record.read_text())["content"]
        content.pop(cache.ELSEWHERE, None)
        others = {file.name: file.read_bytes() for file in record.parent.iterdir() if file.suffix == ".npy"}
        entries[record.parent.name] = (json.dumps(content), others)
    return entries


def read_rows(prepared):
    batch = prepared.blocks.__getitems__(list(range(len(prepared.blocks) + 2)))
    return {name: column.tolist() for name, column in batch.items()}


VARIANTS = {
    "plain": {},
    "stride": {"stride": 5},
    "test and isolated": {"test_fraction": 0.1, "isolate_documents": True, "seed": 7},
    "rows joined": {"rows_per_document": 3, "min_chars": 200},
    "lines of tables": {"documents": DocumentRule.line},
    "all learned": {"validation_fraction": 0.0},
}


@pytest.mark.parametrize(("variant", "count"), [*((name, 3) for name in VARIANTS), ("plain", 1), ("plain", 7)])
def test_parts_merge_to_what_one_process_prepares(tmp_path, cache_folder, tokenizer, files, variant, count):
    config = DataConfig(files=files, **{"split_by": SplitRule.hash, **VARIANTS[variant]})
    alone = cache_folder("alone")
    expected = EncodedCorpus(Corpus(config, config.seed), tokenizer).prepare(16)
    cache_folder("elsewhere")
    prepare_all(tmp_path / "parts", config, tokenizer, count)
    merged = cache_folder("merged")
    parts = load_parts(str(tmp_path / "parts"))
    found = join_parts(config, parts, tokenizer, None).prepare(16)
    assert len(read_entries(merged)) == 2
    assert read_entries(merged) == read_entries(alone)
    assert read_rows(found) == read_rows(expected)
    assert list(map(np.ndarray.tolist, found.blocks.read())) == list(map(np.ndarray.tolist, expected.blocks.read()))
    assert found.facts == expected.facts
    assert found.ledger.as_dict() == expected.ledger.as_dict()
    assert not list(merged.rglob("train.arrow")), "no ids are copied"


def test_documents_that_the_source_keeps_apart_are_compared_with_all_parts(
    tmp_path, cache_folder, tokenizer, files, texts
):
    learned = [json.loads(line)["text"] for line in (tmp_path / "texts" / "5.jsonl").read_text().splitlines()]
    apart = str(write_texts(tmp_path / "apart.jsonl", [*texts[:20], *learned[3:9]]))
    config = DataConfig(files=files, validation_files=apart, test_fraction=0.1)
    alone = cache_folder("alone")
    expected = EncodedCorpus(Corpus(config, config.seed), tokenizer).prepare(16)
    merged = cache_folder("merged")
    prepare_all(tmp_path / "parts", config, tokenizer, 4)
    found = join_parts(config, load_parts(str(tmp_path / "parts" / "*")), tokenizer, None).prepare(16)
    assert read_entries(merged) == read_entries(alone)
    assert found.ledger.documents_in_training == expected.ledger.documents_in_training > 0


def test_what_a_model_knows_is_known_in_every_part(tmp_path, cache_folder, tokenizer, files):
    from lmtune.data.columns import build_texts

    config = DataConfig(files=files, split_by=SplitRule.hash)
    known = list(Corpus(config, config.seed).texts("validation"))
    learned = list(Corpus(config, config.seed).texts("train"))
    past = build_past([build_texts(known[:3])], [build_texts(learned[:4])])
    alone = cache_folder("alone")
    expected = EncodedCorpus(Corpus(config, config.seed, past=past), tokenizer).prepare(16)
    merged = cache_folder("merged")
    prepare_all(tmp_path / "parts", config, tokenizer, 2, past)
    parts = load_parts(str(tmp_path / "parts"))
    found = join_parts(config, parts, tokenizer, past).prepare(16)
    assert read_entries(merged) == read_entries(alone)
    assert found.ledger.documents_spared == expected.ledger.documents_spared > 0
    with pytest.raises(DataError, match="was prepared for a model that has learned other text before"):
        join_parts(config, parts, tokenizer, None)


@pytest.fixture
def merging(tmp_path, cache_folder, tokenizer, files):
    """A function that merges three parts, as they are now, with some settings."""
    cache_folder("own")
    config = {"files": files, "split_by": SplitRule.hash}
    prepare_all(tmp_path / "parts", DataConfig(**config), tokenizer, 3)

    def merge(**changed):
        parts = load_parts(str(tmp_path / "parts"))
        return join_parts(DataConfig(**{**config, **changed}), parts, tokenizer, None).prepare(16)

    return merge


@pytest.mark.parametrize(
    "record",
    [
        {"content": "parts of a machine", "files": []},
        {"content": {"part": 1}},
        {"content": {"part": 1, "of": 3}, "files": {}, "key": "0" * 32, "xxh3_128": "0" * 32},
        {"content": None},
        [1, 2],
    ],
)
def test_a_record_that_lmtune_has_not_written_is_no_part(tmp_path, record):
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    with pytest.raises(
        DataError, match=r"record\.json: expected the record of a part as lmtune has written it.*leave this one out"
    ):
        load_parts(str(tmp_path))
    assert json.loads(file.read_text()) == record


def test_a_part_whose_record_was_changed_is_not_believed(tmp_path, merging):
    file = tmp_path / "parts" / "2" / "record.json"
    file.write_text(file.read_text().replace('"of": 3', '"of": 2'))
    with pytest.raises(DataError, match="found one that was changed"):
        merging()


def test_what_does_not_fit_together_is_refused_by_name(tmp_path, merging, texts):
    from lmtune.modeling.tokenizer import learn_tokenizer

    parts, source = tmp_path / "parts", tmp_path / "texts"
    with pytest.raises(DataError, match=r"part 1/3 .* was prepared with data.min_chars=0, found data.min_chars=5 here"):
        merging(min_chars=5)
    other = learn_tokenizer(texts, vocab_size=300, max_length=64)
    with pytest.raises(DataError, match=r"part 1/3 .* was prepared with another tokenizer than that of model="):
        join_parts(DataConfig(files=str(source / "*"), split_by=SplitRule.hash), load_parts(str(parts)), other, None)
    (parts / "2").rename(tmp_path / "2")
    with pytest.raises(DataError, match=r"expected all 3 parts, found 2; missing: 2\."):
        merging()
    shutil.copytree(parts / "3", parts / "2")
    with pytest.raises(DataError, match=r"part 3/3 .* is also in .*2, expected each once"):
        merging()
    shutil.rmtree(parts / "2")
    (parts / "2").mkdir()
    with pytest.raises(DataError, match=r"Expected a finished part in .*parts/2, found none"):
        merging()
    (parts / "2").rmdir()
    (tmp_path / "2").rename(parts / "2")
    (source / "7.jsonl").write_text('{"text":"more"}\n')
    with pytest.raises(DataError, match="was cut from other files: 7 files, and there are 8 now"):
        merging()
    (source / "7.jsonl").unlink()
    merging()


def test_files_and_parts_that_change_are_noticed(tmp_path, merging):
    file, ids = tmp_path / "texts" / "4.jsonl", tmp_path / "parts" / "3" / "train.ids"
    content, date = file.read_bytes(), file.stat()
    file.write_bytes(content.replace(b"4 11", b"4 99"))
    os.utime(file, ns=(date.st_atime_ns, date.st_mtime_ns))
    with pytest.raises(DataError, match=r"4\.jsonl has changed since part 2/3 .* was prepared"):
        merging()
    file.write_bytes(content)
    whole = ids.read_bytes()
    ids.write_bytes(b"\1" + whole[1:])
    with pytest.raises(DataError, match=r"train\.ids is not as it was written, so part 3/3 is damaged"):
        merging()
    ids.write_bytes(whole)
    merging()


def test_text_is_prepared_anew_where_a_part_that_it_was_merged_from_is_gone(
    tmp_path, merging, tokenizer, files, caplog
):
    rows = read_rows(merging())
    config = DataConfig(files=files, split_by=SplitRule.hash)
    shutil.rmtree(tmp_path / "parts" / "1")
    cache._tell_once.cache_clear()
    with caplog.at_level("INFO", "lmtune"):
        assert read_rows(EncodedCorpus(Corpus(config, config.seed), tokenizer).prepare(16)) == rows
    assert "parts/1/train.ids), so it is prepared anew" in caplog.text


def test_training_reads_no_text_after_a_merge(merging, tokenizer, files, monkeypatch):
    rows = read_rows(merging())
    config = DataConfig(files=files, split_by=SplitRule.hash)
    monkeypatch.setattr(Corpus, "load_documents", lambda *_: pytest.fail("text was read"))
    assert read_rows(EncodedCorpus(Corpus(config, config.seed), tokenizer).prepare(16)) == rows


def test_a_file_that_another_process_has_read_is_not_read_again(tmp_path, merging, cache_folder, monkeypatch):
    for file in (tmp_path / "texts").iterdir():
        os.utime(file, (1e9, 1e9))
    cache_folder("first")
    notes = {}
    for file in (tmp_path / "texts").iterdir():
        cache.checksum_file(file)
        notes[file] = cache.load_note(file)
    cache_folder("second")
    monkeypatch.setattr(cache, "checksum", lambda file: pytest.fail("it was read"))
    for file, note in notes.items():
        cache.adopt_note(file, note)
        assert cache.checksum_file(file) == note["checksum"]
    cache_folder("third")
    cache.adopt_note(file, {**note, "inode": 1})
    assert cache.load_note(file) == {}, "another file is not taken for the one that was read"


def test_a_part_that_is_there_is_not_prepared_again(tmp_path, merging, tokenizer, files, monkeypatch):
    config = DataConfig(files=files, split_by=SplitRule.hash)
    given = GivenPath("output", str(tmp_path / "parts" / "2"), CheckpointError)
    monkeypatch.setattr(cache, "build_entry", lambda *_, **__: pytest.fail("it was prepared again"))
    assert prepare_part(config, Shard(2, 3), given, tokenizer, None).number == 2
    with pytest.raises(DataError, match=r"holds part 2/3 .*, expected part 1/3"):
        prepare_part(config, Shard(1, 3), given, tokenizer, None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="expected a new folder or an empty one"):
        prepare_part(config, Shard(2, 3), GivenPath("output", str(tmp_path / "mine"), CheckpointError), tokenizer, None)


def test_a_part_that_could_not_be_written_leaves_nothing(tmp_path, cache_folder, tokenizer, files, monkeypatch):
    cache_folder("own")
    config, given = DataConfig(files=files), GivenPath("output", str(tmp_path / "parts" / "1"), CheckpointError)

    def fill_the_disk(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fill_the_disk)
        with pytest.raises(CheckpointError, match="expected a folder to write in, found No space left on device"):
            prepare_part(config, Shard(1, 2), given, tokenizer, None)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [".1.lock"]
    assert prepare_part(config, Shard(1, 2), given, tokenizer, None).number == 1


def test_stretches_take_the_whole_text(tmp_path, cache_folder, tokenizer, texts):
    for number in range(3):
        write_texts(tmp_path / f"{number}.jsonl", texts[number * 3 : number * 3 + 3])
    config = DataConfig(files=str(tmp_path / "*.jsonl"))
    cache_folder("own")
    prepare_all(tmp_path / "parts", config, tokenizer, 3)
    with pytest.raises(DataError, match=r"9 documents are few, .* Say data.split_by=hash"):
        join_parts(config, load_parts(str(tmp_path / "parts")), tokenizer, None).prepare(16)


@given(
    sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=40),
    parts=st.integers(1, 40),
)
def test_parts_are_runs_of_all_files_in_order_and_none_is_empty(sizes, parts):
    if parts > len(sizes):
        with pytest.raises(DataError, match="expected at most as many parts as there are files"):
            cut_files(sizes, parts)
        return
    cut = cut_files(sizes, parts)
    assert [number for part in cut for number in part] == list(range(len(sizes)))
    assert len(cut) == parts
    assert min(map(len, cut)) >= 1


def test_parts_are_of_about_equal_size():
    assert cut_files([1] * 12, 4) == [range(0, 3), range(3, 6), range(6, 9), range(9, 12)]
    assert cut_files([100, 1, 1, 1, 1, 100], 3) == [range(0, 1), range(1, 5), range(5, 6)]


@pytest.mark.parametrize("given_shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_is_one_of_several(given_shard):
    with pytest.raises(ConfigError, match="the number of a part and how many there are"):
        read_shard(given_shard)


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6), block=st.integers(2, 12), overlap=st.integers(0, 5)
)
@settings(deadline=None, max_examples=40)
def test_rows_of_several_files_are_those_of_one_line(tmp_path_factory, lengths, block, overlap):
    overlap = min(overlap, block - 1)
    folder, dtype = tmp_path_factory.mktemp("ids"), np.dtype(np.uint16)
    line = np.arange(1, sum(lengths) + 1).astype(dtype)
    pieces = np.split(line, np.cumsum(lengths)[:-1])
    for number, piece in enumerate(pieces):
        piece.tofile(folder / str(number))
    cutter = RowCutter(block, overlap, dtype)
    cutter.add(line)
    expected = np.concatenate([cutter.take(), cutter.finish(0)])
    rows = LineRows([folder / str(number) for number in range(len(pieces))], dtype, block, overlap, 0)
    assert len(rows) == len(expected)
    assert np.array_equal(rows[:]["ids"], expected)
    again = pickle.loads(pickle.dumps(rows))
    assert np.array_equal(again[np.arange(len(rows))[::-1]]["ids"], expected[::-1])


STUB = """#!/bin/sh
for argument in "$@"; do printf '%s\\n' "$argument"; done > "$CALLS/$(basename "$0")-$SLURM_ARRAY_TASK_ID"
"""


def run_array(folder, arguments, tasks):
    """The script of docs/ under SLURM, which is a stub: what it calls is written down."""
    bin_folder, script = folder / "bin", Path(__file__).parents[1] / "docs" / "prepare-array.sh"
    bin_folder.mkdir()
    for name, text in {"sbatch": STUB, "lmtune": STUB, "srun": '#!/bin/sh\nexec "$@"\n'}.items():
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    known = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "CALLS": str(folder)}
    array = {"SLURM_ARRAY_TASK_COUNT": str(tasks), "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_JOB_ID": "77"}
    for task in range(1, tasks + 1):
        known.update(array, SLURM_ARRAY_TASK_ID=str(task))
        subprocess.run(["bash", script, *arguments], env=known, cwd=folder, check=True)
    for name in (*array, "SLURM_ARRAY_TASK_ID"):
        known.pop(name)
    subprocess.run(["bash", script, *arguments], env=known, cwd=folder, check=True)
    return {file.name: file.read_text().splitlines() for file in folder.glob("*-*") if file.is_file()}


def test_an_array_of_slurm_calls_for_each_part_once_and_then_for_the_merge(tmp_path):
    arguments = ["data.files=my texts/*", "model=gpt2"]
    calls = run_array(tmp_path, arguments, tasks=2)
    dependency, _, script, *rest = calls.pop("sbatch-1")
    assert (dependency, Path(script).name, rest) == ("--dependency=afterok:77", "prepare-array.sh", arguments)
    assert calls == {
        "lmtune-1": ["data", "shard=1/2", "output=parts/1", *arguments],
        "lmtune-2": ["data", "shard=2/2", "output=parts/2", *arguments],
        "lmtune-": ["data", "merge=parts", *arguments],
    }


@pytest.mark.slow
def test_an_array_of_slurm_prepares_all_parts_and_joins_them(lmtune, tmp_path, cache_folder, tokenizer, files):
    cache_folder("own")
    tokenizer.save_pretrained(tmp_path / "tok")
    arguments = ["data.files=texts/*", "data.block_size=16", "model.tokenizer=tok", "data.split_by=hash"]
    calls = run_array(tmp_path, arguments, tasks=2)
    for task in ("1", "2"):
        answer = lmtune(*calls[f"lmtune-{task}"])
        assert answer.code == 0, answer.err
        assert answer.out.startswith(f"part {task} of 2: ")
    merged = lmtune(*calls["lmtune-"])
    assert merged.code == 0, merged.err
    *ledger, last = merged.out.splitlines()
    assert last == "joined from 2 parts, whose folders are read from now on"
    assert "starts from it" in merged.err
    shutil.rmtree(tmp_path / "parts")
    assert lmtune("data", *arguments).out.startswith("\n".join(ledger))


@pytest.mark.slow
def test_datatrove_prepares_all_parts_and_joins_them(lmtune, tmp_path, cache_folder, tokenizer, files):
    pytest.importorskip("datatrove")
    cache_folder("own")
    tokenizer.save_pretrained(tmp_path / "tok")
    arguments = ["data.files=texts/*", "data.block_size=16", "model.tokenizer=tok", "data.split_by=hash"]
    script = Path(__file__).parents[1] / "docs" / "prepare_datatrove.py"

    def prepare(*given):
        return subprocess.run(
            [sys.executable, script, "3", *given], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    damaged = tmp_path / "parts" / "2"
    damaged.mkdir(parents=True)
    (damaged / "mine").write_text("")
    failed = prepare(*arguments)
    assert failed.returncode != 0
    assert "parts/2" in failed.stderr
    shutil.rmtree(damaged)
    done = prepare(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    *ledger, last = done.stdout.splitlines()
    assert last == "joined from 3 parts, whose folders are read from now on"
    cache_folder("alone")
    alone = lmtune("data", *arguments).out.splitlines()
    ledger = ledger[ledger.index(alone[0]) :]
    assert alone[: len(ledger)] == ledger


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("shard=1/3", "expected both, a part and the folder for it"),
        ("output=x", "expected both, a part and the folder for it"),
        ("shard=4/3 output=x", "shard=4/3: expected the number of a part"),
        ("shard=1/3 output=x merge=parts", "expected one of them: parts first, then all of them"),
        ("merge=parts data.deduplicate=true", "parts do not depend on each other, found data.deduplicate=true"),
        ("merge=parts private=true", "private has no effect: no text is shown of parts"),
        ("merge=nowhere", "merge=nowhere: expected folders of parts, found none"),
        ("shard=1/3 output=x model.tokenizer=learn", "shard= needs a vocabulary that is there before the text is read"),
        ("cache=list shard=1/3 output=x", "cache=list is about all that is kept"),
    ],
)
def test_what_cannot_be_a_part_is_refused(lmtune, tmp_path, tokenizer, texts, arguments, complaint):
    write_texts(tmp_path / "a.jsonl", texts)
    tokenizer.save_pretrained(tmp_path / "tok")
    answer = lmtune("data", "data.files=a.jsonl", "model.tokenizer=tok", *arguments.split())
    assert answer.code == 2
    assert complaint in answer.err


def test_a_merge_without_a_cache_is_refused(cache_folder):
    cache_folder("own")
    with pytest.raises(DataError, match="Prepared text has to stay for others"):
        cache.check_kept("0" * 32)


@pytest.mark.slow
def test_a_training_starts_from_merged_text_and_ends_as_from_text_prepared_at_once(
    lmtune, tmp_path, cache_folder, tokenizer, files
):
    tokenizer.save_pretrained(tmp_path / "tok")
    text = ["data.files=texts/*", "data.block_size=32", "model.tokenizer=tok", "data.split_by=hash"]
    run = ["training.max_steps=6", "training.use_cpu=true", "samples.enabled=false", "format=json"]
    cache_folder("alone")
    alone = lmtune("train", *text, *run)
    assert alone.code == 0, alone.err
    cache_folder("merged")
    for number in (1, 2):
        assert lmtune("data", f"shard={number}/2", f"output=parts/{number}", *text).code == 0
    assert lmtune("data", "merge=parts", *text).code == 0
    merged = lmtune("train", *text, *run)
    found, expected = ({**answer.json["eval"]["files"], "protocol": 0, "seconds": 0} for answer in (merged, alone))
    assert found == expected
    assert not list((tmp_path / "caches" / "merged").rglob("train.arrow"))
