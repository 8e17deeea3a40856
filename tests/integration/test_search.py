"""docs/search.md: its script, killed in the middle of a trial and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "search.md"
TRIALS = 3
SMALL = '["model=gpt2-tiny", "training.max_steps=60", "training.save_steps=5", "training.eval_steps=5", "training.use_cpu=true", "samples.enabled=false"]'


def write_script(folder):
    """The script of the page, with fewer and shorter trials."""
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    script = script.replace("TRIALS = 20", f"TRIALS = {TRIALS}")
    script, count = re.subn(r"^TEXT = .*$", f"TEXT = {SMALL}", script, flags=re.MULTILINE)
    assert count == 1
    (folder / "search.py").write_text(script, encoding="utf-8")


def start(folder):
    return subprocess.Popen(
        [sys.executable, "search.py"], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def list_runs(folder):
    return sorted((folder / "outputs").glob("*/*/run.json"))


def test_a_search_that_is_killed_goes_on_where_it_was(tmp_path):
    optuna = pytest.importorskip("optuna")
    write_script(tmp_path)
    first = start(tmp_path)
    until = time.monotonic() + 200
    while not (
        len(list_runs(tmp_path)) == 2 and list((list_runs(tmp_path)[1].parent).glob("checkpoint-10*/manifest.json"))
    ):
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    again = start(tmp_path)
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, err

    study = optuna.load_study(storage=f"sqlite:///{tmp_path}/search.db", study_name="rate and decay")
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].params == study.trials[2].params
    assert str(study.best_value) in out
    runs = list_runs(tmp_path)
    assert len(runs) == TRIALS, "the run that was killed went on"
    starts = [json.loads((run.parent / "results.json").read_text(encoding="utf-8"))["starts"] for run in runs]
    assert [len(each) for each in starts] == [1, 2, 1]
    assert starts[1][1]["step"] >= 10
