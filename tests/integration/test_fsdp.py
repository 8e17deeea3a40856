"""FSDP: the fused loss works under it, and the command that does not says so."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, torch
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
    assert [each.returncode for each in ended] == [0, 0], ended[1].stderr[-2000:]
    plain, fused = (json.loads(each.stdout.splitlines()[-1]) for each in ended)
    assert fused["wrapped"].startswith("FSDP")
    assert fused["losses"] == pytest.approx(plain["losses"], rel=1e-6)


@pytest.mark.parametrize("source", ["training.fsdp=true", "environment"])
def test_weights_spread_over_devices_are_refused(lmtune, monkeypatch, source):
    if source == "environment":
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    answer = lmtune("train", *(() if source == "environment" else (source,)), "training.use_cpu=true")
    assert answer.code == 2
    assert "Expected whole weights on each device" in answer.err
    assert "Traceback" not in answer.err
