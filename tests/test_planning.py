"""What is chosen for the steps to come: only where it is needed or pays, and never against the user."""

import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from helpers import set_status
from transformers import TrainingArguments

from lmtune.runs import Run
from lmtune.training import planning, setup
from lmtune.training.batches import USUAL_ROWS
from lmtune.training.memory import estimate_memory
from lmtune.training.planning import choose_rows, estimate_seconds, fit_rows, plan_steps
from lmtune.versions import get_argument

PLACES = 32
LONG = 10**13
"""Targets that take days."""
QUICK = ("training.max_steps=4", "training.use_cpu=true", "samples.enabled=false")


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(str(tmp_path), use_cpu=True, bf16=True, report_to="none", optim="adamw_torch")


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(planning, "measure_free_memory", lambda device: 10**5)


@pytest.fixture
def compilers(monkeypatch):
    """Compilers that work, tried by nobody."""
    monkeypatch.setattr(planning, "find_compile_failure", lambda device: None)


def test_a_step_that_fits_is_left_alone(arguments, build_tiny):
    plan = plan_steps({}, arguments, build_tiny(), PLACES, 1000)
    assert plan.chosen == {}
    assert plan.remarks[0].startswith("memory of a step: about ")
    assert not get_argument(arguments, "activation_checkpointing")


def test_a_step_that_does_not_fit_computes_activations_twice(arguments, build_tiny, little_memory):
    plan = plan_steps({}, arguments, build_tiny(), PLACES, LONG)
    assert plan.chosen == {"activation_checkpointing": True}
    assert get_argument(arguments, "activation_checkpointing") is True
    assert plan.remarks[0].endswith("of 0.1 MB free; activations are computed twice instead of kept")


@pytest.mark.parametrize("given", [{"activation_checkpointing": False}, {"gradient_checkpointing": False}])
def test_a_wish_about_activations_counts(arguments, build_tiny, little_memory, given):
    assert plan_steps({**given, "torch_compile": False}, arguments, build_tiny(), PLACES, LONG).chosen == {}


def test_a_gpu_takes_as_many_rows_as_half_of_its_memory_holds(arguments, build_tiny):
    model = build_tiny()
    totals = {rows: estimate_memory(arguments, model, PLACES, rows).total for rows in planning.ROWS_AT_ONCE}
    assert sorted(totals.values(), reverse=True) == list(totals.values())
    for rows, total in totals.items():
        assert fit_rows(arguments, model, PLACES, 2 * total) == rows
    assert fit_rows(arguments, model, PLACES, 0) == USUAL_ROWS


@pytest.mark.parametrize(
    ("kind", "given", "tries", "chosen"),
    [
        ("cuda", {}, False, 32),
        ("cuda", {"per_device_train_batch_size": 4}, False, None),
        ("cuda", {"gradient_accumulation_steps": 4}, False, None),
        ("cuda", {}, True, None),
        ("cpu", {}, False, None),
    ],
)
def test_rows_are_chosen_on_a_gpu_where_they_are_open(monkeypatch, kind, given, tries, chosen):
    monkeypatch.setattr(planning, "measure_free_memory", lambda device: 0)
    monkeypatch.setattr(planning, "fit_rows", lambda *asked, **settings: 32)
    arguments = SimpleNamespace(device=torch.device(kind), auto_find_batch_size=tries)
    assert choose_rows(given, arguments, None, 1024) == chosen


def test_rows_that_were_chosen_stay_on_resume(lmtune, monkeypatch):
    batch = ("batch.tokens=2048", "data.block_size=64")
    monkeypatch.setattr(setup, "choose_rows", lambda *asked: 16)
    began = lmtune("train", *QUICK, *batch)
    assert began.code == 0, began.err
    assert "a step: 2,048 tokens = 16 rows x 64 tokens x 2 accumulated x 1 device" in began.err
    assert yaml.safe_load((began.run / "config.yaml").read_text())["chosen"]["per_device_train_batch_size"] == 16
    set_status(began.run, "stopped")
    monkeypatch.setattr(setup, "choose_rows", lambda *asked: pytest.fail("the run has begun"))
    resumed = lmtune("train", f"resume={began.run}")
    assert resumed.code == 0, resumed.err
    assert "16 rows x 64 tokens x 2 accumulated" in resumed.err


def test_long_runs_are_compiled_and_short_ones_are_not(arguments, build_tiny, compilers):
    model = build_tiny(attn_pdrop=0.1)
    seconds = estimate_seconds(arguments, model, PLACES, LONG)
    enough = int(LONG * planning.COMPILE_PAYS_AFTER["cpu"] / seconds)
    assert plan_steps({}, arguments, model, PLACES, enough // 2).chosen == {}
    plan = plan_steps({}, arguments, model, PLACES, enough * 2)
    assert plan.chosen == {"torch_compile": True, "torch_compile_backend": "inductor"}
    assert (arguments.torch_compile, arguments.torch_compile_backend) == (True, "inductor")


def test_what_gains_nothing_is_not_compiled(arguments, build_tiny, compilers):
    assert plan_steps({"torch_compile": False}, arguments, build_tiny(attn_pdrop=0.1), PLACES, LONG).chosen == {}
    for kind, settings in (("gpt2", {"attn_pdrop": 0.0}), ("llama", {"attention_dropout": 0.0})):
        assert plan_steps({}, arguments, build_tiny(kind, **settings), PLACES, LONG).chosen == {}


def test_a_backend_of_the_users_stays(arguments, build_tiny, compilers):
    arguments.torch_compile, arguments.torch_compile_backend = True, "aot_eager"
    assert (
        plan_steps({"torch_compile_backend": "aot_eager"}, arguments, build_tiny(attn_pdrop=0.1), PLACES, LONG).chosen
        == {}
    )
    assert arguments.torch_compile_backend == "aot_eager"


def test_a_machine_without_compilers_is_told_why(arguments, build_tiny, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("/nowhere/c++",)}):  # monkeypatch would leave it without the setting
        plan = plan_steps({}, arguments, build_tiny(attn_pdrop=0.1), PLACES, LONG)
    assert plan.chosen == {}
    assert "torch.compile would pay in about" in plan.remarks[1]
    assert "but does not work here: " in plan.remarks[1]


def test_a_run_that_began_compiled_goes_on_where_nothing_can_be_compiled(lmtune, monkeypatch):
    began = lmtune("train", *QUICK, "training.save_steps=2", "training.eval_steps=2")
    config = yaml.safe_load((began.run / "config.yaml").read_text())
    config["chosen"] |= {"torch_compile": True, "torch_compile_backend": "inductor"}
    Run(began.run).write_config(config)
    set_status(began.run, "stopped")
    shutil.rmtree(began.run / "checkpoint-4")
    monkeypatch.setattr(setup, "find_compile_failure", lambda device: "no compiler")
    resumed = lmtune("train", f"resume={began.run}")
    assert resumed.code == 0, resumed.err
    assert "torch.compile, which this run began with, does not work here: no compiler" in resumed.err
    assert "no torch.compile" in resumed.err


def test_activations_computed_twice_give_the_same_bits_and_are_kept_on_resume(lmtune, monkeypatch):
    exact = (*QUICK, "model.config.resid_pdrop=0.1")
    plain = lmtune("train", *exact)
    monkeypatch.setattr(planning, "measure_free_memory", lambda device: 10**5)
    twice = lmtune("train", *exact)
    assert twice.code == plain.code == 0, twice.err
    assert "activations are computed twice" in twice.err
    assert yaml.safe_load((twice.run / "config.yaml").read_text())["chosen"]["activation_checkpointing"] is True
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (plain.run, twice.run)]
    assert weights[0] == weights[1]
