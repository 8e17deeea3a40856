"""Gradual unfreezing: rates as published, what is frozen stays bit-equal, and a resumed run ends as the straight one."""

import math

import pytest
import torch
from helpers import write_texts
from transformers import TrainerCallback

from lmtune.config import DataConfig, FinetuneConfig, FinetuneMethod, PhaseConfig, TrainConfig
from lmtune.data.corpus import Corpus
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import ConfigError
from lmtune.evaluation.evaluator import Scoring, evaluate_documents
from lmtune.runs import Run
from lmtune.storage import load_jsonl
from lmtune.training.arguments import build_arguments
from lmtune.training.callbacks import EvaluateAndSaveAtEnd, MetricsCallback
from lmtune.training.gradual import unfreeze_gradually
from lmtune.training.layer_groups import build_groups
from lmtune.training.optimizers import set_rate
from lmtune.training.schedules import build_timeline, cosine, spread, suggest_rates
from lmtune.training.trainer import LmTrainer

PUBLISHED = FinetuneConfig(
    method=FinetuneMethod.gradual,
    phases=[
        PhaseConfig(groups=1, learning_rate=2e-3),
        PhaseConfig(groups=2, learning_rate=1e-3, lowest_learning_rate=1e-3 / 2.6**4),
        PhaseConfig(groups=3, learning_rate=5e-4, lowest_learning_rate=5e-4 / 2.6**4),
        PhaseConfig(groups=4, learning_rate=1e-4, lowest_learning_rate=1e-4 / 2.6**4, epochs=2),
    ],
)
SHORT = FinetuneConfig(
    method=FinetuneMethod.gradual,
    block_groups=2,
    phases=[
        PhaseConfig(groups=1, learning_rate=2e-3, epochs=0.5),
        PhaseConfig(groups=2, learning_rate=1e-3, lowest_learning_rate=1e-4, epochs=0.5),
        PhaseConfig(groups=3, learning_rate=1e-3, lowest_learning_rate=1e-4, epochs=0.5),
    ],
)


def test_rates_are_those_of_gportuguese2():
    """Highest rates of each phase and group, as its notebook printed them."""
    timeline = build_timeline(PUBLISHED, 4, 100)
    peaks = [timeline.rates(first + steps // 4) for first, steps, _, _ in timeline.phases]
    assert peaks[0] == pytest.approx([0, 0, 0, 2e-3])
    assert peaks[1] == pytest.approx([0, 0, 2.797e-4, 1e-3], rel=1e-3)
    assert peaks[2] == pytest.approx([0, 3.912e-5, 1.399e-4, 5e-4], rel=1e-3)
    assert peaks[3] == pytest.approx([2.188e-6, 7.824e-6, 2.797e-5, 1e-4], rel=1e-3)
    assert [phase.first for phase in timeline.phases] == [0, 100, 200, 300]
    assert timeline.steps == 500


def test_a_cycle_rises_then_falls_and_momentum_goes_the_other_way():
    timeline = build_timeline(PUBLISHED, 4, 100)
    rates = [timeline.rates(step)[-1] for step in range(100)]
    assert rates[0] == pytest.approx(2e-3 / 25)
    assert rates[25] == max(rates) == pytest.approx(2e-3)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert timeline.rates(62)[-1] == pytest.approx(cosine(2e-3, 2e-8, 37 / 75))
    momenta = [timeline.momentum_at(step) for step in (0, 25, 99)]
    assert momenta == pytest.approx([0.95, 0.85, 0.95], abs=1e-3)
    assert timeline.rates(100)[-1] == pytest.approx(1e-3 / 25), "the next phase begins anew"


def test_a_spread_has_equal_ratios():
    rates = spread(PhaseConfig(learning_rate=1e-3, lowest_learning_rate=1e-6), 4)
    assert rates == pytest.approx((1e-6, 1e-5, 1e-4, 1e-3))
    assert spread(PhaseConfig(learning_rate=1e-3), 3) == (1e-3,) * 3


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_groups_hold_every_parameter_once(build_tiny, kind):
    depth = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    model = build_tiny(kind, **{depth: 5})
    groups = build_groups(model, 3)
    names = [name for group in groups for name, _ in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert all(
        "embed" in n or "wte" in n or "wpe" in n or "norm" in n or "ln_f" in n or "head" in n for n, _ in groups[3]
    )
    blocks = [{name.split("mlp")[0] for name, _ in group if "mlp" in name} for group in groups[:3]]
    assert [len(found) for found in blocks] == [2, 2, 1]
    assert not set.intersection(*blocks)


def test_more_groups_than_blocks_are_refused(build_tiny):
    with pytest.raises(ConfigError, match=r"finetune\.block_groups=3: the model has 2 blocks"):
        build_groups(build_tiny(), 3)


class Snapshots(TrainerCallback):
    """Weights before each phase, and after the last step."""

    def __init__(self, firsts):
        self.firsts = set(firsts)
        self.taken = {}

    def on_step_begin(self, args, state, control, model=None, **_):
        if state.global_step in self.firsts:
            self.taken[state.global_step] = {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.fixture
def build_trainer(tmp_path, tokenizer, texts, build_tiny, begin_run):
    file = tmp_path / "text.jsonl"
    write_texts(file, texts)
    prepared = EncodedCorpus(Corpus(DataConfig(files=str(file)), 0), tokenizer).prepare(64)

    def build(name="run", callbacks=(), dropout=0.1, **settings):
        run = Run(tmp_path / name) if (tmp_path / name).exists() else begin_run(tmp_path / name)
        training = {
            "use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 8, "eval_steps": 8, "save_steps": 2, "logging_steps": 1,
            "eval_strategy": "steps", "metric_for_best_model": "bits_per_byte", "greater_is_better": False,
            "load_best_model_at_end": False, "save_total_limit": 20, "optim": "adamw_torch", **settings,
        }  # fmt: skip
        config = TrainConfig(seed=7, training=training, finetune=SHORT)
        config.tracker = type("Tracker", (), {"name": "none", "project": "lmtune"})()
        SHORT.settle_phases(config.training)
        torch.manual_seed(0)
        trainer = LmTrainer(
            model=build_tiny(resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout),
            args=build_arguments(config, run.folder, has_validation=True),
            rows=prepared.blocks,
            tokenizer=tokenizer,
            score=lambda scored: {
                "text": evaluate_documents(scored, prepared.held_out["validation"], Scoring(64, 8))[0]
            },
        )
        for callback in [MetricsCallback(run), *callbacks, EvaluateAndSaveAtEnd()]:
            trainer.add_callback(callback)
        trainer.attach(run, {"lmtune": "test"})
        unfreeze_gradually(trainer, SHORT)
        return trainer

    return build


def test_what_is_frozen_stays_bit_equal_and_the_rest_moves(build_trainer):
    trainer = build_trainer(save_strategy="no")
    phases = trainer.timeline.phases
    assert len(phases) == 3
    snapshots = Snapshots(phase.first for phase in phases)
    trainer.add_callback(snapshots)
    groups = build_groups(trainer.model, 2)
    trainer.fit(None)
    after = {name: value.detach() for name, value in trainer.model.named_parameters()}
    stages = [*snapshots.taken.values(), after]
    for phase, before, later in zip(phases, stages[:-1], stages[1:], strict=True):
        for number, group in enumerate(groups):
            moved = [not torch.equal(before[name], later[name]) for name, _ in group]
            assert all(moved) if number >= phase.lowest_group else not any(moved), (phase, number)
    state = trainer.optimizer.state
    top, low = groups[2][0][1], groups[0][0][1]
    assert int(state[top]["step"]) == trainer.state.global_step, "Adam's state lasts over the phases"
    assert int(state[low]["step"]) == phases[2].steps


def test_rates_and_momentum_are_logged_as_they_were_used(build_trainer):
    trainer = build_trainer(save_strategy="no")
    trainer.fit(None)
    lines = [line for line in load_jsonl(trainer.run.metrics_file) if "learning_rate" in line]
    assert [line["step"] for line in lines] == list(range(1, trainer.timeline.steps + 1))
    for line in lines:
        rates = [line[f"learning_rate_group_{number}"] for number in range(3)]
        assert rates == trainer.timeline.rates(line["step"] - 1)
        assert line["learning_rate"] == rates[-1]
        assert line["momentum"] == trainer.timeline.momentum_at(line["step"] - 1)


def test_resuming_in_any_phase_ends_with_the_same_bits(build_trainer, tmp_path):
    straight = build_trainer("straight")
    straight.fit(None)
    saved = range(2, straight.timeline.steps, 2)
    inside = [next(step for step in saved if phase.first < step) for phase in straight.timeline.phases]
    assert {straight.timeline.phase_at(step).lowest_group for step in inside} == {0, 1, 2}
    for step in inside:
        resumed = build_trainer("straight")
        resumed.fit(tmp_path / "straight" / f"checkpoint-{step}")
        for (name, one), (_, other) in zip(
            straight.model.named_parameters(), resumed.model.named_parameters(), strict=True
        ):
            assert torch.equal(one, other), (step, name)


@pytest.mark.parametrize(
    "name", ["num_train_epochs", "learning_rate", "max_steps", "lr_scheduler_type", "warmup_steps"]
)
def test_what_the_phases_own_is_refused_elsewhere(lmtune, name):
    value = "linear" if name == "lr_scheduler_type" else 3
    answer = lmtune("train", "finetune=gradual", f"training.{name}={value}")
    assert answer.code == 2
    assert f"training.{name} is set, but with finetune=gradual the phases own" in answer.err


def test_a_rate_that_an_optimizer_keeps_in_a_tensor_is_set_there():
    kept = torch.tensor(0.1)
    groups = [{"lr": kept}, {"lr": 0.1}]
    for group in groups:
        set_rate(group, 0.5)
    assert kept.item() == 0.5
    assert groups[0]["lr"] is kept
    assert groups[1]["lr"] == 0.5


def test_suggestions_come_from_the_fall_of_the_loss():
    rates = [10**power for power in (-6, -5, -4, -3, -2, -1)]
    found = suggest_rates(rates, [5.0, 4.9, 3.0, 2.0, 4.0, 90.0])
    assert found == {"steepest": 1e-5, "minimum_tenth": pytest.approx(1e-4)}
    assert math.isfinite(suggest_rates(rates, [1.0, 2, 3, 4, 5, 6])["steepest"])
