"""resume_force=true: what is changed in a run that goes on holds from there, and no optimizer gets the state of another."""

import json
import shutil

import pytest
import torch
from helpers import set_status
from torch.optim.lr_scheduler import LambdaLR

from lmtune.training.taking_up import keeping_settings

SMALL = (
    "train", "model=gpt2-tiny", "model.config.n_embd=16", "model.config.n_layer=1", "training.max_steps=4", "training.eval_steps=2",
    "training.warmup_steps=1", "training.use_cpu=true", "samples.enabled=false", "report.enabled=false", "eval.max_tokens=300",
    "training.load_best_model_at_end=false", "training.learning_rate=1e-2",
)  # fmt: skip


@pytest.fixture
def begin():
    """Builds an optimizer and its schedule over a fixed weight, and takes so many steps."""

    def build(steps, rate=0.1, rise=lambda step: 1 / (1 + step), **settings):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = torch.optim.AdamW([weight], lr=rate, **settings)
        schedule = LambdaLR(optimizer, rise)
        go(weight, optimizer, schedule, steps)
        return weight, optimizer, schedule

    return build


def go(weight, optimizer, schedule, steps):
    for _ in range(steps):
        weight.grad = 2 * weight.detach()
        optimizer.step()
        schedule.step()


def take_up(saved, begun):
    """Load one into the other, as a resume does."""
    with torch.no_grad():
        begun[0].copy_(saved[0])
    with keeping_settings(*begun[1:]):
        for own, other in zip(begun[1:], saved[1:], strict=True):
            own.load_state_dict(other.state_dict())
    return begun


@pytest.mark.parametrize("in_tensor", [False, True])
def test_the_same_settings_go_on_to_the_same_bits(begin, in_tensor):
    def begin_again(steps):
        return begin(steps, rate=torch.tensor(0.1)) if in_tensor else begin(steps)

    whole, begun = begin_again(5), begin_again(0)
    resumed = take_up(begin_again(3), begun)
    go(*resumed, 2)
    assert torch.equal(resumed[0], whole[0])
    assert resumed[1].param_groups[0]["lr"] == whole[1].param_groups[0]["lr"]
    assert torch.is_tensor(resumed[1].param_groups[0]["lr"]) == in_tensor


@pytest.mark.parametrize(
    "changed", [{"rate": 0.01}, {"weight_decay": 5.0}, {"betas": (0.5, 0.6)}, {"eps": 0.1}, {"rise": lambda step: 1.0}]
)
def test_other_settings_hold_from_the_next_step_on(begin, changed):
    before, (weight, optimizer, schedule) = begin(3), begin(0, **changed)
    weight, optimizer, schedule = take_up(before, (weight, optimizer, schedule))
    assert optimizer.state[weight]["step"] == 3
    group, rate, rise = (
        optimizer.param_groups[0],
        changed.get("rate", 0.1),
        changed.get("rise", lambda step: 1 / (1 + step)),
    )
    assert group["lr"] == rate * rise(3)
    for name in changed.keys() - {"rate", "rise"}:
        assert group[name] == changed[name]
    go(weight, optimizer, schedule, 1)
    assert group["lr"] == rate * rise(4)
    go(*before, 1)
    assert not torch.equal(weight, before[0])


@pytest.fixture
def stopped(lmtune, tmp_path):
    """Stops a copy of a run after two of its four steps."""

    def stop(*settings):
        assert lmtune(*SMALL, *settings, "output=whole").code == 0
        shutil.copytree(tmp_path / "whole", tmp_path / "cut")
        for name in ("checkpoint-4", "model"):
            shutil.rmtree(tmp_path / "cut" / name)
        set_status(tmp_path / "cut", "stopped")
        return tmp_path / "cut"

    return stop


def read_bits(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["eval_bits_per_byte"] for line in lines if "eval_bits_per_byte" in line}


def is_refused(lmtune, run, changed, told):
    before = (run / "config.yaml").read_bytes()
    answer = lmtune("train", "resume=cut", changed, "resume_force=true")
    return answer.code == 2 and told in answer.err and (run / "config.yaml").read_bytes() == before


def test_another_rate_has_an_effect_and_another_optimizer_is_refused(lmtune, stopped):
    run = stopped()
    muon = "hold (adamw_torch), found training.muon=true beside adamw_torch, which cannot take it up"
    assert is_refused(lmtune, run, "training.muon=true", muon)
    assert is_refused(lmtune, run, "training.optim=adafactor", "hold (adamw_torch), found adafactor, which cannot")
    answer = lmtune("train", "resume=cut", "training.learning_rate=1e-9", "resume_force=true")
    assert answer.code == 0, answer.err
    bits = read_bits(run)
    assert bits[4] == pytest.approx(bits[2], abs=1e-5)
    assert bits[4] != pytest.approx(read_bits(run.parent / "whole")[4], abs=1e-3)


def test_an_average_is_not_taken_otherwise_from_some_step_on(lmtune, stopped):
    pytest.importorskip("schedulefree")
    told = "(schedule_free_adamw with training.adam_beta1=0.9), found schedule_free_adamw with training.adam_beta1=0.8"
    assert is_refused(lmtune, stopped("training=schedule-free"), "training.adam_beta1=0.8", told)
