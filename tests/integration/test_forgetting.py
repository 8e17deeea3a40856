"""forgetting.on=: old text beside the new, held by the gauge; counted apart, resumed to the same bits, written once."""

import json

import pytest
from test_resume import stop_halfway, weights

from lmtune.runs import Run

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
@pytest.mark.parametrize("replay", ["old", "self"])
def test_a_run_with_a_budget_is_resumed_to_the_same_bits(lmtune, world, replay):
    answer = lmtune("train", *FAST, "forgetting.on=old", f"forgetting.replay={replay}", "output=run", "format=json")
    assert answer.code == 0, answer.err
    run = Run(world / "run")
    expected, shares, results = weights(run), read_shares(run), run.load_results()
    assert len(shares) == 3
    assert shares[0] == 0.25
    found = results["forgetting"]
    assert (found["on"], found["replay"], found["budget"]) == ("old", replay, 0.01)
    assert found["kept"] == (found["rise"] <= 0.01)
    assert "forgetting: old" in answer.err
    ledger = json.loads(run.ledger_file.read_text())
    assert ledger["replay"]["source"] == replay
    assert ledger["replay"]["blocks_learned"] == found["rows"] > 0
    assert ledger["replay"]["tokens_learned"] == found["tokens"] == found["rows"] * 32
    assert results["train"]["tokens"] == 4 * 4 * 32 + found["tokens"]
    stop_halfway(run.folder)
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert "resuming from checkpoint-2" in answer.err
    assert weights(run) == expected
    assert read_shares(run) == shares
    assert run.load_results()["forgetting"] == found
