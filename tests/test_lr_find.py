"""lmtune lr-find: rates in equal ratios, an end where the loss diverges, a suggestion below that."""

import re

import pytest

from lmtune.training.schedules import exponential, smooth

ASKED = ("lr-find", "training.use_cpu=true", "training.per_device_train_batch_size=4", "format=json", "output=found")


def test_rates_rise_in_equal_ratios():
    rates = [exponential(step, 5, 1e-4, 1.0) for step in range(5)]
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_a_smoothed_constant_is_that_constant():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smooth([0.0, 1.0])[-1] == pytest.approx(0.1 / 0.19)


def test_the_test_ends_where_the_loss_diverges_and_suggests_less(lmtune, tmp_path):
    answer = lmtune(*ASKED, "range.start=1e-4", "range.end=1000", "range.steps=40")
    assert answer.code == 0, answer.err
    found = answer.json
    assert 10 < len(found["rates"]) == len(found["losses"]) < 40
    assert found["smoothed"][-1] > 2 * min(found["smoothed"])
    for name in ("minimum_tenth", "steepest"):
        assert found["suggestions"][name] < found["rates"][-1] / 5
    assert {path.name for path in tmp_path.iterdir()} == {"found"}
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"lr-find.json", "lr-find.svg"}
    assert (tmp_path / "found/lr-find.svg").read_text().startswith("<svg")


def test_the_rate_of_the_step_is_told(lmtune):
    answer = lmtune(*ASKED, "range.steps=20", "range.end=1e-2")
    assert answer.code == 0, answer.err
    rates = [float(rate) for rate in re.findall(r"  lr (\S+)", answer.err)]
    assert rates == pytest.approx([exponential(step, 20, 1e-7, 1e-2) for step in (9, 19)], rel=0.01)


def test_gradual_tries_the_groups_of_a_phase(lmtune):
    answer = lmtune(*ASKED, "finetune=gradual", "range.phase=2", "range.steps=10")
    assert answer.code == 0, answer.err
    assert len(answer.json["rates"]) == 10
    refused = lmtune(*ASKED, "finetune=gradual", "range.phase=5")
    assert refused.code == 2
    assert "range.phase=5: expected at most 4" in refused.err


def test_the_weights_are_moved_by_the_optimizer_of_the_training(lmtune):
    losses = []
    for muon in ("true", "false"):
        asked = (*ASKED[:-1], "model.config.n_layer=1", "model.config.n_embd=16", "range.start=1e-3", "range.steps=10")
        answer = lmtune(*asked, f"training.muon={muon}", f"output={muon}")
        assert answer.code == 0, answer.err
        losses.append(answer.json["losses"])
    with_muon, without = losses
    assert with_muon[0] == without[0]
    assert with_muon[1] != without[1]


def test_it_is_told_what_a_training_is_told():
    import yaml

    from lmtune.cli.schemas import find_conf

    train, tried = (yaml.safe_load((find_conf() / name).read_text()) for name in ("train.yaml", "lr-find.yaml"))
    same = [str(line).replace("lr-find", "train") for line in tried["defaults"]]
    own = {"hydra/launcher"}  # jobs of a sweep of trainings have processes of their own
    assert same == [str(line) for line in train["defaults"] if not own & {str(key).split()[-1] for key in line}]
    assert {key: value for key, value in tried.items() if key not in ("defaults", "hydra")} == {
        key: value for key, value in train.items() if key not in ("defaults", "hydra")
    }
