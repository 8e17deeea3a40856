"""training.optim=schedule_free_*: scored, sampled and saved at the average of the weights, and resumed to the same bits."""

import copy
import json
import shutil

import pytest
import torch
from helpers import set_status
from safetensors.torch import load_file

from lmtune.training.schedule_free import averaged, leave_average, take_average

schedulefree = pytest.importorskip("schedulefree")
ASKED = (
    "train", "model=gpt2-tiny", "model.config.n_embd=16", "model.config.n_layer=1", "training=schedule-free", "seed=3",
    "training.learning_rate=3e-2", "training.load_best_model_at_end=false", "training.save_total_limit=9",
    "training.use_cpu=true", "report.enabled=false", "eval.max_tokens=300",
)  # fmt: skip
QUIET = "samples.enabled=false"
KINDS = {
    "adamw": schedulefree.AdamWScheduleFree,
    "radam": schedulefree.RAdamScheduleFree,
    "sgd": schedulefree.SGDScheduleFree,
}


@pytest.fixture
def learn():
    """Takes so many steps towards zero; returns the weight, the optimizer, and z after each step."""

    def go(kind, steps):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = KINDS[kind]([weight], lr=0.1, weight_lr_power=0.0)
        points = []
        for _ in range(steps):
            optimizer.train()
            weight.grad = 2 * weight.detach()
            optimizer.step()
            points.append(optimizer.state[weight]["z"].clone())
        return weight, optimizer, points

    return go


@pytest.mark.parametrize("kind", KINDS)
def test_inside_are_the_mean_of_all_points_and_afterwards_the_same_bits(learn, kind):
    weight, optimizer, points = learn(kind, 9)
    before = weight.detach().clone()
    mean = torch.stack(points).mean(0)
    assert (before - mean).abs().max() > 1e-3
    with averaged(optimizer):
        assert torch.allclose(weight, mean, atol=1e-6)
        assert torch.equal(optimizer.state[weight]["y"], before)
        with averaged(optimizer):
            assert torch.allclose(weight, mean, atol=1e-6)
    assert torch.equal(weight, before)
    assert "y" not in optimizer.state[weight]
    take_average(optimizer)
    take_average(optimizer)
    assert torch.allclose(weight, mean, atol=1e-6)


def test_a_state_that_was_saved_inside_gives_all_back(learn):
    weight, optimizer, _ = learn("adamw", 5)
    with averaged(optimizer):
        state = copy.deepcopy(optimizer.state_dict())
    other, second, _ = learn("adamw", 1)
    second.load_state_dict(state)
    leave_average(second)
    assert torch.equal(other, weight)
    for each, its in ((weight, optimizer), (other, second)):
        its.train()
        each.grad = torch.ones_like(each)
        its.step()
    assert torch.equal(other, weight)


def test_what_interrupts_a_look_leaves_the_weights_as_they_were(learn):
    weight, optimizer, _ = learn("adamw", 3)
    before = weight.detach().clone()
    with pytest.raises(MemoryError), averaged(optimizer):
        raise MemoryError
    assert torch.equal(weight, before)
    optimizer.step()


def test_other_optimizers_are_left_alone(learn):
    weight, frozen = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    weight.grad = torch.ones(3)
    optimizer = torch.optim.AdamW([weight, frozen])
    optimizer.step()
    before, state = weight.detach().clone(), set(optimizer.state[weight])
    for each in (optimizer, None):
        with averaged(each):
            assert torch.equal(weight, before)
        take_average(each)
        leave_average(each)
    assert torch.equal(weight, before)
    assert set(optimizer.state[weight]) == state
    assert frozen not in optimizer.state


def read_model(folder):
    return load_file(folder / "model.safetensors")


def are_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_numbers_samples_and_files_of_a_run_are_those_of_the_average(lmtune, tmp_path):
    greedy = (
        "generation.do_sample=false",
        "generation.temperature=null",
        "generation.top_p=null",
        "generation.top_k=null",
    )
    answer = lmtune(*ASKED, "training.max_steps=4", "training.eval_steps=2", *greedy, "output=run", "format=json")
    assert answer.code == 0, answer.err
    run = tmp_path / "run"
    saved = torch.load(run / "checkpoint-2" / "optimizer.pt", weights_only=True)
    assert all({"z", "y"} <= state.keys() for state in saved["state"].values())
    weights = sum(weight.numel() for weight in read_model(run / "model").values())
    assert (run / "checkpoint-2" / "optimizer.pt").stat().st_size == pytest.approx(4 * 3 * weights, rel=0.1)
    assert not any(group["warmup_steps"] for group in saved["param_groups"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = {line["step"]: line["eval_bits_per_byte"] for line in lines if "eval_bits_per_byte" in line}
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    for step in (2, 4):
        scored = lmtune("eval", f"ckpt=run/checkpoint-{step}", "eval.max_tokens=300", "format=json")
        (measures,) = scored.json["eval"].values()
        assert measures["bits_per_byte"] == pytest.approx(told[step], abs=1e-9)
        (wrote,) = (record["samples"][0] for record in samples if record["step"] == step)
        prompt = f"prompt={wrote['prompt']}"
        written = lmtune("generate", f"ckpt=run/checkpoint-{step}", prompt, *greedy, "format=json")
        assert written.json["texts"][0] == wrote["text"]
    assert are_equal(read_model(run / "model"), read_model(run / "checkpoint-4"))
    assert answer.json["train"]["settings"]["optim"] == "schedule_free_adamw"


def test_neither_looks_nor_a_resume_change_a_bit(lmtune, tmp_path):
    asked = (*ASKED, QUIET, "training.max_steps=4")
    for often, name in ((4, "seldom"), (1, "often")):
        assert lmtune(*asked, f"training.eval_steps={often}", f"output={name}").code == 0
    shutil.copytree(tmp_path / "often", tmp_path / "cut")
    for name in ("checkpoint-3", "checkpoint-4", "model"):
        shutil.rmtree(tmp_path / "cut" / name)
    set_status(tmp_path / "cut", "stopped")
    answer = lmtune("train", "resume=cut", "output=cut")
    assert "resuming from checkpoint-2" in answer.err
    seldom, often, cut = (read_model(tmp_path / name / "model") for name in ("seldom", "often", "cut"))
    assert are_equal(seldom, often)
    assert are_equal(seldom, cut)
    assert not are_equal(seldom, read_model(tmp_path / "often" / "checkpoint-2"))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (["average.last=0.2"], "found average.last, which would average"),
        (["finetune=gradual", "training.learning_rate=null"], "found finetune=gradual, whose momentum changes"),
        (["training.adam_beta1=0"], "found training.adam_beta1=0, with which no average"),
    ],
)
def test_what_it_does_not_go_with_is_refused(lmtune, settings, found):
    answer = lmtune("train", "model=gpt2-tiny", "training.optim=schedule_free_adamw", *settings)
    assert answer.code == 2
    assert found in answer.err


def test_a_missing_package_is_named(lmtune, monkeypatch):
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "schedulefree" else find(name, *rest))
    answer = lmtune(*ASKED)
    assert answer.code == 2
    assert "training.optim=schedule_free_adamw needs the package schedulefree, which is not installed" in answer.err
    assert "pip install" in answer.err


def test_a_rate_that_falls_is_a_warning(lmtune):
    asked = ("training.max_steps=1", "training.warmup_steps=0", QUIET, *ASKED[7:])
    told = "training.lr_scheduler_type=cosine: training.optim=schedule_free_sgd averages the weights in place of a rate that falls"
    tiny = ASKED[:4]
    assert told in lmtune(*tiny, "training.optim=schedule_free_sgd", *asked).err
    assert "in place of a rate" not in lmtune(*tiny, "training=schedule-free", *asked).err


def test_no_forecast_is_made_of_it(lmtune):
    answer = lmtune("check", *ASKED[1:], QUIET, "training.max_steps=8", "check.forecast=true", "format=json")
    assert answer.code == 0, answer.err
    assert "found training.optim=schedule_free_adamw" in answer.json["forecast"]["refused"]
