"""training.full_determinism=true is over when its run is over."""

import os

import pytest
import torch
from helpers import TINY_MODEL
from transformers.trainer_utils import enable_full_determinism

from lmtune.training.determinism import WORKSPACE, restored_determinism
from lmtune.training.trainer import LmTrainer


def read_switches():
    return {
        **os.environ,
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
    }


@pytest.fixture(autouse=True)
def _torch_is_left_as_it_was():
    with restored_determinism():
        yield


def test_all_that_the_installed_transformers_turns_on_is_turned_back(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = read_switches()
    with restored_determinism():
        enable_full_determinism(1)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] != ":4096:8"
    assert read_switches() == before


def test_what_the_caller_had_turned_on_stays_on():
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = read_switches()
    with restored_determinism():
        enable_full_determinism(1)
    assert read_switches() == before


@pytest.mark.parametrize(
    "command",
    [
        ("train", "training.max_steps=1", "eval.max_tokens=200"),
        ("lr-find", "range.steps=10"),
        ("check",),
        ("check", "check.probe=true"),
    ],
    ids=" ".join,
)
def test_a_command_leaves_torch_as_it_was(lmtune, command):
    switches = ("algorithms", "warn only", "cudnn")
    before = read_switches()
    given = ("training.full_determinism=true", "training.use_cpu=true", "samples.enabled=false", *TINY_MODEL)
    if command[0] != "train":
        given = tuple(each for each in given if not each.startswith("samples."))
    answer = lmtune(*command, *given)
    assert answer.code == 0, answer.err
    after = read_switches()
    assert [after[name] for name in switches] == [before[name] for name in switches]
    assert "CUBLAS_WORKSPACE_CONFIG" not in after


def test_a_deterministic_run_has_the_larger_workspace(lmtune, monkeypatch):
    found = []
    step = LmTrainer.training_step

    def watched(*given):
        found.append(os.environ.get("CUBLAS_WORKSPACE_CONFIG"))
        return step(*given)

    monkeypatch.setattr(LmTrainer, "training_step", watched)
    short = (
        "training.max_steps=1",
        "eval.max_tokens=200",
        "samples.enabled=false",
        "training.use_cpu=true",
        *TINY_MODEL,
    )
    for deterministic in ("true", "false"):
        assert lmtune("train", f"training.full_determinism={deterministic}", *short).code == 0
    assert found == [WORKSPACE, None]
