"""Weights spread over processes: the runs are those of DDP, whatever is trained, and go on with and without."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import TINY_MODEL, set_status
from safetensors.torch import load_file

SCRIPT = """
import json, os, sys, torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments
from lmtune.config import LossChoice
from lmtune.modeling.loss import install_loss

kind, choice, folder = sys.argv[1:]
shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "vocab_size": 300,
         "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}
others = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {"intermediate_size": 48, "num_key_value_heads": 1, "tie_word_embeddings": False, "pad_token_id": None},
}
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **others[kind]))
model.loss_type = "ForCausalLM"
install_loss(model, LossChoice(choice))
arguments = TrainingArguments(
    folder, use_cpu=True, max_steps=5, per_device_train_batch_size=2, fsdp=True, save_strategy="no", optim="sgd",
    learning_rate=0.1, logging_steps=1, disable_tqdm=True, report_to="none",
)
AcceleratorState._reset_state()
PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU  # on a CPU accelerate takes DDP otherwise
torch.manual_seed(1)
rows = [{"input_ids": row, "labels": row} for row in torch.randint(1, 300, (40, 24))]
trainer = Trainer(model, arguments, train_dataset=rows)
trainer.train()
if arguments.process_index == 0:
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    print(json.dumps({"wrapped": type(trainer.model_wrapped).__name__, "losses": losses}))
sys.stdout.flush()
torch.distributed.destroy_process_group()
os._exit(0)  # threads of gloo may still run, which aborts a process that ends by itself
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_fused_loss_under_fsdp_is_the_plain_one(tmp_path, kind):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launcher = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
        kind,
    )
    ended = [
        subprocess.run([*launcher, choice, str(tmp_path)], capture_output=True, text=True, check=False)
        for choice in ("plain", "fused")
    ]
    assert [each.returncode for each in ended] == [0, 0], [each.stderr[-2000:] for each in ended]
    plain, fused = (json.loads(each.stdout.splitlines()[-1]) for each in ended)
    assert fused["wrapped"].startswith("FSDP")
    assert fused["losses"] == pytest.approx(plain["losses"], rel=1e-6)


TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
COMMON = (
    *("train", "training.use_cpu=true", "training.bf16=false", *TINY_MODEL, "model.config.n_layer=2", "format=json"),
    *("training.eval_steps=4", "training.per_device_train_batch_size=4"),
    *("generation.max_new_tokens=8", "generation.do_sample=false"),
)
SHORT, UNCUT = "training.max_steps=12", "training.max_grad_norm=0"
PHASES = "[{epochs:1,groups:1,learning_rate:1e-3},{epochs:1,groups:2,learning_rate:1e-3}]"
CASES = {
    "full": (SHORT, UNCUT),
    "clipped": (SHORT, "training.max_grad_norm=0.1"),
    "accumulated": (SHORT, UNCUT, "training.gradient_accumulation_steps=2", "training.activation_checkpointing=true"),
    "bfloat16": (SHORT, UNCUT, "training.bf16=true"),
    "sgd": (SHORT, UNCUT, "training.optim=sgd", "training.learning_rate=0.1"),
    "gradual": (
        UNCUT,
        "finetune=gradual",
        f"finetune.phases={PHASES}",
        "finetune.block_groups=2",
        "data.max_documents=20",
    ),
    "lora": (SHORT, UNCUT, "finetune=lora"),
    "saved in half": (SHORT, UNCUT, "model.save_dtype=bfloat16"),
}
"""By what is tried: settings beside the common ones."""
APART = {"clipped": 1e-5}
"""How far a weight may be from that of DDP; 0 for all others. The norm at which gradients are cut off is added up in another
order."""


def train(folder, *arguments, launcher=TWO):
    """results.json of a run in `folder`; two processes unless said otherwise."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, "-m", "lmtune", *COMMON, f"output={folder}", *arguments]
    ended = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout)


def load(folder):
    """Weights by name."""
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def measure_distance(one, other):
    """The largest difference of a weight in two folders."""
    first, second = load(one), load(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def stop_at(run, step, folder):
    """A copy of a run as it was when it had saved `step`."""
    shutil.copytree(run, folder)
    for checkpoint in folder.glob("checkpoint-*"):
        if int(checkpoint.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(checkpoint)
    set_status(folder, "stopped")
    return folder


def assert_same_state(one, other):
    """The optimizer's state in two checkpoints, bit by bit."""
    states = [torch.load(folder / "optimizer.pt", weights_only=True) for folder in (one, other)]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert states[0]["state"].keys() == states[1]["state"].keys()
    for number, values in states[0]["state"].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(states[1]["state"][number][name])), (
                number,
                name,
            )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_sharded_run_is_that_of_ddp(tmp_path, lmtune, case):
    """What each has in its folder, and that `lmtune eval` finds the numbers of results.json in the model that was saved."""
    sharded, copied = tmp_path / "sharded", tmp_path / "copied"
    results = train(sharded, "training.fsdp=true", *CASES[case])
    assert results["train"]["distributed"] == "FSDP"
    plain = train(copied, *CASES[case])
    files = [{str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()} for run in (sharded, copied)]
    assert files[0] == files[1]
    checkpoints = [file.parent.name for file in sharded.glob("checkpoint-*/manifest.json")]
    for name in ("model", *checkpoints):
        assert measure_distance(sharded / name, copied / name) <= APART.get(case, 0), name
    if case not in APART:
        for name in checkpoints:
            assert_same_state(sharded / name, copied / name)
    assert (sharded / "samples.jsonl").read_text() == (copied / "samples.jsonl").read_text()
    alone = lmtune("eval", f"ckpt={sharded}", "device=cpu", "format=json").json["eval"]["sample"]
    scored, ddp = results["eval"]["sample"], plain["eval"]["sample"]
    assert alone["protocol"]["model"] == scored["protocol"]["model"]
    assert alone["loss"] == pytest.approx(scored["loss"], rel=1e-12)
    assert ddp["loss"] == pytest.approx(scored["loss"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["full", "lora", "gradual"])
def test_a_run_goes_on_sharded_or_not_under_any_number_of_processes(tmp_path, case):
    """From step 4 in three ways, and from step 8 of one that went on with DDP back to spread weights."""
    sharded, keep = tmp_path / "sharded", ("training.save_total_limit=null", *CASES[case])
    fsdp, one = "training.fsdp=true", ("training.gradient_accumulation_steps=2", "resume_force=true")
    train(sharded, fsdp, *keep)
    for name, launcher, settings in (("fsdp", TWO, (fsdp,)), ("ddp", TWO, ()), ("alone", (sys.executable,), one)):
        run = stop_at(sharded, 4, tmp_path / name)
        train(run, *settings, *keep, f"resume={run}", launcher=launcher)
        exact = name == "fsdp" or (name == "ddp" and case not in APART)
        for folder in ("checkpoint-8", "model"):
            assert measure_distance(run / folder, sharded / folder) <= (0 if exact else 1e-5), name
        if exact:
            assert_same_state(run / "checkpoint-8", sharded / "checkpoint-8")
    back = stop_at(tmp_path / "ddp", 8, tmp_path / "back")
    train(back, fsdp, *keep, f"resume={back}")
    assert measure_distance(back / "model", sharded / "model") <= (1e-5 if case in APART else 0)


def test_accelerates_own_fsdp_is_refused(lmtune, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    answer = lmtune("train", "training.use_cpu=true")
    assert answer.code == 2
    assert "Expected whole weights on each device" in answer.err
    assert "give training.fsdp=true" in answer.err
    assert "Traceback" not in answer.err


def test_what_was_not_tried_with_spread_weights_is_refused_by_name(lmtune, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    named = ["training.fp16=true", "training.torch_compile=true", "training.use_liger_kernel=true",
             "training.auto_find_batch_size=true", "training.optim=adafactor", "eval.dtype=float64", "finetune.embeddings=true"]  # fmt: skip
    answer = lmtune("train", "training.fsdp=true", "training.use_cpu=true", "finetune=lora", *named)
    assert answer.code == 2
    assert "training.fsdp=true has not been tried with" in answer.err
    assert [each for each in named if each not in answer.err] == []
    assert "Leave them out, or training.fsdp." in answer.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", ["check", "lr-find"])
def test_commands_that_try_steps_do_not_spread_weights(lmtune, monkeypatch, command):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr("lmtune.config.sharding.find_older", lambda *_: None)  # which would be refused first
    answer = lmtune(command, "training.fsdp=true", "training.use_cpu=true")
    assert answer.code == 2
    assert f"lmtune {command} does not spread them" in answer.err
