"""Nothing that is not the run's own changes, whatever it is called and however a command ends."""

import contextlib
import io
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import killing
import pytest
from helpers import TINY_MODEL
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmtune.cli import main
from lmtune.runs import Run
from lmtune.runs.mark import write_mark

NAMES = (
    *(
        "notes.txt",
        "photos/me.jpg",
        "checkpoint-1/me.jpg",
        "checkpoint-2/optimizer.pt",
        "checkpoint-best/me.jpg",
        "model/me.bin",
    ),
    *(
        "results.json",
        "metrics.jsonl",
        "train.log",
        "samples.md",
        "ledger.json",
        "report.html",
        "config.yaml",
        "run.json",
        "sweep.json",
    ),
    *(
        ".hydra/config.yaml",
        ".staging/me",
        ".trash/me",
        ".lock",
        ".lock.json",
        "tracker.json",
        "multirun.yaml",
        "tokenizer.json",
    ),
    *(
        "lr-find.json",
        "lmtune.json",
        "manifest.json",
        "0/results.json",
        "broken-checkpoint-1-1/me",
        "documents-run-sample.csv",
    ),
)
COMMANDS = (
    ("train", "output=mine"),
    ("train", "output=mine", "resume=auto"),
    ("train", "resume=mine"),
    ("train", "-m", "seed=1,2", "hydra.sweep.dir=mine"),
    ("train", "hydra.run.dir=mine"),
    ("tokenizer", "output=mine", "tokenizer.vocab_size=300"),
    ("lr-find", "output=mine", "range.steps=10"),
)
SMALL = (
    *(
        "training.use_cpu=true",
        "training.max_steps=4",
        "training.eval_steps=2",
        "samples.enabled=false",
        "eval.max_tokens=200",
    ),
    *TINY_MODEL,
)


def write(folder, contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def call(*arguments):
    """(exit code, what was said)"""
    with (
        Path(os.devnull).open("w") as nowhere,
        io.StringIO() as said,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(said),
    ):
        return main.run(list(arguments)), said.getvalue()


@settings(max_examples=30, deadline=None)
@given(
    contents=st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=20), min_size=1, max_size=6),
    command=st.sampled_from(COMMANDS),
)
def test_a_folder_of_ones_own_is_refused_and_keeps_every_byte(contents, command):
    with tempfile.TemporaryDirectory() as root, contextlib.chdir(root):
        write(Path("mine"), contents)
        code, said = call(*command)
        assert (code, "mine" in said) == (2, True)
        assert read(Path("mine")) == contents
        assert [path.name for path in Path().iterdir()] == ["mine"]


def test_the_folder_where_one_stands_is_a_folder_of_ones_own(lmtune, tmp_path):
    write(tmp_path, {"model/me.bin": b"mine", "notes.txt": b"mine"})
    answer = lmtune("train", "output=.")
    assert answer.code == 2
    assert "found 2 things in it (model, notes.txt). Nothing of it was touched." in answer.err
    assert read(tmp_path) == {"model/me.bin": b"mine", "notes.txt": b"mine"}


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """A run that was stopped after its second step."""
    folder = tmp_path_factory.mktemp("halfway")
    with contextlib.chdir(folder):
        assert call("train", *SMALL, "output=run")[0] == 0
    run = Run(folder / "run")
    for name in ("checkpoint-4", "model"):
        shutil.rmtree(run.folder / name)
    run.report_file.unlink()
    mark = run.mark
    for name in ("checkpoint-4", "model", "report.html"):
        mark = mark.without_name(name)
    write_mark(run.folder, mark)
    run.write_results({"run": "run", "status": "stopped", "fingerprint": run.load_results()["fingerprint"]})
    return run.folder


ADDED = (
    *(
        "notes.txt",
        "photos/me.jpg",
        "checkpoint-1/me.jpg",
        "checkpoint-2/me.jpg",
        "checkpoint-4/me.jpg",
        "checkpoint-best/me.jpg",
    ),
    *(
        "model/me.bin",
        "report.html",
        ".hydra/me.yaml",
        ".staging/me",
        ".trash/me",
        "tracker.json",
        "transplant.json",
        "sweep.json",
    ),
    *("broken-checkpoint-2-1/me", "tensorboard/me", "results.json.old", "manifest.json"),
)


@settings(max_examples=12, deadline=None, phases=[Phase.generate])  # an example takes a second
@given(added=st.dictionaries(st.sampled_from(ADDED), st.binary(max_size=20), max_size=4))
def test_what_was_put_into_a_run_folder_stays_when_the_run_goes_on(halfway, added):
    with tempfile.TemporaryDirectory() as root:
        folder = Path(shutil.copytree(halfway, Path(root) / "run"))
        write(folder, added)
        code, _ = call("train", f"resume={folder}")
        clashes = {"report.html", "model/me.bin", "checkpoint-1/me.jpg", "checkpoint-4/me.jpg"}
        assert code == (2 if clashes & added.keys() else 0)
        after = read(folder)
        assert {name: after.get(name) for name in added} == added


MINE = {
    "notes.txt": b"mine",
    "checkpoint-best/me.jpg": b"mine",
    ".staging/me": b"mine",
    "photos/metrics.jsonl": b"mine",
}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL, "failed"])
def test_what_lies_beside_and_in_a_run_stays_however_it_ends(tmp_path, ending):
    draw = random.Random(str(ending))
    beside = {
        "outputs/results.json": b"mine",
        "outputs/mine/model/me": b"mine",
        "model/me.bin": b"mine",
        "checkpoint-1/me": b"mine",
    }
    write(tmp_path, beside)
    fails = ("training.learning_rate=1e300", "training.warmup_steps=40") if ending == "failed" else ()
    training = killing.Training(tmp_path, ("training.max_steps=2000", "output=outputs/run", *fails))
    training.start()
    wait_for(tmp_path / "outputs" / "run" / "config.yaml")
    write(tmp_path / "outputs" / "run", MINE)
    if ending != "failed":
        time.sleep(draw.uniform(0, 1.5))
        os.kill(training.processes[0].pid, ending)
    assert training.wait(240) is not None
    if ending == "failed":
        assert Run(tmp_path / "outputs" / "run").load_results()["status"] == "failed"
    after = read(tmp_path)
    assert {name: after.get(name) for name in beside} == beside
    assert {name: after.get(f"outputs/run/{name}") for name in MINE} == MINE


def test_a_checkpoint_that_holds_something_of_the_users_outlives_rotation(tmp_path):
    training = killing.Training(tmp_path, ("training.max_steps=60", "output=run", "training.save_total_limit=2"))
    training.start()
    wait_for(tmp_path / "run" / "checkpoint-5" / "manifest.json")
    write(tmp_path / "run" / "checkpoint-5", {"me.jpg": b"mine"})
    training.finish()
    assert (tmp_path / "run" / "checkpoint-5" / "me.jpg").read_bytes() == b"mine"
    assert "checkpoint-5 holds something that this run has not made, so it stays" in (tmp_path / "log").read_text()
    assert Run(tmp_path / "run").load_results()["status"] == "completed"


def wait_for(path, seconds=90):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come within {seconds} s"
        time.sleep(0.005)
