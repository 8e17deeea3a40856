"""`lmtune data`, and further sets to watch."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from helpers import TINY_MODEL, set_status

from lmtune.modeling import loading
from lmtune.reporting.record import load_record


def write_group(folder, name, **settings):
    (folder / "conf" / "data").mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(
        "\n\n".join(f"{name} {n}: um texto sobre saúde e exames." for n in range(60)), encoding="utf-8"
    )
    group = {"files": f"{name}.txt", "documents": "blank_line", "block_size": 32, **settings}
    (folder / "conf" / "data" / f"{name}.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")


def test_the_account_adds_up_and_shows_text(lmtune):
    answer = lmtune("data")
    assert answer.code == 0, answer.err
    assert "rows read                                              106" in answer.out
    assert "document 1:\n| O coração que não descansa" in answer.out
    assert "block 2:" in answer.out
    account = lmtune("data", "format=json").json
    sides = account["ledger"]["sides"]
    assert sum(side["documents"] for side in sides.values()) == account["ledger"]["documents_kept"] == 106
    assert account["ledger"]["targets"] == sides["train"]["tokens"] - 1
    assert account["seen_in_training"]["validation"] == 0
    assert account["tokens_per_document"]["0.0"] <= account["tokens_per_document"]["1.0"]


def test_text_copied_between_sides_shows(lmtune, tmp_path):
    lines = [
        f"linha {n} com palavras que são somente dela, uma a uma, {n * 7} e {n * 13}, até o fim" for n in range(40)
    ]
    (tmp_path / "train.txt").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "held.txt").write_text(
        "\n\n".join(["antes " + line + " depois" for line in lines[:20]]), encoding="utf-8"
    )
    account = lmtune(
        "data",
        "data.files=train.txt",
        "data.validation_files=held.txt",
        "data.documents=blank_line",
        "data.block_size=32",
        "format=json",
    ).json
    assert account["ledger"]["documents_in_training"] == 0, "no document is equal to another"
    assert account["seen_in_training"]["validation"] > 0.5


def test_the_cache_is_listed_and_pruned(lmtune, tmp_path, monkeypatch):
    monkeypatch.setenv("LMTUNE_CACHE", str(tmp_path / "cache"))
    assert lmtune("data").code == 0
    listed = lmtune("data", "cache=list", "format=json").json
    assert len(listed["entries"]) == 3, "split, rows, and the vocabulary that was learned"
    assert listed["bytes"] == sum(entry["bytes"] for entry in listed["entries"]) > 80_000
    assert "3 entries removed" in lmtune("data", "cache=prune").out
    assert "0 entries kept" in lmtune("data", "cache=list").out


def test_a_learned_vocabulary_is_learned_once(lmtune, tmp_path, monkeypatch):
    monkeypatch.setenv("LMTUNE_CACHE", str(tmp_path / "cache"))
    learned, learn = [], loading.learn_tokenizer
    monkeypatch.setattr(loading, "learn_tokenizer", lambda texts, *given: learned.append(given) or learn(texts, *given))
    short = ("train", "training.max_steps=1", "samples.enabled=false", "training.use_cpu=true", "eval.max_tokens=200")
    runs = [lmtune(*short, *more).run for more in ((), ("model.config.n_layer=1",), ("model.vocab_size=300",))]
    assert [entries for entries, _ in learned] == [1024, 300]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        texts = [(run / "model" / name).read_text(encoding="utf-8") for run in runs]
        assert texts[0] == texts[1]
    assert "cache" not in texts[0]


def test_further_sets_are_scored_beside_the_main_one(lmtune, tmp_path):
    write_group(tmp_path, "mine")
    write_group(tmp_path, "other", validation_fraction=0.3)
    answer = lmtune(
        "train", "data=mine", "eval_data=[other,sample]", "objective=other.loss", "training.max_steps=4", "training.use_cpu=true",
        "samples.enabled=false",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    results = json.loads((answer.run / "results.json").read_text())
    assert list(results["eval"]) == ["mine", "other", "sample"]
    assert results["eval"]["sample"]["bytes"] == 5534
    lines = [json.loads(line) for line in (answer.run / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if "eval_loss" in line]
    assert all({"eval_other_loss", "eval_sample_bits_per_byte"} <= set(line) for line in evaluations)
    assert evaluations[-1]["eval_other_loss"] == pytest.approx(results["eval"]["other"]["loss"], rel=1e-6)
    config = yaml.safe_load((answer.run / "config.yaml").read_text(encoding="utf-8"))
    assert config["eval_sets"]["other"]["validation_fraction"] == 0.3


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("eval_data=[nope]", "eval_data names nope: expected one of"),
        ("eval_data=[sample]", "eval_data names sample, which data= watches already"),
    ],
)
def test_sets_that_cannot_be_watched_are_refused(lmtune, override, complaint):
    answer = lmtune("train", override)
    assert answer.code == 2
    assert complaint in answer.err


def test_isolated_documents_train(lmtune):
    command = ("train", "training.max_steps=4", "training.use_cpu=true", "samples.enabled=false", "format=json")
    together, isolated = lmtune(*command), lmtune(*command, "data.isolate_documents=true")
    assert isolated.code == 0, isolated.err
    losses = [answer.json["eval"]["sample"]["loss"] for answer in (together, isolated)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_mixture_is_learned_from_and_accounted_for(lmtune, tmp_path):
    write_group(tmp_path, "old")
    answer = lmtune(
        "train", "data.mix={sample:0.8,old:0.2}", "eval_data=old", "training.max_steps=4", "training.use_cpu=true"
    )
    assert answer.code == 0, answer.err
    mix = json.loads((answer.run / "ledger.json").read_text())["mix"]
    assert mix["old"]["blocks_per_epoch"] == round(mix["sample"]["blocks"] / 4)
    assert f"mix: old: {mix['old']['blocks_per_epoch']:,} of {mix['old']['blocks']:,} blocks an epoch" in answer.err
    results = json.loads((answer.run / "results.json").read_text())
    assert set(results["eval"]) == {"sample", "old"}
    begin = results["epochs"][0]
    shown = [line.split()[3:] for line in answer.out.splitlines() if line.startswith("bits per byte")]
    assert shown == [
        [f"{begin['bits_per_byte']:.4f}", f"{results['eval']['sample']['bits_per_byte']:.4f}"],
        [f"{begin['sets']['old']['bits_per_byte']:.4f}", f"{results['eval']['old']['bits_per_byte']:.4f}"],
    ]
    assert "unopened" not in {path.name for path in tmp_path.iterdir()}
    account = lmtune("data", "data.mix={sample:0.8,old:0.2}", "format=json").json
    assert account["ledger"]["mix"] == mix
    missing = lmtune("train", "data.mix={sample:0.8,nowhere:0.2}")
    assert missing.code == 2
    assert "data.mix names nowhere: expected one of" in missing.err


def test_a_stream_is_trained_on_and_resumed_to_the_same_weights(lmtune, tmp_path):
    for shard in range(3):
        rows = [
            json.dumps({"text": f"documento {n} do arquivo {shard}, sobre saúde e exames"}) + "\n" for n in range(80)
        ]
        (tmp_path / f"{shard}.jsonl").write_text("".join(rows), encoding="utf-8")
    command = (
        "train", "data.files=*.jsonl", "data.streaming=true", "data.shuffle_blocks=64", "data.block_size=32", "training.use_cpu=true",
        "samples.enabled=false", "training.max_steps=12", "training.eval_steps=3", "training.save_steps=3", "training.save_total_limit=9",
    )  # fmt: skip
    refused = lmtune(*(part for part in command if "max_steps" not in part))
    assert refused.code == 2
    assert "data.streaming=true needs training.max_steps=" in refused.err
    answer = lmtune(*command)
    assert answer.code == 0, answer.err
    assert "data: streamed in blocks of 32; held out by hash, among the first 240 documents" in answer.err
    whole = (answer.run / "model" / "model.safetensors").read_bytes()
    ledger = (answer.run / "ledger.json").read_text()
    for name in ("checkpoint-12", "checkpoint-9", "model"):
        shutil.rmtree(answer.run / name)
    set_status(answer.run, "stopped")
    resumed = lmtune("train", f"resume={answer.run}")
    assert resumed.code == 0, resumed.err
    assert "resuming from checkpoint-6" in resumed.err
    assert (answer.run / "model" / "model.safetensors").read_bytes() == whole
    assert (answer.run / "ledger.json").read_text() == ledger


def test_streams_are_mixed_and_each_is_accounted_for(lmtune, tmp_path):
    for name in ("new", "old"):
        write_group(tmp_path, name, rows_per_document=2)
    command = (
        "data=new", "data.mix={new:0.75,old:0.25}", "data.streaming=true", "eval_data=old", "training.max_steps=3",
        "training.use_cpu=true", "training.per_device_train_batch_size=4", "samples.enabled=false", "report.enabled=false",
        *TINY_MODEL,
    )  # fmt: skip
    answer = lmtune("train", *command)
    assert answer.code == 0, answer.err
    assert "mix: old: 3 blocks of the run, streamed" in answer.err
    assert load_record(answer.run).faults == []
    mix = json.loads((answer.run / "ledger.json").read_text())["mix"]
    assert {name: part["blocks_per_run"] for name, part in mix.items()} == {"new": 9, "old": 3}
    assert mix["old"]["ledger"]["rows_read"] == 60
    protocol = json.loads((answer.run / "results.json").read_text())["eval"]["old"]["protocol"]
    assert protocol["split_by"] == "hash, among the first 30 documents", "as the stream is split, which is learned from"
    refused = lmtune("train", *command, "data.prepared=[new]")
    assert refused.code == 2
    assert "data.prepared=new: expected names of other sources of data.mix" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_mixture_resumed_in_its_second_epoch_ends_with_the_same_weights(tmp_path, processes):
    write_group(tmp_path, "new")
    write_group(tmp_path, "old")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [
        *launcher, "-m", "lmtune", "train", "data=new", "data.mix={new:0.5,old:0.5}", "data.epochs=2", "training.use_cpu=true",
        "samples.enabled=false", "training.eval_steps=0.25", "training.save_steps=0.25", "training.save_total_limit=9",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def train(*more):
        answer = subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stderr

    train()
    (run,) = (tmp_path / "outputs").glob("*/*")
    whole = (run / "model" / "model.safetensors").read_bytes()
    *_, third, last = sorted(run.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for folder in (last, run / "model"):
        shutil.rmtree(folder)
    set_status(run, "stopped")
    assert f"resuming from {third.name}" in train(f"resume={run}")
    assert (run / "model" / "model.safetensors").read_bytes() == whole
