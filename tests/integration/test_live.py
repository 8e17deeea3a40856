"""A run as it is looked at: on a terminal, in a file, through a pipe. What is shown changes nothing of what is learned."""

import re
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from terminal import run_on_terminal

from lmtune.storage import checksum

TINY = (
    *("training.max_steps=24", "training.eval_steps=8", "training.logging_steps=2", "data.block_size=64"),
    *("training.use_cpu=true", "samples.show=1", "generation.max_new_tokens=12", "seed=3"),
)
STEP = re.compile(
    r"^\d\d:\d\d:\d\d  step [\d,]+ of 24  loss \d+\.\d+  lr \d\.\d+e-\d+  [\d,]+ tokens/s  .* left$", re.MULTILINE
)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def train(output):
    return [sys.executable, "-m", "lmtune", "train", f"output={output}", *TINY]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_a_run_on_a_terminal_is_alive_fits_and_learns_the_same_as_one_in_a_file(tmp_path, columns):
    code, pane, times, came = run_on_terminal(train("seen"), columns, cwd=tmp_path)
    with (tmp_path / "log.txt").open("wb") as log:
        unseen = subprocess.run(train("unseen"), cwd=tmp_path, stdout=log, stderr=log, timeout=600, check=False)
    assert (code, unseen.returncode) == (0, 0), pane.text
    assert checksum(tmp_path / "seen/model/model.safetensors") == checksum(tmp_path / "unseen/model/model.safetensors")

    assert max(later - sooner for sooner, later in pairwise(times)) < 15, (
        "libraries and busy machines hold it up, no more"
    )
    assert "loading libraries" in came
    assert "training" in came
    assert "scoring" in came
    assert "saving" in came
    assert "24/24" in came
    assert not re.search("━|╌", pane.text), "what was painted is gone"
    assert re.search(
        r"^step 24: \d\.\d{4} bits per byte \([-+]\d\.\d{4}, lowest .*\), loss \d", pane.text, re.MULTILINE
    )
    assert re.search(
        r"^learns: learning rate 0.001, cosine, \d+ steps? of warm-up; 24 steps, ", pane.text, re.MULTILINE
    )
    assert re.search(r"^time: about .* to the end, until ", pane.text, re.MULTILINE)
    assert "  lmtune generate ckpt=seen " in pane.text

    said = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert not CONTROL.search(said)
    assert len(STEP.findall(said)) >= 8
    for kept in ("seen", "unseen"):
        told = (tmp_path / kept / "train.log").read_text(encoding="utf-8")
        assert "step 24 of 24  loss " in told
        assert "step 24: " in told


@pytest.mark.slow
def test_a_stopped_run_says_how_to_go_on(tmp_path):
    endless = [key.replace("max_steps=24", "max_steps=10000000") for key in train("run")]
    process = subprocess.Popen(endless, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if " step 8: " in line:
                process.send_signal(signal.SIGINT)
                break
        said.append(process.stdout.read())
    assert process.returncode == 130, said
    assert "  lmtune train resume=run\n" in said[-1]
    assert "Ctrl-C is safe" in "".join(said), "ten million steps take long"
