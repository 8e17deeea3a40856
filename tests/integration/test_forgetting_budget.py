"""forgetting.on=: old text beside the new, held by the gauge; counted apart, resumed to the same bits, written once."""

import json
import shutil
import sys

import pytest
import torch
from test_processes import finish, start
from test_resume import stop_halfway, weights

from lmtune.reporting.record import load_record
from lmtune.runs import Run
from lmtune.runs.files import step_of

OLD = [f"The patient {n} came to the clinic at {n % 9 + 1} and was sent home in good health." for n in range(120)]
FAST = (
    *("model.path=base", "data.files=new.txt", "data.documents=line", "data.block_size=32", "samples.enabled=false"),
    *("training.use_cpu=true", "training.max_steps=4", "training.eval_steps=2", "training.save_total_limit=9"),
    *("training.per_device_train_batch_size=4", "training.learning_rate=1e-2", "training.logging_steps=1"),
)


@pytest.fixture
def world(build_tiny, tokenizer, texts, tmp_path):
    """A model that is to forget, text to learn, and `data=old`, text to keep."""
    build_tiny().save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "new.txt").write_text("\n".join(text.replace("\n", " ") for text in texts), encoding="utf-8")
    (tmp_path / "old.txt").write_text("\n".join(OLD), encoding="utf-8")
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "old.yaml").write_text("files: old.txt\ndocuments: line\nvalidation_fraction: 0.2\n")
    return tmp_path


def read_shares(run):
    return [line["replay_share"] for line in run.load_metrics() if "replay_share" in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replay", "beside"),
    [
        ("old", ()),
        ("apart", ()),
        ("self", ()),
        ("old", ("data.files=[new.txt,more.txt]", "data.streaming=true", "data.lanes=2")),
        ("self", ("audit.canaries=1", "audit.repeats=[1,2]")),
    ],
)
def test_a_run_with_a_budget_is_resumed_to_the_same_bits(lmtune, world, replay, beside):
    shutil.copy("new.txt", "more.txt")
    (world / "apart.txt").write_text("\n".join(f"A nurse {n} wrote it down." for n in range(9)), encoding="utf-8")
    (world / "conf" / "data" / "apart.yaml").write_text(
        "files: old.txt\nvalidation_files: apart.txt\ndocuments: line\n"
    )
    watched = "apart" if replay == "apart" else "old"
    answer = lmtune(
        *(
            "train",
            *FAST,
            f"forgetting.on={watched}",
            f"forgetting.replay={replay}",
            *beside,
            "output=run",
            "format=json",
        )
    )
    assert answer.code == 0, answer.err
    run = Run(world / "run")
    expected, shares, results = weights(run), read_shares(run), run.load_results()
    assert len(shares) == 3
    assert shares[0] == 0.25
    found = results["forgetting"]
    assert (found["on"], found["replay"], found["budget"]) == (watched, replay, 0.01)
    assert found["kept"] == (found["rise"] <= 0.01)
    assert f"forgetting: {watched}" in answer.err
    ledger = json.loads(run.ledger_file.read_text())
    assert ledger["replay"]["source"] == replay
    assert ledger["replay"]["blocks_learned"] == found["rows"] > 0
    assert ledger["replay"]["tokens_learned"] == found["tokens"] == found["rows"] * 32
    if not beside:
        assert results["train"]["tokens"] == 4 * 4 * 32 + found["tokens"]
    stop_halfway(run.folder)
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert "resuming from checkpoint-2" in answer.err
    assert weights(run) == expected
    assert read_shares(run) == shares
    assert run.load_results()["forgetting"] == found


@pytest.mark.slow
def test_a_budget_holds_over_the_phases_of_a_gradual_training(lmtune, world):
    given = [each for each in FAST if not each.startswith(("training.max_steps", "training.learning_rate"))]
    phases = "[{epochs: 1, groups: 1, learning_rate: 1e-3}, {epochs: 1, groups: 2, learning_rate: 1e-3}]"
    gradual = ("finetune=gradual", "finetune.block_groups=1", f"finetune.phases={phases}")
    answer = lmtune("train", *given, *gradual, "forgetting.on=old", "forgetting.budget=90%", "output=run")
    assert answer.code == 0, answer.err
    run = Run(world / "run")
    shares, results = read_shares(run), run.load_results()
    assert results["forgetting"]["kept"]
    assert shares[0] == 0.25
    assert shares[-1] < 0.25, "far below the budget the share falls"
    expected, last = weights(run), max(run.folder.glob("checkpoint-*"), key=step_of)
    last.rename(run.folder / "checkpoint-4")  # which stop_halfway takes for the last one
    stop_halfway(run.folder)
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert f"resuming from checkpoint-{step_of(last) - 2}" in answer.err
    assert weights(run) == expected
    assert read_shares(run) == shares


@pytest.mark.slow
def test_new_text_comes_as_it_would_without_a_budget_and_old_text_on_top(lmtune, world, monkeypatch):
    from lmtune.training.trainer import LmTrainer

    seen, step = {}, LmTrainer.training_step

    def record(self, model, inputs, count=None):
        seen.setdefault(self.run.folder.name, []).append(inputs["input_ids"].clone())
        return step(self, model, inputs, count)

    monkeypatch.setattr(LmTrainer, "training_step", record)
    accumulated = ("training.gradient_accumulation_steps=2", "training.per_device_train_batch_size=2")
    assert lmtune("train", *FAST, *accumulated, "eval_data=[old]", "output=plain").code == 0
    answer = lmtune("train", *FAST, *accumulated, "forgetting.on=old", "forgetting.most=50%", "output=budget")
    assert answer.code == 0, answer.err
    assert load_record(world / "budget").faults == []
    plain, mixed = seen["plain"], seen["budget"]
    assert len(plain) == len(mixed) == 8
    assert all(torch.equal(new, both[: len(new)]) for new, both in zip(plain, mixed, strict=True))
    extra = [len(both) - len(new) for new, both in zip(plain, mixed, strict=True)]
    assert [sum(extra[:2]), sum(extra[2:4])] == [1, 1], "a third of the 4 + 4 new rows, in whole rows"
    assert sum(extra) == Run(world / "budget").load_results()["forgetting"]["rows"]
    old = torch.cat([both[len(new) :] for new, both in zip(plain, mixed, strict=True)])
    assert len(old.unique(dim=0)) == len(old), "none comes twice before all have come"


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        ("data.streaming=true",),
        ("data.packing=false", "forgetting.replay=self"),
        ("data.packing=false",),
        ("data.isolate_documents=true",),
        ("data.stride=8",),
        ("data.mix={files:0.5,sample:0.5}", "forgetting.replay=self"),
        ("finetune=lora", "forgetting.replay=self"),
        ("average.last=0.5",),
        ("training.dataloader_num_workers=1",),
        ("training.eval_strategy=epoch",),
    ],
)
def test_a_budget_goes_with(lmtune, world, given):
    fast = [each for each in FAST if "eval_steps" not in each or "training.eval_strategy=epoch" not in given]
    answer = lmtune("train", *fast, "forgetting.on=old", *given, "output=run")
    assert answer.code == 0, answer.err
    results = Run(world / "run").load_results()
    assert results["forgetting"]["rows"] > 0
    assert results["forgetting"]["tokens"] <= results["forgetting"]["rows"] * 32
    assert results["forgetting"]["share"] == results["forgetting"]["tokens"] / results["train"]["tokens"]
    ledger = json.loads(Run(world / "run").ledger_file.read_text())
    assert ledger["replay"]["tokens_learned"] == results["forgetting"]["tokens"]


@pytest.mark.slow
def test_a_step_that_has_spent_the_budget_is_not_the_best(lmtune, world):
    settings = ("forgetting.on=old", "forgetting.most=1%", "forgetting.budget=1e-6", "training.learning_rate=0.05")
    answer = lmtune("train", *FAST, *settings, "output=run")
    assert answer.code == 0, answer.err
    run = Run(world / "run")
    found, (first, *later) = run.load_results(), [line for line in run.load_metrics() if "replay_share" in line]
    kept = [
        line["step"] for line in later if line["eval_old_bits_per_byte"] <= first["eval_old_bits_per_byte"] * (1 + 1e-6)
    ]
    assert found["train"]["best_step"] in (kept or [None])
    assert found["forgetting"]["kept"] == bool(kept)
    if not kept:
        assert "over the budget" in answer.out


@pytest.mark.slow
def test_check_tells_what_is_written_and_writes_nothing(lmtune, world):
    settings = (*FAST, "forgetting.on=old", "forgetting.replay=self", "forgetting.tokens=700", "seed=5")
    told = lmtune("check", *settings, "format=json").json
    assert (told["forgetting"]["tokens"], told["forgetting"]["written"]) == (704, False)
    assert told["cost"]["here"]["seconds_of"]["writing"] > 0
    assert told["text"]["held_out"]["old"]["scored"] > 0
    assert lmtune("train", *settings, "output=run").code == 0
    told = lmtune("check", *settings, "format=json").json
    assert told["forgetting"]["written"] is True
    assert told["cost"]["here"]["seconds_of"]["writing"] == 0


@pytest.mark.slow
def test_two_processes_agree_on_the_share_and_learn_what_one_does(world):
    described = json.loads((world / "base" / "config.json").read_text())
    described |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    (world / "base" / "config.json").write_text(json.dumps(described))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    settings = ("train", *FAST, "training.bf16=false", "forgetting.on=old", "forgetting.replay=self", "format=json")
    rows = "training.per_device_train_batch_size"
    two = json.loads(finish(start(world, *settings, f"{rows}=2", "output=two", launcher=torchrun)))
    one = json.loads(finish(start(world, *settings, f"{rows}=4", "output=one")))
    assert two["train"]["world_size"] == 2
    assert two["train"]["tokens"] == one["train"]["tokens"]
    assert two["forgetting"]["rows"] == one["forgetting"]["rows"] > 0
    assert two["eval"]["old"]["loss"] == pytest.approx(one["eval"]["old"]["loss"], rel=1e-4)
