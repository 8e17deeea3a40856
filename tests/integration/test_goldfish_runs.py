"""training.goldfish= in whole runs: what is told beforehand is what is left out, in every kind of run, and resumed to the same bits."""

import json
import sys

import pytest
from helpers import TINY_MODEL
from test_processes import finish, start
from test_resume import stop_halfway, weights

from lmtune.runs import Run

RUN = (
    *("data.files=new.txt", "data.name=new", "data.documents=line", "data.block_size=32"),
    *("training.use_cpu=true", "training.bf16=false", "training.per_device_train_batch_size=4"),
    *("training.logging_steps=1", "training.eval_steps=2", "training.save_total_limit=9"),
    *("samples.enabled=false", "training.goldfish=3"),
)
SCRATCH = (*TINY_MODEL, "training.max_steps=4")


@pytest.fixture
def folder(texts, tmp_path):
    lines = "\n".join(text.replace("\n", " ") for text in texts)
    (tmp_path / "new.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "more.txt").write_text(lines.upper(), encoding="utf-8")
    groups = tmp_path / "conf" / "data"
    groups.mkdir(parents=True)
    (groups / "old.yaml").write_text("files: more.txt\ndocuments: line\nvalidation_fraction: 0.2\n")
    return tmp_path


def test_what_is_told_is_left_out_and_evaluation_leaves_out_nothing(lmtune, folder):
    told = lmtune("check", *RUN, *TINY_MODEL, "training.num_train_epochs=1.4", "format=json")
    assert told.code == 0, told.err
    answer = lmtune("train", *RUN, *TINY_MODEL, "training.num_train_epochs=1.4", "output=run", "format=json")
    assert answer.code == 0, answer.err
    run = Run(folder / "run")
    results, ledger = run.load_results(), json.loads(run.ledger_file.read_text())
    assert results["train"]["tokens"] == told.json["course"]["tokens"]
    assert 0.25 < ledger["targets_left_out"] / ledger["targets"] < 0.42
    assert f"{ledger['targets_left_out']:,} of {ledger['targets']:,} tokens" in answer.err
    left_out = results["train"]["tokens_left_out"]
    assert results["train"]["tokens"] + left_out > 1.3 * ledger["targets"]
    assert f"{left_out:,} more left out of the loss" in run.report_file.read_text()
    assert f"{left_out:,} more were left out of the loss, one in 3" in (run.model_folder / "README.md").read_text()
    counts = results["eval"]["new"]["tokens"]
    plain = lmtune("eval", "ckpt=run", "format=json", "device=cpu")
    assert plain.json["eval"]["new"]["tokens"] == counts == ledger["sides"]["validation"]["tokens"]
    refused = lmtune("train", "resume=run", "training.goldfish=4", "training.num_train_epochs=1.4")
    assert refused.code == 2
    assert "training.goldfish: 3 then, 4 now" in refused.err


@pytest.mark.parametrize("command", ["eval", "generate", "audit"])
def test_a_command_that_learns_nothing_has_no_such_key(lmtune, command):
    answer = lmtune(command, "training.goldfish=4")
    assert answer.code == 2
    assert f"training.goldfish is not a key of lmtune {command}" in answer.err
    assert "train" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "beside",
    [
        ("training.gradient_accumulation_steps=2", "model.loss=plain"),
        ("data.mix={new:2,old:1}",),
        ("data.packing=false",),
        ("data.isolate_documents=true", "data.stride=4"),
        ("data.files=[new.txt,more.txt]", "data.streaming=true", "data.shuffle_blocks=4"),
        ("data.files=[new.txt,more.txt]", "data.streaming=true", "data.lanes=2"),
        ("data.mix={new:2,old:1}", "data.streaming=true"),
    ],
)
def test_a_run_is_resumed_to_the_same_bits(lmtune, folder, beside):
    answer = lmtune("train", *RUN, *SCRATCH, *beside, "output=run")
    assert answer.code == 0, answer.err
    run = Run(folder / "run")
    expected, counts = weights(run), count(run)
    assert counts[1] > 0
    stop_halfway(run.folder)
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert weights(run) == expected
    assert count(run) == counts


@pytest.mark.slow
@pytest.mark.parametrize(
    "beside", [("finetune=lora",), ("forgetting.on=old",), ("forgetting.on=old", "forgetting.replay=self")]
)
def test_it_works_with_an_adapter_and_with_old_text(lmtune, folder, build_tiny, tokenizer, beside):
    build_tiny().save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    answer = lmtune("train", *RUN, "model.path=base", "training.max_steps=4", *beside, "output=run")
    assert answer.code == 0, answer.err
    run = Run(folder / "run")
    learned, left_out = count(run)
    replayed = run.load_results().get("forgetting")
    assert learned + left_out == 4 * 4 * 32 + (0 if replayed is None else replayed["rows"] * 32)
    if replayed is not None:
        assert replayed["tokens"] < replayed["rows"] * 32


@pytest.mark.slow
def test_accumulated_passes_and_several_processes_learn_what_one_pass_does(folder):
    in_order = "training.train_sampling_strategy=sequential"  # else the order depends on the rows of a pass
    shared = ("train", *RUN, *SCRATCH, in_order, "training.learning_rate=1e-2", "format=json")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    runs = [
        json.loads(finish(start(folder, *shared, *how, launcher=launcher)))
        for how, launcher in (
            (("output=one",), (sys.executable,)),
            (
                ("output=passes", "training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=4"),
                (sys.executable,),
            ),
            (("output=two", "training.per_device_train_batch_size=2"), torchrun),
        )
    ]
    first, *others = [
        (run["train"]["tokens"], run["train"]["tokens_left_out"], run["eval"]["new"]["loss"]) for run in runs
    ]
    for other in others:
        assert other[:2] == first[:2]
        assert other[2] == pytest.approx(first[2], rel=1e-4)
    assert runs[1]["train"]["loss"] == pytest.approx(runs[0]["train"]["loss"], rel=1e-4)


def count(run):
    """(tokens learned, tokens left out)."""
    train = run.load_results()["train"]
    return train["tokens"], train["tokens_left_out"]
