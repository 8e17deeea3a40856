"""data.lanes under torchrun: two processes learn the batches of one, each from its own files, and go on after a kill."""

import json
import os
import subprocess
import sys
import time
from itertools import chain

import psutil
import pytest
from helpers import TINY_MODEL, write_texts

pytestmark = pytest.mark.slow

NOTING = """
import json, os, sys
from lmtune.data.file_source import FileSource
from lmtune.data.lanes import Lane
from lmtune.data.streaming import StreamedBlocks

def note(**what):
    with open(f"read-by-{os.environ.get('RANK', '0')}.jsonl", "a") as file:
        file.write(json.dumps(what) + "\\n")

get, load, training = StreamedBlocks.__getitems__, FileSource.load_rows, []

def get_noting(self, rows):
    training[:] = [True]
    batch = get(self, rows)
    training.clear()
    note(rows=rows, ids=batch["input_ids"].tolist())
    return batch

def load_noting(self, split, shard):
    if training:
        note(file=self.files[split][shard].name)
    return load(self, split, shard)

StreamedBlocks.__getitems__, FileSource.load_rows = get_noting, load_noting
from lmtune.cli.main import main
sys.exit(main())
"""
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
RUN = (
    *("train", "output=run", "data.files=*.jsonl", "data.streaming=true", "data.lanes=4", "data.shuffle_blocks=16"),
    *("data.block_size=16", "training.max_steps=36", "training.use_cpu=true", "training.bf16=false", *TINY_MODEL),
    *("batch.tokens=256", "training.per_device_train_batch_size=4", "training.eval_steps=12", "training.save_steps=12"),
    *("training.save_total_limit=9", "samples.enabled=false", "report.enabled=false"),
)
FILES = {"new": 6, "old": 5}
MIXED = ("data.mix={files:0.7,old:0.3}", "data.block_size=8", "batch.tokens=128")


@pytest.fixture
def start(tmp_path):
    """A function that starts the run in a folder of its own, and one that waits for its end."""
    started = []

    def begin(name, *arguments, launcher=TORCHRUN):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "noting.py").write_text(NOTING)
        for place, name in ((folder, "new"), (folder / "old", "old")):
            place.mkdir(exist_ok=True)
            for shard in range(FILES[name]):
                texts = [f"{name} {shard}.{n} sobre saúde e exames {n * 7}" for n in range(40 + shard)]
                os.utime(
                    write_texts(place / f"{name}-{shard}.jsonl", texts), (0, 0)
                )  # of a stream, the dates of files count
        (folder / "conf" / "data").mkdir(parents=True, exist_ok=True)
        (folder / "conf" / "data" / "old.yaml").write_text("files: old/*.jsonl\n")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*launcher, "noting.py", *RUN, *arguments], cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return folder, process

    yield begin
    for process in started:
        kill(process)
        process.communicate()


def kill(process):
    """End a launcher and what it has started, as a machine that goes out would."""
    if process.poll() is None:
        family = psutil.Process(process.pid)
        for each in [*family.children(recursive=True), family]:
            each.kill()


def finish(process):
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err[-3000:]
    return err


def load_notes(folder):
    """(ids by number of the row, files opened for training by rank)."""
    ids, files = {}, {}
    for rank in range(2):
        file = folder / f"read-by-{rank}.jsonl"
        for note in map(json.loads, file.read_text().splitlines() if file.exists() else []):
            ids |= dict(zip(note.get("rows", []), note.get("ids", []), strict=True))
            files.setdefault(rank, set()).update([note["file"]] if "file" in note else [])
    return ids, files


def load_ledger(folder):
    ledger = json.loads((folder / "run" / "ledger.json").read_text())
    others = [part["ledger"] for part in ledger["mix"].values() if "ledger" in part]
    for source in chain.from_iterable(each["sources"] for each in (ledger, *others)):
        source.pop("name")
    return ledger


@pytest.mark.parametrize("mixed", [(), MIXED])
def test_two_processes_learn_the_batches_of_one_and_go_on_after_a_kill(start, mixed):
    one, process = start("one", *mixed, launcher=(sys.executable,))
    assert "data: 6 files in 4 lanes" in finish(process)
    two, process = start("two", *mixed)
    said = finish(process)
    assert "data: 6 files in 4 lanes, 2 for each of 2 processes" in said
    assert ("mix: old: 173 blocks of the run, streamed" in said) == bool(mixed)
    (alone, _), (together, files) = load_notes(one), load_notes(two)
    assert len(alone) == 36 * 16
    assert together == alone, "every row of every batch"
    assert not files[0] & files[1], "no file is read by both"
    read = ("new", "old") if mixed else ("new",)
    assert files[0] | files[1] == {f"{name}-{shard}.jsonl" for name in read for shard in range(FILES[name])}
    assert load_ledger(two) == load_ledger(one)
    assert load_ledger(one)["lanes"] == 4
    scores = [
        json.loads((folder / "run" / "results.json").read_text())["eval"]["files"]["loss"] for folder in (one, two)
    ]
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)

    killed, process = start("killed", *mixed)
    end = time.monotonic() + 900
    while not (killed / "run" / "checkpoint-12" / "manifest.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    kill(process)
    for part in killed.glob("read-by-*"):
        part.unlink()
    assert not (killed / "run" / "model").exists(), "it was faster than the kill"
    _, process = start("killed", *mixed, "resume=auto")
    assert "resuming from checkpoint-1" in finish(process)
    weights = [(folder / "run" / "model" / "model.safetensors").read_bytes() for folder in (two, killed)]
    assert weights[0] == weights[1], "bit-equal to the run that was never stopped"
    assert load_ledger(killed) == load_ledger(two)
    again, _ = load_notes(killed)
    assert min(again) >= 12 * 16, "no row is read again"
    assert all(together[row] == ids for row, ids in again.items())


def test_a_run_of_two_processes_goes_on_in_one(start):
    folder, process = start("run", "training.max_steps=24")
    finish(process)
    whole, _ = load_notes(folder)
    moved = folder / "run"
    for name in ("checkpoint-24", "model"):
        for file in (moved / name).iterdir():
            file.unlink()
        (moved / name).rmdir()
    results = json.loads((moved / "results.json").read_text())
    (moved / "results.json").write_text(json.dumps({**results, "status": "stopped"}))
    ledger = load_ledger(folder)
    for part in folder.glob("read-by-*"):
        part.unlink()
    _, process = start("run", "training.max_steps=24", "resume=auto", launcher=(sys.executable,))
    assert "processes 2 then, 1 now" in finish(process)
    again, _ = load_notes(folder)
    assert again == {row: ids for row, ids in whole.items() if row >= 12 * 16}
    assert load_ledger(folder) == ledger


def test_processes_that_do_not_divide_the_lanes_are_refused_once(start):
    _, process = start("refused", "data.lanes=3")
    _, err = process.communicate(timeout=900)
    assert process.returncode == 1
    assert err.count("error: data.lanes=3: expected a number of processes that divides it, found 2.") == 1, err
