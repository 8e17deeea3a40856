"""The lines for SLURM in docs/resuming.md queue a stopped job again, and no other: tried with stubs of its commands."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "resuming.md"
ALONE, TOGETHER, HOSTS = re.findall(r"```bash\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)

STUBS = {
    "srun": 'exec "$@"',
    "scontrol": '[ "$1" = show ] && { echo first; echo second; exit; }; echo "scontrol $*" >> calls',
    "lmtune": 'echo "lmtune $*" >> calls; touch started; [ -n "$HANG" ] && { trap "exit 143" TERM; sleep 30 & wait; }; exit $CODE',
    "torchrun": 'echo "torchrun $*" >> calls; mkdir -p outputs/mine; echo "$RESULTS" > outputs/mine/results.json; exit 1',
}


@pytest.fixture
def submit(tmp_path):
    """Starts a batch script in a folder where SLURM's commands are stubs."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name, body in STUBS.items():
        (stubs / name).write_text(f"#!/bin/bash\n{body}\n")
        (stubs / name).chmod(0o755)

    def start(script, **settings):
        (tmp_path / "job.sh").write_text(script)
        environment = {"PATH": f"{stubs}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "CODE": "0", **settings}
        return subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment, start_new_session=True)

    return start


def calls(tmp_path):
    return [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("scontrol")]


@pytest.mark.parametrize(
    ("code", "requeued"), [("143", ["scontrol requeue 7"]), ("0", []), ("1", []), ("2", []), ("130", [])]
)
def test_a_job_that_was_stopped_is_queued_again(submit, tmp_path, code, requeued):
    submit(ALONE, CODE=code).wait(30)
    assert calls(tmp_path) == requeued


def test_a_preempted_job_is_queued_again_though_its_shell_got_the_signal_too(submit, tmp_path):
    job = submit(ALONE, HANG="1")
    end = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.2)
    os.killpg(job.pid, signal.SIGTERM)
    job.wait(40)
    assert calls(tmp_path) == ["scontrol requeue 7"]


@pytest.mark.parametrize(
    ("status", "requeued"), [("stopped", ["scontrol requeue 7"]), ("completed", []), ("failed", []), ("running", [])]
)
@pytest.mark.parametrize("script", [TOGETHER, HOSTS], ids=["one host", "several"])
def test_under_torchrun_the_record_of_the_run_decides(submit, tmp_path, script, status, requeued):
    submit(script, RESULTS=f'{{\n  "status": "{status}"\n}}').wait(30)
    assert calls(tmp_path) == requeued


def test_processes_of_several_hosts_meet_on_the_first(submit, tmp_path):
    submit(HOSTS, SLURM_NNODES="2", SLURM_RESTART_COUNT="1").wait(30)
    (started,) = (line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("torchrun"))
    assert "--nnodes 2" in started
    assert "--rdzv_endpoint first:29500 --rdzv_id 7-1" in started


def test_the_scripts_go_on_with_the_run_that_they_started():
    assert all("resume=auto" in script and "--requeue" in script for script in (ALONE, TOGETHER, HOSTS))
