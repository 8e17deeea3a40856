"""Language adaptation from the command line."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

PHASES = "finetune.phases=[{epochs: 0.3, groups: 1}, {epochs: 0.3, groups: 2, lowest_learning_rate: 1e-4}]"


def train(folder, *arguments, launcher=(sys.executable,)):
    command = [*launcher, "-m", "lmtune", "train", "training.use_cpu=true", "samples.enabled=false", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_cross_a_phase_edge_as_one_does(tmp_path):
    """Frozen groups are equal to the bit, the others as near as sums over two processes are.

    In float32, since Adam amplifies bfloat16's rounding where a gradient is nearly zero.
    """
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    shared = ("finetune=gradual", PHASES, "training.load_best_model_at_end=false", "training.bf16=false")
    train(tmp_path, *shared, "training.per_device_train_batch_size=4", "output=two", launcher=torchrun)
    train(tmp_path, *shared, "training.per_device_train_batch_size=8", "output=one")
    two, one = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("two", "one"))
    frozen = [name for name in one if ".h.0." in name or ".h.1." in name]  # 4 blocks in 3 groups: the lowest has two
    assert len(frozen) == 24
    assert all(torch.equal(one[name], two[name]) for name in frozen)
    for name in one.keys() - set(frozen):
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=2e-4)
    losses = [
        json.loads((tmp_path / run / "results.json").read_text())["eval"]["sample"]["loss"] for run in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_three_commands_lead_from_a_vocabulary_to_a_biomedical_model(lmtune, build_tiny, tokenizer, texts, tmp_path):
    build_tiny(n_layer=3).save_pretrained(tmp_path / "english")
    tokenizer.save_pretrained(tmp_path / "english")
    (tmp_path / "pt.txt").write_text("\n\n".join(texts), encoding="utf-8")
    (tmp_path / "bio.txt").write_text("\n\n".join(text.upper() for text in texts), encoding="utf-8")
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "general.yaml").write_text("files: pt.txt\ndocuments: blank_line\n")
    rows = ("data.documents=blank_line", "data.min_chars=0", "data.block_size=32", "training.use_cpu=true")
    quiet = ("data.max_bytes=null", "samples.enabled=false", "format=json")
    asked = ("data.files=pt.txt", "data.documents=blank_line", "tokenizer.vocab_size=400", "output=tok", "format=json")
    assert lmtune("tokenizer", *asked, "data.validation_fraction=0.2").code == 0
    moved = lmtune(
        "train", "experiment=gportuguese2", "data.files=pt.txt", *rows, *quiet, "model.path=english", "model.tokenizer=tok",
        "output=moved",
    )  # fmt: skip
    assert moved.code == 0, moved.err
    epochs = moved.json["epochs"]
    assert [row["epoch"] for row in epochs] == [0, 1, 2, 3, 4, 5], "as in the table of its card, epoch 0 included"
    assert epochs[-1]["bits_per_byte"] < epochs[0]["bits_per_byte"]
    assert {"loss", "accuracy", "perplexity", "bits_per_byte", "seconds", "cumulative_seconds"} <= epochs[0].keys()
    assert "| 5.00 |" in (tmp_path / "moved/model/README.md").read_text(encoding="utf-8")
    again = lmtune("train", "resume=moved", "format=table")
    assert "| 5.00 |" in again.out
    bio = lmtune(
        "train", "experiment=gpt2-biopt", "model.path=moved", "data.files=bio.txt", *rows, *quiet, "data.rows_per_document=1",
        "eval_data=[general]", "training.num_train_epochs=1", "training.per_device_train_batch_size=4",
    )  # fmt: skip
    assert bio.code == 0, bio.err
    assert list(bio.json["eval"]) == ["bio", "general"], "what is forgotten stands beside what is learned"
    assert bio.json["epochs"][0]["loss"] > 0
