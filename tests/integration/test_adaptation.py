"""Language adaptation from the command line."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

PHASES = "finetune.phases=[{epochs: 0.3, groups: 1}, {epochs: 0.3, groups: 2, lowest_learning_rate: 1e-4}]"


def train(folder, *arguments, launcher=(sys.executable,)):
    command = [*launcher, "-m", "lmtune", "train", "training.use_cpu=true", "samples.enabled=false", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_cross_a_phase_edge_as_one_does(tmp_path):
    """Frozen groups are equal to the bit, the others as near as sums over two processes are."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    shared = ("finetune=gradual", PHASES, "training.load_best_model_at_end=false")
    train(tmp_path, *shared, "training.per_device_train_batch_size=4", "output=two", launcher=torchrun)
    train(tmp_path, *shared, "training.per_device_train_batch_size=8", "output=one")
    two, one = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("two", "one"))
    frozen = [name for name in one if ".h.0." in name or ".h.1." in name]  # 4 blocks in 3 groups: the lowest has two
    assert len(frozen) == 24
    assert all(torch.equal(one[name], two[name]) for name in frozen)
    for name in one.keys() - set(frozen):
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=2e-4)
    losses = [
        json.loads((tmp_path / run / "results.json").read_text())["eval"]["sample"]["loss"] for run in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
