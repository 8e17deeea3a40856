"""Room on the disk is counted before the first step."""

import collections
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments

from lmtune.errors import CheckpointError
from lmtune.training.disk import DiskNeed, check_disk, count_steps, estimate_disk
from lmtune.training.muon import Muon, find_matrices

Usage = collections.namedtuple("Usage", ["total", "used", "free"])
QUICK = ("training.max_steps=2", "training.use_cpu=true", "samples.enabled=false")


def build_arguments(folder, **settings):
    return TrainingArguments(str(folder), use_cpu=True, report_to="none", **settings)


@pytest.mark.parametrize("optim", ["adamw_torch", "adafactor", "sgd", "adagrad", "schedule_free_adamw"])
def test_the_room_of_a_checkpoint_is_that_of_weights_and_optimizer(tmp_path, build_tiny, optim):
    model, arguments = build_tiny(), build_arguments(tmp_path, optim=optim, save_total_limit=2)
    if optim.startswith("schedule_free"):
        pytest.importorskip("schedulefree")
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    optimizer = kind(model.parameters(), **settings)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    getattr(optimizer, "train", lambda: None)()
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    true = sum(value.numel() * value.element_size() for value in [*tensors, *model.parameters()])
    assert estimate_disk(arguments, model, 100).checkpoint == pytest.approx(
        true, rel=0.15 if optim == "adafactor" else 0.01
    )


def test_muon_keeps_one_number_for_an_entry_of_a_matrix_and_an_average_all_weights_once_more(tmp_path, build_tiny):
    model, arguments = build_tiny(), build_arguments(tmp_path, optim="adamw_torch", save_total_limit=2)
    optimizer = Muon(
        [
            {"params": [weight], **({"muon": {"axis": 0, "parts": 1}} if name in find_matrices(model) else {})}
            for name, weight in model.named_parameters()
        ]
    )
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state = sum(value.nbytes for each in optimizer.state.values() for value in each.values())
    weights = 4 * model.num_parameters()
    assert estimate_disk(arguments, model, 100, muon=True).checkpoint == pytest.approx(weights + state, rel=0.01)
    assert estimate_disk(arguments, model, 100).checkpoint > 1.1 * (weights + state)
    twice = estimate_disk(arguments, model, 100, muon=True, twice=True)
    assert twice.checkpoint == pytest.approx(2 * weights + state, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"save_total_limit": 2}, 3),
        ({"save_total_limit": 2, "load_best_model_at_end": True, "eval_strategy": "steps"}, 4),
        ({"save_steps": 0.1}, 10),
        ({"save_steps": 30}, 4),
        ({"save_strategy": "epoch", "num_train_epochs": 5}, 5),
        ({"save_strategy": "no"}, 0),
    ],
)
def test_checkpoints_are_counted_as_they_will_be_kept(tmp_path, build_tiny, settings, count):
    assert estimate_disk(build_arguments(tmp_path, **settings), build_tiny(), 100).checkpoints == count


def test_steps_are_those_of_the_trainer(tmp_path):
    shared = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert count_steps(build_arguments(tmp_path, num_train_epochs=3, **shared), 100) == 39
    assert count_steps(build_arguments(tmp_path, max_steps=7, **shared), 100) == 7


def test_a_disk_that_is_too_small_is_refused_with_numbers(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(10**12, 0, int(3e9)))
    room = DiskNeed(checkpoint=int(1.5e9), checkpoints=4, model=int(0.5e9))
    with pytest.raises(
        CheckpointError,
        match=r"4 checkpoints of 1\.5 GB and a model of 0\.5 GB, 6\.5 GB in all; found 3\.0 GB free\. Make room",
    ):
        check_disk(Path("run"), room, present=0)
    check_disk(Path("run"), room, present=int(4e9))


def test_a_run_without_room_ends_before_its_first_step_and_leaves_no_folder(lmtune, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(10**12, 0, 10**6))
    answer = lmtune("train", *QUICK)
    assert answer.code == 2
    assert "found 1.0 MB free" in answer.err
    assert not list(Path("outputs").glob("*/*"))
