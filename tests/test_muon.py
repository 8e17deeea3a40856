"""training.muon: matrices of the blocks move by Muon, everything else by AdamW, and a resumed run ends with the same bits."""

import shutil

import pytest
import torch
from helpers import set_status
from transformers import AutoModelForCausalLM

from lmtune.training.muon import ADAMW_SIZE, FUSED, Fused, Muon, find_matrices, orthogonalize, scale_update

WHOLE = {"axis": 0, "parts": 1}
ASKED = (
    "train", "model=gpt2-tiny", "training.muon=true", "training.max_steps=8", "training.eval_steps=4", "training.use_cpu=true",
    "samples.enabled=false", "report.enabled=false",
)  # fmt: skip


def move(weight, gradient, **group):
    """A weight after a step of Muon with this gradient."""
    weight = torch.nn.Parameter(weight.clone())
    weight.grad = gradient
    Muon([{"params": [weight], **group}], lr=0.1, weight_decay=group.get("weight_decay", 0.0)).step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_an_update_keeps_the_singular_vectors_and_evens_the_values(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1.5, shape[1]))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    even = left.T @ orthogonalize(matrix) @ right.T
    values = even.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.25
    assert (even - torch.diag(values)).abs().max() < 1e-3
    assert scale_update(matrix).square().mean().sqrt() == pytest.approx(ADAMW_SIZE, rel=0.25)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has it from 2.9 on")
def test_whole_matrices_move_as_by_torch():
    """torch's iterates in bfloat16."""
    torch.manual_seed(0)
    weight, gradients = torch.randn(20, 30), torch.randn(3, 20, 30)
    ours, theirs = (torch.nn.Parameter(weight.clone()) for _ in range(2))
    optimizers = (
        Muon([{"params": [ours], "muon": WHOLE, "weight_decay": 0.1}], lr=0.1),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    apart, moved = (ours - theirs).detach().abs(), (theirs - weight).detach().abs()
    assert float(apart.max() / moved.max()) < 0.02


def test_query_key_and_value_of_gpt2_move_each_for_itself():
    torch.manual_seed(0)
    weight, gradient = torch.zeros(16, 48), torch.randn(16, 48) * torch.tensor([1.0, 10.0, 100.0]).repeat_interleave(16)
    moved = move(weight, gradient, muon=FUSED["Conv1D"]["c_attn"]._asdict())
    for part, of_gradient in zip(moved.chunk(3, 1), gradient.chunk(3, 1), strict=True):
        assert torch.allclose(part, move(weight[:, :16], of_gradient, muon=WHOLE), atol=1e-6)
    assert not torch.allclose(moved, move(weight, gradient, muon=WHOLE), atol=1e-3)


def test_other_weights_move_by_adamw():
    torch.manual_seed(0)
    weight, gradient = torch.randn(5, 7), torch.randn(5, 7)
    plain = torch.nn.Parameter(weight.clone())
    plain.grad = gradient
    torch.optim.AdamW([plain], lr=0.1, weight_decay=0.3).step()
    assert torch.equal(move(weight, gradient, weight_decay=0.3), plain)


@pytest.mark.parametrize(("kind", "count"), [("gpt2", 8), ("llama", 14), ("qwen2", 14), ("gpt_neox", 8)])
def test_only_matrices_of_blocks_are_moved_by_it(build_tiny, kind, count):
    matrices = find_matrices(build_tiny(kind))
    assert len(matrices) == count
    assert not any(word in name for name in matrices for word in ("wte", "embed", "head", "norm", "ln_", "bias"))
    assert (Fused(1, 3) in matrices.values()) == (kind == "gpt2")


def test_of_an_adapter_its_own_matrices_are_moved(build_tiny):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(build_tiny("llama"), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    assert {name.split(".")[-3] for name in find_matrices(model)} == {"lora_A", "lora_B"}


def test_a_resumed_run_ends_with_the_same_bits(lmtune, tmp_path):
    kept = ("training.load_best_model_at_end=false", "training.save_total_limit=5", "training.weight_decay=0.1")
    straight = lmtune(*ASKED, *kept, "output=straight", "format=json")
    assert straight.code == 0, straight.err
    assert straight.json["train"]["settings"]["optim"].startswith("muon, adamw")
    shutil.copytree(tmp_path / "straight", tmp_path / "cut")
    for name in ("checkpoint-8", "model"):
        shutil.rmtree(tmp_path / "cut" / name)
    set_status(tmp_path / "cut", "stopped")
    assert lmtune("train", "resume=cut", "output=cut").code == 0
    one, other = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").state_dict() for name in ("straight", "cut")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("training.optim=adafactor", "training.optim=adafactor, where it needs AdamW"),
        ("finetune=gradual training.max_steps=-1", "finetune=gradual, which groups weights"),
        ("training.fp16=true", "float16, whose gradients are scaled (training.fp16=false turns it off)"),
    ],
)
def test_what_it_does_not_go_with_is_refused(lmtune, setting, found):
    answer = lmtune(
        *(each for each in ASKED if "max_steps" not in each or "max_steps" not in setting), *setting.split()[:1]
    )
    assert answer.code == 2
    assert f"training.muon=true: expected settings that it goes with, found {found}" in answer.err


def test_all_weights_of_a_pretrained_model_are_a_warning(lmtune, build_tiny, tokenizer, tmp_path):
    for saved in (build_tiny(), tokenizer):
        saved.save_pretrained(tmp_path / "base")
    told = "training.muon=true on all weights of a pretrained model"
    asked = (
        "train",
        "model.path=base",
        "training.muon=true",
        "training.max_steps=1",
        "training.warmup_steps=0",
        "data.block_size=32",
        *ASKED[5:],
    )
    assert told in lmtune(*asked).err
    assert told not in lmtune(*asked, "finetune=lora").err
