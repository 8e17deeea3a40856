"""A run goes on from wherever one stands, from copies, with options typed anywhere; what cannot go on says what to type."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from helpers import TINY_MODEL

from lmtune.runs import Run

STEPS = (
    *("training.use_cpu=true", "training.max_steps=4", "training.eval_steps=2", "samples.enabled=false"),
    *(*TINY_MODEL, "eval.max_tokens=200"),
)


@pytest.fixture
def texts_file(tmp_path):
    file = tmp_path / "texts" / "meus (1).txt"
    file.parent.mkdir()
    file.write_text("\n\n".join(f"Documento {n} sobre saúde, exames e ${{n}}." for n in range(60)), encoding="utf-8")
    return file


def stop_halfway(folder):
    """Leave a completed run as a kill after its second step would have left it."""
    run = Run(Path(folder))
    for name in ("checkpoint-4", "model"):
        shutil.rmtree(run.folder / name)
    run.report_file.unlink()
    run.write_results({"run": "run", "status": "stopped", "fingerprint": run.load_results()["fingerprint"]})
    return run


def weights(run):
    return (run.model_folder / "model.safetensors").read_bytes()


@pytest.fixture
def mine(tmp_path, texts_file):
    """A data set of the user's own, by a name that only this folder knows."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(
        "files: texts/meus (1).txt\ndocuments: blank_line\nblock_size: 32\nprompts: [Documento]\n"
    )


@pytest.mark.parametrize(
    "told", [["data=mine"], ["data.files=texts/meus (1).txt", "data.documents=blank_line", "data.block_size=32"]]
)
def test_a_run_goes_on_from_any_folder_and_from_a_copy_of_its_visible_files(lmtune, mine, tmp_path, monkeypatch, told):
    answer = lmtune("train", *told, *STEPS, "eval_data=[sample]", "output=run")
    assert answer.code == 0, answer.err
    expected = weights(Run(tmp_path / "run"))
    stop_halfway(tmp_path / "run")
    elsewhere, copy = tmp_path / "elsewhere", tmp_path / "copy"
    elsewhere.mkdir()
    copy.mkdir()
    subprocess.run(f"cp -r {tmp_path}/run/* {copy}", shell=True, check=True)
    assert not (copy / ".hydra").exists()
    monkeypatch.chdir(elsewhere)
    before = (tmp_path / "run" / "results.json").read_text()
    for folder in (copy, tmp_path / "run"):
        answer = lmtune("train", f"resume={folder}")
        assert answer.code == 0, answer.err
        assert "resuming from checkpoint-2" in answer.err
        assert weights(Run(folder)) == expected
        assert folder == tmp_path / "run" or (tmp_path / "run" / "results.json").read_text() == before
    assert list(elsewhere.iterdir()) == []


def test_what_is_typed_at_a_resume_wins_and_groups_that_were_chosen_then_may_be_typed_again(lmtune, tmp_path):
    settings = ("data=sample", "model=gpt2-tiny", "tracker=none", *STEPS)
    assert lmtune("train", *settings, "output=run").code == 0
    run = stop_halfway(tmp_path / "run")
    answer = lmtune(
        "train",
        *settings,
        f"resume={run.folder}",
        "samples.enabled=true",
        "prompts=Era uma vez",
        "training.logging_steps=1",
    )
    assert answer.code == 0, answer.err
    config = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    assert config["prompts"] == ["Era uma vez"]
    assert config["training"]["logging_steps"] == 1
    assert config["groups"]["data"] == "sample"
    assert run.find_config() == config


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("model.learning_rate=2e-3",), "training.learning_rate: 0.001 then, 0.002 now"),
        (("training.max_steps=5",), "training.max_steps: 4 then, 5 now"),
        (("data.block_size=64",), "data.block_size: 128 then, 64 now"),
        (("model=gpt2",), "model.name: gpt2-tiny then, gpt2 now"),
        (("experiment=gpt2-biopt",), "experiment=gpt2-biopt: the run was begun with none"),
        (("output=other",), "output=other has no effect beside resume="),
    ],
)
def test_other_settings_are_refused_with_both_ways_on(lmtune, stopped, typed, words):
    answer = lmtune("train", f"resume={stopped.folder}", *typed)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert stopped.find_results()["status"] == "stopped"


@pytest.fixture
def stopped(lmtune, tmp_path, stopped_run):
    return Run(shutil.copytree(stopped_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def completed_run(tmp_path_factory):
    import contextlib
    import io

    from lmtune.cli import main

    folder = tmp_path_factory.mktemp("completed")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        assert main.run(["train", *STEPS, "output=run"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def stopped_run(completed_run, tmp_path_factory):
    return stop_halfway(shutil.copytree(completed_run, tmp_path_factory.mktemp("stopped") / "run")).folder


@pytest.mark.parametrize(
    "typed",
    [("training.max_steps=40",), ("training.max_steps=40", "resume_force=true"), ("model.save_dtype=bfloat16",)],
)
def test_a_completed_run_is_not_lengthened_and_says_what_is(lmtune, completed_run, typed):
    answer = lmtune("train", f"resume={completed_run}", *typed)
    assert (answer.code, answer.out) == (2, "")
    assert "has completed, and a run that has completed is not trained further" in answer.err
    assert f"model.path={completed_run}" in answer.err
    assert typed[0].split("=")[0] in answer.err


CONSTANT = ("training.lr_scheduler_type=constant_with_warmup", "training.warmup_steps=2", "training.save_steps=2")


def test_a_run_without_a_decay_is_made_longer_to_the_bits_of_one_that_was_begun_so(lmtune, tmp_path):
    assert lmtune("train", *STEPS, *CONSTANT, "output=run").code == 0
    refused = lmtune("train", "resume=run", "training.max_steps=3")
    assert refused.code == 2
    assert "it has done 4 steps already" in refused.err
    answer = lmtune("train", "resume=run", "training.max_steps=8")
    assert answer.code == 0, answer.err
    assert "goes on to its new end" in answer.err
    assert lmtune("train", *STEPS, *CONSTANT, "training.max_steps=8", "output=other").code == 0
    run, other = Run(tmp_path / "run"), Run(tmp_path / "other")
    assert weights(run) == weights(other)
    states = [(each.folder / "checkpoint-8" / "optimizer.pt").read_bytes() for each in (run, other)]
    assert states[0] == states[1]
    results = run.load_results()
    assert (results["status"], results["train"]["steps"]) == ("completed", 8)
    assert [line["step"] for line in run.load_metrics() if "eval_loss" in line] == [0, 2, 4, 6, 8]
    again = lmtune("train", "resume=run")
    assert "this run has completed" in again.err


def test_a_warm_up_that_is_a_share_of_the_run_cannot_grow_with_it(lmtune):
    assert lmtune("train", *STEPS, CONSTANT[0], "training.warmup_steps=0.5", "output=run").code == 0
    answer = lmtune("train", "resume=run", "training.max_steps=8")
    assert answer.code == 2
    assert "its warm-up was a share of its steps (training.warmup_steps=0.5)" in answer.err


def test_a_completed_run_answers_with_its_results(lmtune, completed_run):
    answer = lmtune("train", f"resume={completed_run}", "format=json")
    assert answer.code == 0, answer.err
    results = json.loads((completed_run / "results.json").read_text())
    assert answer.json == {**results, "folder": str(completed_run)}


@pytest.mark.parametrize("name", ["checkpoint-2", "checkpoint-4", "model"])
def test_a_part_of_a_run_says_what_to_type(lmtune, completed_run, name):
    answer = lmtune("train", f"resume={completed_run / name}")
    assert answer.code == 2
    assert f"Give resume={completed_run}" in answer.err


def test_auto_beside_output_means_that_folder_only(lmtune, completed_run, tmp_path):
    shutil.copytree(completed_run, tmp_path / "outputs" / "sample-gpt2-tiny" / "other")
    answer = lmtune("train", *STEPS, "resume=auto", "output=outputs/mine")
    assert answer.code == 0, answer.err
    assert answer.run == tmp_path / "outputs" / "mine"
    assert "this run has completed" not in answer.err
    again = lmtune("train", *STEPS, "resume=auto", "output=outputs/mine")
    assert "this run has completed" in again.err
    assert again.run == answer.run


@contextmanager
def started(folder, *arguments, **settings):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lmtune", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, **settings
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(path, process, seconds=240):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < end, f"{path} did not come within {seconds} s"
        time.sleep(0.02)


LONG = (
    "training.max_steps=4000",
    "training.eval_strategy=no",
    "training.save_steps=3",
    *STEPS[3:-1],
    "training.use_cpu=true",
)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_run_whose_folder_is_moved_stops_with_it(tmp_path, replaced):
    with started(tmp_path, "train", *LONG, "output=run", stderr=subprocess.PIPE) as process:
        wait_for(tmp_path / "run" / "checkpoint-3", process)
        (tmp_path / "run").rename(tmp_path / "moved")
        if replaced:
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "mine.txt").write_text("mine")
        _, err = process.communicate(timeout=240)
        assert process.returncode == 2, err
        assert f"it was moved to {tmp_path}/moved" in err
        assert "Traceback" not in err
        assert json.loads((tmp_path / "moved" / "results.json").read_text())["status"] == "failed"
        here = [path.name for path in (tmp_path / "run").iterdir()] if replaced else []
        assert here == (["mine.txt"] if replaced else [])
        assert Run(tmp_path / "moved").find_checkpoint()[1] == []


def test_a_run_outlives_the_reader_of_its_words_and_a_terminal_that_closes_saves_it(tmp_path):
    with started(tmp_path, "train", *LONG, "training.logging_steps=1", "output=run", stderr=subprocess.PIPE) as process:
        assert process.stderr.readline()
        process.stderr.close()
        wait_for(tmp_path / "run" / "checkpoint-6", process)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)  # a terminal and its shell both send it
        assert process.wait(240) == 128 + signal.SIGHUP
        run = Run(tmp_path / "run")
        assert run.load_results()["status"] == "stopped"
        assert run.find_checkpoint()[1] == []


def test_a_run_under_nohup_does_not_hear_that_the_terminal_closed(tmp_path):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(tmp_path, "train", *LONG, "output=run", stderr=subprocess.DEVNULL, preexec_fn=ignore) as process:
        wait_for(tmp_path / "run" / "checkpoint-3", process)
        process.send_signal(signal.SIGHUP)
        wait_for(tmp_path / "run" / "checkpoint-9", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 128 + signal.SIGTERM


def test_processes_that_torchrun_starts_again_go_on(lmtune, monkeypatch):
    """After a failure it starts the same command once more, which did not ask for resume=."""
    completed = lmtune("train", *STEPS, "output=run")
    assert completed.code == 0, completed.err
    bits = weights(Run(Path("run")))
    stop_halfway("run")
    assert "already holds a run" in lmtune("train", *STEPS, "output=run").err
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    again = lmtune("train", *STEPS, "output=run")
    assert again.code == 0, again.err
    assert "resuming from checkpoint-2" in again.err
    assert weights(Run(Path("run"))) == bits
