"""What `lmtune check` tells of every shipped experiment and of odd configurations, beside the run that follows."""

import json

import pytest
from helpers import TINY_MODEL

from lmtune.cli.schemas import find_conf

pytestmark = pytest.mark.slow

CONF = find_conf()
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
CHOICES = sorted(
    (file.parent.name, file.stem)
    for file in CONF.glob("*/*.yaml")
    if file.parent.name in ("data", "model", "training", "finetune", "generation", "tracker")
)
CPU = (
    "training.use_cpu=true",
    "training.bf16=false",
    "samples.enabled=false",
    "eval.max_tokens=500",
    "eval.final_max_tokens=500",
)
SHORT = (*TINY_MODEL, *CPU, "data.block_size=32")
OWN_TEXT = ("data.files=a.txt", "data.documents=blank_line", "data.min_chars=1")
OWN_MODEL = ("model.path=tiny", "data.block_size=32", "eval.context=32")

BESIDE = {"gradual": ("finetune.block_groups=1",), "default": ("samples.enabled=true",)}
"""What a choice needs on a model of one block, or to have an effect."""

ODD = {
    "part of an epoch": ("training.max_steps=7",),
    "one epoch and a part": ("training.num_train_epochs=1.3", "training.per_device_train_batch_size=32"),
    "overlapping rows": ("training.max_steps=5", "data.stride=8"),
    "documents by themselves": ("training.max_steps=5", "data.packing=false"),
    "accumulated": (
        "training.max_steps=5",
        "training.gradient_accumulation_steps=3",
        "training.per_device_train_batch_size=2",
    ),
    "in tokens": ("training.max_steps=5", "batch.tokens=512"),
    "without a schedule": ("training.max_steps=5", "training.lr_scheduler_type=constant", "training.optim=sgd"),
    "in order": ("training.max_steps=5", "training.train_sampling_strategy=sequential"),
    "adafactor": ("training.max_steps=5", "training.optim=adafactor"),
    "recomputed": ("training.max_steps=5", "training.activation_checkpointing=true"),
    "another order": ("training.num_train_epochs=0.4", "training.data_seed=7", "seed=3"),
}


@pytest.fixture
def compare(lmtune, tmp_path, texts, record_property):
    """A function that holds what is told against what is done."""
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")

    def call(*arguments):
        told = lmtune("check", *arguments, "format=json")
        assert told.code == 0, told.err
        done = lmtune("train", *arguments, "output=run", "training.save_total_limit=null")
        assert done.code == 0, done.err
        results = json.loads((tmp_path / "run" / "results.json").read_text())
        found = told.json
        assert found["course"]["steps"] == results["train"]["steps"]
        assert found["course"]["tokens"] == results["train"]["tokens"]
        assert f"{found['model']['parameters']:,} parameters" in done.err
        sizes = [
            sum(file.stat().st_size for file in folder.iterdir()) for folder in (tmp_path / "run").glob("checkpoint-*")
        ]
        assert len(sizes) == found["course"]["saves"]
        if sizes:
            saved, small = found["probe"]["checkpoint_bytes"], 20_000
            if saved < found["disk"]["checkpoint"]:  # gradual: the phase that is probed saves less than the last one
                saved, small = found["disk"]["checkpoint"], 80_000  # which counts weights and the optimizer alone
            assert saved == pytest.approx(max(sizes), rel=0.05, abs=small)
        record_property(
            "seconds told and taken", (found["cost"]["here"]["seconds"]["median"], results["train"]["seconds"])
        )
        return found, results

    return call


@pytest.mark.parametrize("name", ODD)
def test_an_odd_configuration_does_what_was_told(compare, name):
    compare(*SHORT, *OWN_TEXT, *ODD[name])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_does_what_was_told(compare, build_tiny, tokenizer, tmp_path, name):
    build_tiny().save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    blocks = ("finetune.block_groups=2",) if name == "gportuguese2" else ()  # as many as the tiny model has
    compare(f"experiment={name}", *OWN_TEXT, *OWN_MODEL, *CPU, *blocks, "eval_data=[]")


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_passes_check(lmtune, build_tiny, tokenizer, tmp_path, texts, group, choice):
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    build_tiny().save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    model = OWN_MODEL if group == "model" else ("data.block_size=32", *TINY_MODEL)
    beside = BESIDE.get(choice, ())
    answer = lmtune("check", f"{group}={choice}", *OWN_TEXT, *model, *CPU, *beside, "check.probe=false", "format=json")
    if group == "tracker" and "needs the package" in answer.err:
        pytest.skip(answer.err)
    assert answer.code == 0, answer.err
