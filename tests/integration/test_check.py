"""lmtune check tells what the run then does, and leaves nothing behind."""

import json

import pytest
from helpers import TINY_MODEL, set_status, write_texts

from lmtune.training.foresight import Course

SMALL = (*TINY_MODEL, "training.use_cpu=true", "data.block_size=32", "samples.enabled=false", "eval.max_tokens=500")
SHORT = (*SMALL, "training.max_steps=7")

RUNS = {
    "steps": SHORT,
    "a fraction of an epoch": (*SMALL, "training.num_train_epochs=0.25"),
    "whole epochs": (*SMALL, "training.num_train_epochs=1", "training.per_device_train_batch_size=32"),
    "accumulated": (*SHORT, "training.gradient_accumulation_steps=3", "training.per_device_train_batch_size=2"),
    "in tokens": (*SHORT, "batch.tokens=512"),
    "by epoch": (*SMALL, "training.num_train_epochs=2", "training.per_device_train_batch_size=64",
                 "training.eval_strategy=epoch", "training.save_strategy=epoch"),
    "every third step": (*SHORT, "training.eval_steps=3"),
    "never evaluated": (*SHORT, "training.eval_strategy=no", "training.save_steps=4"),
    "never saved": (*SHORT, "training.save_strategy=no", "training.load_best_model_at_end=false"),
    "documents by themselves": (*SHORT, "data.packing=false"),
    "overlapping": (*SHORT, "data.stride=8"),
    "gradual": (*SMALL, "finetune=gradual", "finetune.block_groups=1",
                "finetune.phases=[{epochs:0.02,groups:1,learning_rate:1e-3},{epochs:0.02,groups:2,learning_rate:1e-3}]"),
    "lora": (*SHORT, "finetune=lora"),
    "adafactor": (*SHORT, "training.optim=adafactor"),
    "streamed": (*SHORT, "data.streaming=true"),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_what_is_told_is_what_the_run_does(lmtune, tmp_path, name):
    told = lmtune("check", *RUNS[name], "format=json")
    assert told.code == 0, told.err
    assert list(tmp_path.iterdir()) == []
    done = lmtune("train", *RUNS[name], "output=run", "training.save_total_limit=null")
    assert done.code == 0, done.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    course, found = told.json["course"], told.json
    assert course["steps"] == results["train"]["steps"]
    whole = course["steps"] % course["steps_per_epoch"] == 0
    assert course["tokens"] == pytest.approx(results["train"]["tokens"], rel=1e-9 if whole else 0.1)
    assert course["evaluations"] == len(results["epochs"])
    folders = sorted((tmp_path / "run").glob("checkpoint-*"))
    assert course["saves"] == len(folders)
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
    if sizes:
        largest = max(file.stat().st_size for file in folders[-1].iterdir())
        assert found["probe"]["checkpoint_bytes"] == pytest.approx(max(sizes), rel=0.05, abs=20_000) or (
            name == "gradual"
        )
        assert found["disk"]["checkpoint"] > 0.5 * largest
    assert found["probe"]["steps"] >= 3 or course["steps"] < 3


def test_parameters_and_what_of_them_learns(lmtune):
    whole = lmtune("check", *SHORT, "check.probe=false", "format=json").json["model"]
    part = lmtune("check", *SHORT, "finetune=lora", "check.probe=false", "format=json").json["model"]
    assert whole["parameters"] == whole["trained"]
    assert part["parameters"] - part["trained"] == whole["parameters"]


def test_the_page_names_what_was_typed_first(lmtune):
    answer = lmtune(
        "check",
        *SHORT,
        "training.logging_steps=1",
        "seed=3",
        "check.devices=4",
        "check.watts=60",
        "check.price_per_hour=2",
    )
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert "seed=3" in answer.out
    assert lines[0].startswith("settings")
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        "settings", "text", "model", "steps", "rate", "memory", "disk", "time",
    ]  # fmt: skip
    assert "7 steps of 256 tokens" in answer.out
    assert " kWh, " in answer.out
    assert " on 4 devices (between" in " ".join(answer.out.split())


def test_a_run_that_goes_on_is_told_from_its_step(lmtune, tmp_path):
    assert lmtune("train", *SHORT, "training.eval_steps=3", "output=run").code == 0
    run = tmp_path / "run"
    (run / "checkpoint-7" / "model.safetensors").unlink()
    set_status(run, "stopped")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    answer = lmtune("check", "resume=run", "check.probe=false", "format=json")
    assert answer.code == 0, answer.err
    assert (answer.json["course"]["first"], answer.json["course"]["steps"]) == (6, 7)
    assert answer.json["course"]["evaluations"] == 1
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_each_job_of_a_sweep_is_told_and_nothing_is_left(lmtune, tmp_path):
    answer = lmtune("check", *SHORT, "check.probe=false", "-m", "seed=1,2", "format=json")
    assert answer.code == 0, answer.err
    jobs = [json.loads(line) for line in answer.out.splitlines() if line.startswith("{")]
    assert [job["course"]["steps"] for job in jobs] == [7, 7]
    typed = [{row["key"]: row["value"] for row in job["settings"]} for job in jobs]
    assert [settings["seed"] for settings in typed] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_test_of_learning_rates_is_told_without_one(lmtune, tmp_path):
    given = (*TINY_MODEL, "training.use_cpu=true", "data.block_size=32", "range.steps=20")
    answer = lmtune("check", "lr-find", *given, "format=json")
    assert answer.code == 0, answer.err
    told = answer.json
    assert (told["course"]["steps"], told["course"]["evaluations"], told["course"]["saves"]) == (20, 0, 0)
    assert (told["schedule"]["rates"][0], round(told["schedule"]["rates"][-1], 6)) == (1e-7, 1.0)
    places = {row["key"]: row["from"] for row in told["settings"]}
    assert places["range.steps"] == places["model.config.n_layer"] == "the command line"
    assert list(tmp_path.iterdir()) == []
    refused = lmtune("check", "lr-find", *given, "check.steps=3")
    assert (refused.code, refused.out) == (2, "")
    assert "check.steps is not a key of lmtune lr-find" in refused.err


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("training.lerning_rate=1",), "training.lerning_rate is not a key of lmtune check"),
        (("data.files=none.txt",), "none.txt"),
        (("model=hub", "model.path=nowhere"), "model.config"),
        (("data.block_size=5000",), "data.block_size"),
        (("training.optim=adamm",), "adamm"),
        (("check.probe=false", "check.steps=5"), "check.steps has no effect"),
        (("check.probe=false", "check.devices=8"), "check.devices has no effect"),
        (("check.devices=0",), "check.devices"),
        (("range.steps=10",), "range.steps"),
        (("output=taken",), "taken"),
    ],
)
def test_what_train_would_refuse_is_refused(lmtune, tmp_path, typed, words):
    write_texts(tmp_path / "taken", ["x"])
    answer = lmtune("check", *SHORT, *typed)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("training.warmup_steps=20", "a warm-up of 20 steps, and the run has 7"),
        (
            "training.eval_steps=10",
            "training.eval_steps=10 is more than the 7 steps of the run, which is scored at its end alone",
        ),
        ("training.logging_steps=8", "no loss will be logged"),
        ("training.per_device_train_batch_size=5000", "most of it empty"),
        ("eval.max_tokens=20", "Raise eval.max_tokens="),
        ("training.goldfish=1000000000", "tokens is left out of the loss, as they are too few for one in so many."),
        ("training.warmup_steps=6", None),
        ("training.eval_steps=7", None),
    ],
)
def test_settings_that_do_not_meet_are_told_with_the_remedy(lmtune, typed, words):
    quiet = ("training.logging_steps=1", "check.probe=false", "format=json")
    answer = lmtune("check", *SHORT, *quiet, typed)
    assert answer.code == 0, answer.err
    said = answer.json["remarks"]
    assert any(words in remark for remark in said) if words else said == []


def test_a_training_says_them_too(lmtune):
    answer = lmtune("train", *SHORT, "training.warmup_steps=20")
    assert answer.code == 0, answer.err
    assert "a warm-up of 20 steps, and the run has 7" in answer.err


FORETOLD = (
    *TINY_MODEL, "training.use_cpu=true", "training.bf16=false", "data.block_size=64", "samples.enabled=false", "model.vocab_size=512",
    "training.max_steps=300", "training.learning_rate=3e-3", "check.forecast=true", "check.probe=false",
)  # fmt: skip


def test_the_end_of_a_run_is_foretold_at_three_rates(lmtune, tmp_path):
    answer = lmtune("check", *FORETOLD, "format=json")
    assert answer.code == 0, answer.err
    forecast = answer.json["forecast"]
    assert (forecast["steps"], forecast["kind"]) == (9, "scratch")
    assert [row["learning_rate"] for row in forecast["rates"]] == pytest.approx([1.5e-3, 3e-3, 6e-3])
    for row in forecast["rates"]:
        assert list(row["measured"]) == ["4", "9"]
        assert 0 < row["low"] < row["bits_per_byte"] < row["high"] < 1.5 * row["measured"]["4"]
    first, second, _ = (row["measured"]["9"] for row in forecast["rates"])
    assert second < first  # twice the rate, and the same weights at the start
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_longer_probe_tells_it_more_narrowly(lmtune):
    short, long = (
        lmtune("check", *FORETOLD, "training.max_steps=240", *more, "format=json").json["forecast"]["rates"][1]
        for more in ((), ("check.forecast_share=0.24",))
    )
    assert long["high"] - long["low"] < short["high"] - short["low"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("training.max_steps=700",), "more than 4 times teaches less each time (arXiv:2305.16264)"),
        (("training.max_steps=30",), "and this one has 30"),
        (("training.learning_rate=0.5",), "learning rate, and this one has 0.5"),
        (("model.config.n_embd=512",), "parameters, and this one has"),
        (("finetune=lora",), "finetune=full"),
        (("training.optim=sgd",), "training.optim=sgd"),
        (("training.lr_scheduler_type=reduce_lr_on_plateau",), "follows what is measured"),
        (("data.streaming=true",), "streamed"),
    ],
)
def test_what_is_not_known_is_not_foretold(lmtune, typed, words):
    answer = lmtune("check", *FORETOLD, *typed)
    assert answer.code == 0, answer.err
    said = " ".join(answer.out[answer.out.index("\nforecast") :].split())
    assert said.startswith("forecast none: ")
    assert words in said
    assert "0 documents" not in answer.out


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("check.forecast_share=0.05", "check.forecast=true"), "one of 0.03, 0.06, 0.12, 0.24, 0.48"),
        (("check.forecast_share=0.12",), "check.forecast_share has no effect"),
    ],
)
def test_a_probe_without_a_law_is_refused(lmtune, typed, words):
    answer = lmtune("check", *SHORT, *typed)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_more_devices_mean_fewer_steps():
    course = Course(
        steps=101, first=10, steps_per_epoch=50, tokens_per_step=100, targets_per_epoch=4990, evaluations=3, saves=2
    )
    there = course.with_factor(4)
    assert (there.steps, there.steps_per_epoch, there.tokens_per_step, there.first) == (26, 13, 400, 2)
    assert course.tokens == 2 * 4990 + 100
