"""`hydra/launcher=processes`: each job of a sweep has a process of its own, which ends with the sweep."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import TINY_MODEL

from lmtune.cli import processes, sweeps
from lmtune.errors import CheckpointError
from lmtune.upstream import Typed

TINY = (
    *("training.use_cpu=true", "training.bf16=false", "samples.enabled=false", "eval.max_tokens=200", *TINY_MODEL),
    *("hydra.sweep.dir=sweep", "resume=auto", "report.enabled=false"),
)


def load_results(job):
    file = Path("sweep", job, "results.json")
    return json.loads(file.read_text()) if file.exists() else {}


def list_processes(sweep):
    """The processes of the jobs of a sweep that is a child of this process, in which torchs's own may live too."""
    found = psutil.Process(sweep.pid).children()
    return [each for each in found if "lmtune.cli.job" in each.cmdline()]


def start(*arguments):
    """A sweep in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lmtune", "train", "-m", *TINY, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_until(holds, sweep, seconds=300):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)


def test_what_has_completed_is_answered_without_a_process_and_what_failed_says_why(lmtune, monkeypatch):
    sweep = (
        *("train", "-m", *TINY, "training.max_steps=2", "training.learning_rate=1e30,1e-3", "sweep.jobs=1"),
        "hydra.sweep.subdir=${training.learning_rate}",
    )
    answer = lmtune(*sweep)
    assert answer.code == 2
    told = answer.err[answer.err.index("job 0 of the sweep (training.learning_rate=1e+30) ended with exit code 2:") :]
    assert told.splitlines()[1].startswith("error: ")
    assert "not a finite number" in told.splitlines()[1]
    assert "job 1 of the sweep (training.learning_rate=0.001) is done after " in told
    assert load_results("0.001")["status"] == "completed"
    assert load_results("1e+30")["status"] == "failed"
    assert "held out" in Path("sweep/0.001.log").read_text()
    score = f"{load_results('0.001')['eval']['sample']['bits_per_byte']:.4f}"
    assert re.search(rf"^0\.001 +{score}", answer.out, re.MULTILINE), "the table of the sweep"

    began = []
    popen = subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *a, **k: began.append(a[0]) or popen(*a, **k))
    again = lmtune(*sweep, "format=json")
    assert again.code == 2
    assert [command[-1] for command in began] == ["job 0 of the sweep (training.learning_rate=1e+30)"]
    assert again.json == {**load_results("0.001"), "folder": str(Path("sweep/0.001").resolve())}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_signal_is_handed_on_to_the_jobs(tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    sweep = start("training.max_steps=100000", "training.save_steps=100000", "seed=1,2", "training.eval_strategy=no")
    metrics = Path("sweep/0/metrics.jsonl")
    wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 1, sweep)
    (job,) = list_processes(sweep)
    sweep.send_signal(number)
    _, err = sweep.communicate(timeout=100)
    assert sweep.returncode == 128 + number, err
    assert not job.is_running()
    assert "hydra.sweep.dir=" in err.splitlines()[-1]
    assert load_results("0")["status"] == "stopped"
    assert len(list(Path("sweep/0").glob("checkpoint-*/manifest.json"))) == 1
    assert not Path("sweep/1").exists()


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_by_the_same_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = (
        "training.max_steps=60",
        "training.learning_rate=1e-4,2e-4,3e-4,4e-4,1e30,6e-4,7e-4,8e-4",
        "sweep.jobs=2",
    )
    first = start(*command)
    wait_until(lambda: load_results("1").get("status") == "completed", first)
    wait_until(lambda: len(list_processes(first)) == 2, first)
    jobs = list_processes(first)
    first.kill()
    first.communicate()
    assert psutil.wait_procs(jobs, timeout=100)[1] == [], "no job outlives its sweep"
    done = [job for job in "01234567" if load_results(job).get("status") == "completed"]
    assert 1 <= len(done) < 7
    before = {job: Path("sweep", job, "results.json").stat().st_mtime_ns for job in done}

    second = start(*command)
    out, err = second.communicate(timeout=600)
    assert second.returncode == 2, err
    assert err.count("this run has completed") == len(done)
    assert before == {job: Path("sweep", job, "results.json").stat().st_mtime_ns for job in done}
    statuses = {job: load_results(job)["status"] for job in "01234567"}
    assert statuses == {job: "failed" if job == "4" else "completed" for job in "01234567"}
    told = err[err.index("job 4 of the sweep (training.learning_rate=1e+30) ended with exit code 2:") :]
    assert told.splitlines()[1] == f"error: {load_results('4')['reason']}"
    table = out[out.index("\nrun  ") + 1 :].splitlines()[1:8]
    assert {line.split()[0] for line in table} == set("0123567")
    for line in table:
        run, rate, score = line.split()[:3]
        assert float(rate) == pytest.approx((int(run) + 1) * 1e-4)
        assert score == f"{load_results(run)['eval']['sample']['bits_per_byte']:.4f}"


def test_jobs_share_gpus_and_threads(monkeypatch):
    import torch
    from omegaconf import OmegaConf

    def list_slots(jobs, at_once=None, use_cpu=False):
        config = {"sweep": {"jobs": at_once}, "training": {"use_cpu": use_cpu}}
        return processes.list_slots(OmegaConf.create(config), jobs)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert list_slots(8) == ["0", "1"]
    assert list_slots(8, at_once=3) == ["0", "1", "0"]
    assert list_slots(1, at_once=3) == ["0"]
    assert list_slots(8, use_cpu=True) == [None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert list_slots(2) == ["GPU-a", "GPU-b"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert list_slots(8) == [None]

    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [processes.count_threads(at_once) for at_once in (1, 2, 8)] == [None, 2, 1]
    assert processes.build_environment("1", 2).items() >= {"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2"}.items()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processes.count_threads(2) is None


def test_jobs_are_named_by_what_is_their_own():
    typed = Typed(frozenset(["seed", "data", "training.max_steps"]), {}, frozenset(["seed"]))
    overrides = ["data=bio", "++training.max_steps=3", "seed=1", "training.learning_rate=0.1"]
    assert processes.name_own(overrides, typed) == "seed=1"
    assert processes.name_own(overrides, Typed(typed.keys)) == "training.learning_rate=0.1"


def test_the_end_of_a_job_is_told_in_its_own_words(tmp_path):
    log = tmp_path / "0.log"
    log.write_text("error: of yesterday\n")
    said = log.stat().st_size
    with log.open("a") as file:
        file.write("reading\nerror: 2 mistakes:\n  - one\n  - two\n")
    assert processes.find_reason(log, said) == "error: 2 mistakes:\n  - one\n  - two"
    log.write_text("".join(f"line {number}\n" for number in range(9)))
    assert processes.find_reason(log, 0).splitlines()[:-1] == [f"line {number}" for number in range(4, 9)]
    assert processes.find_reason(log, 0).endswith("0.log")
    log.unlink()
    assert re.fullmatch(r"what it has said is lost: .*0\.log: No such file or directory", processes.find_reason(log, 0))


def test_a_job_that_cannot_be_started_fails_alone_and_says_why(lmtune, monkeypatch):
    """Its log lies where nothing can be written; that of the other job does not, whose process ends without any results."""
    popen = subprocess.Popen

    def begin(command, **settings):
        return popen([sys.executable, "-c", "import sys; sys.stdin.read()"], **settings)

    log = processes.Job.log.fget
    monkeypatch.setattr(
        processes.Job, "log", property(lambda job: log(job) if job.number else Path("/dev/null", "0.log"))
    )
    monkeypatch.setattr(processes.subprocess, "Popen", begin)
    monkeypatch.setattr(processes.ProcessesLauncher, "_start", close_afterwards(processes.ProcessesLauncher._start))
    answer = lmtune("train", "-m", *TINY, "seed=1,2")
    assert answer.code == 2
    assert (
        "job 0 of the sweep (seed=1) cannot run:\nerror: job 0 of the sweep (seed=1): expected a process for it"
        in answer.err
    )
    assert "found: File exists. Make room" in answer.err
    assert "job 1 of the sweep (seed=2) has ended, and left no results:\nerror: " in answer.err


def test_a_job_that_is_counted_anew_does_not_want_the_folder_of_another(lmtune, monkeypatch):
    Path("sweep").mkdir()
    sweeps._mark(Path("sweep"))
    for name in ("0", "0-2"):
        Path("sweep", name).mkdir()
        Path("sweep", name, "results.json").write_text("{}")
    began = {}

    def refuse(launcher, job, *_):
        began[job.folder.name] = (job.log.name, job.overrides[-1])
        raise CheckpointError("not now")

    monkeypatch.setattr(processes.ProcessesLauncher, "_start", refuse)
    answer = lmtune("train", "-m", *TINY, "seed=1,2")
    assert "job 0 of the sweep (seed=1): sweep/0 holds the run of another job, so it gets 0-3" in answer.err
    assert began == {"0-3": ("0-3.log", "hydra.sweep.subdir='0-3'"), "1": ("1.log", "hydra.sweep.subdir='1'")}
    began.clear()
    answer = lmtune("train", "-m", *TINY, "seed=1,2", "resume=off")
    assert began.keys() == {"1"}, "without resume=auto the sweep may be typed again by mistake"
    assert "sweep/0: expected a new folder or an empty one" in answer.err


def close_afterwards(start):
    """Starting a job, whose process then hears that there is nothing more to come."""

    def wrapped(launcher, *arguments):
        start(launcher, *arguments)
        launcher.running[-1].process.stdin.close()

    return wrapped


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("seed=1", "sweep.jobs=2"), "sweep.jobs has no effect: there is one job."),
        (("-m", "seed=1,2", "sweep.jobs=1,2"), "sweep.jobs=1,2: expected one number for all jobs"),
        (("-m", "seed=1,2", "sweep.jobs=0"), "sweep.jobs=0: expected"),
        (("-m", "seed=1,2", "sweep.jobs=2", "hydra/launcher=basic"), "sweep.jobs has no effect: it is for"),
    ],
)
def test_jobs_at_once_that_come_to_nothing_are_refused(lmtune, tmp_path, arguments, said):
    answer = lmtune("train", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert list(tmp_path.iterdir()) == []
