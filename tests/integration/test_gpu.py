"""On a GPU: mixed precision leaves the numbers alone, and determinism holds as it does on a CPU."""

import json
import shutil
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from helpers import set_status

from lmtune.config import LossChoice
from lmtune.modeling.activations import fuse_activations
from lmtune.modeling.cross_entropy import linear_cross_entropy
from lmtune.modeling.loss import install_loss
from lmtune.training.devices import detect_device
from lmtune.training.memory import estimate_memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE: dict[str, int] = {}
"""Keys of GPT2Config that differ from those of GPT-2 small."""
EXACT = ("training.max_steps=6", "training.full_determinism=true", "training.bf16=true", "model.config.resid_pdrop=0.1")


@pytest.fixture(autouse=True)
def _torch_is_left_as_it_was():
    """These runs share a process, in which they set TF32 and determinism for good."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    for place in (torch.backends, torch.backends.cuda.matmul, torch.backends.cudnn.conv):
        place.fp32_precision = "none"


def numbers_of(run, name="sample"):
    return json.loads((run / "results.json").read_text())["eval"][name]


def weights_of(run):
    return (run / "model" / "model.safetensors").read_bytes()


def test_a_mixed_precision_run_is_scored_in_float32(lmtune):
    trained = lmtune("train", "training.max_steps=30", "training.bf16=true", "training.tf32=true")
    assert trained.code == 0, trained.err
    run = trained.run
    for device, tolerance in (("cuda", 1e-6), ("cpu", 1e-5)):
        measured = lmtune("eval", f"ckpt={run}", f"device={device}", "format=json").json["eval"]["sample"]
        for name in ("loss", "bits_per_byte", "separator_loss"):
            assert measured[name] == pytest.approx(numbers_of(run)[name], rel=tolerance), (device, name)


def test_a_resumed_run_ends_bit_equal(lmtune):
    straight = lmtune("train", *EXACT)
    assert straight.code == 0, straight.err
    run, weights = straight.run, weights_of(straight.run)
    shutil.rmtree(run / "checkpoint-6")
    shutil.rmtree(run / "model")
    set_status(run, "stopped")
    resumed = lmtune("train", f"resume={run}")
    assert resumed.code == 0, resumed.err
    assert "resuming from checkpoint-5" in resumed.err
    assert weights_of(run) == weights


def test_samples_leave_the_weights_bit_equal(lmtune):
    with_samples, without = lmtune("train", *EXACT), lmtune("train", *EXACT, "samples.enabled=false")
    assert with_samples.code == without.code == 0, without.err
    assert weights_of(with_samples.run) == weights_of(without.run)


def test_a_run_after_a_deterministic_one_learns_as_before_it(lmtune):
    plain = ("training.max_steps=6", "samples.enabled=false")
    before, exact, after = lmtune("train", *plain), lmtune("train", *EXACT), lmtune("train", *plain)
    assert before.code == exact.code == after.code == 0, exact.err + after.err
    assert numbers_of(after.run)["loss"] == pytest.approx(numbers_of(before.run)["loss"], rel=1e-4)


def test_what_cannot_be_drawn_from_is_refused_before_the_gpu_finds_out(lmtune):
    """A failed assertion on the device would end all use of CUDA in this process."""
    run = lmtune("train", "training.max_steps=2", "samples.enabled=false").run
    command = ("generate", f"ckpt={run}", "prompt=O paciente")
    for cold in ("1e-300", "1e-39"):
        answer = lmtune(*command, f"generation.temperature={cold}")
        assert answer.code == 2
        assert "nothing is left to draw from" in answer.err
    assert lmtune(*command).code == 0


def test_generation_repeats_itself_for_a_seed(lmtune):
    run = lmtune("train", "training.max_steps=6", "samples.enabled=false").run
    command = ("generate", f"ckpt={run}", "prompt=O paciente chegou no hospital", "seed=1")
    assert lmtune(*command).out == lmtune(*command).out


def test_gportuguese2_trains_at_its_true_size(lmtune, real_data, tmp_path, capfd):
    """Random weights of GPT-2's size, a vocabulary learned on the way, Portuguese novels as text; the pace is printed."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    source = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(**SHAPE)).save_pretrained(source)
    GPT2TokenizerFast.from_pretrained(real_data / "gpt2-tokenizer").save_pretrained(source)
    novels = ",".join(str(real_data / "pt-wiki" / f"{name}.jsonl.gz") for name in ("machado", "eltec-por"))
    rates = ("learning_rate: 2e-3", "learning_rate: 1e-3", "learning_rate: 5e-4", "learning_rate: 1e-4")
    phases = ", ".join(f"{{epochs: 0.06, groups: {groups}, {rate}}}" for groups, rate in enumerate(rates, start=1))
    answer = lmtune(
        "train", "experiment=gportuguese2", f"model.path={source}", f"data.files=[{novels}]", f"finetune.phases=[{phases}]",
        "training.eval_strategy=no", "training.save_strategy=no", "samples.enabled=false", "format=json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    train = answer.json["train"]
    assert train["steps"] >= 200
    (run,) = (tmp_path / "outputs").glob("*/*")
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [line["loss"] for line in losses if "loss" in line]
    assert logged[-1] < logged[0]
    memory = max(line["memory_gb"] for line in losses if "memory_gb" in line)
    with capfd.disabled():
        pace = train["tokens_per_second"]
        sys.stdout.write(
            f"\ngportuguese2: {pace:,.0f} tokens/s, {memory:.1f} GB, {1.04e9 / pace / 3600:.1f} h for 1.04 billion tokens\n"
        )


def plain(hidden, weight, bias, targets):
    return F.cross_entropy(F.linear(hidden, weight, bias).to(hidden.dtype), targets, reduction="sum")


ROWS = 16384
"""More than the head takes at once."""


def head_step(loss_of, dtype=None, upcast=torch.float32, at_once=ROWS):
    """(loss and gradients in float64, peak bytes) of GPT-2's head, some rows at once."""
    torch.manual_seed(0)
    weight = torch.randn(50257, 768, device="cuda") * 0.05
    targets = torch.randint(50257, (ROWS,), device="cuda")
    sure = 8 * torch.rand(ROWS, 1, device="cuda")  # of some
    hidden = torch.randn(ROWS, 768, device="cuda") + weight[targets] * sure
    parts = [part.to(upcast).requires_grad_() for part in (hidden, weight)]
    del hidden, weight, sure
    torch.cuda.reset_peak_memory_stats()
    before, summed = torch.cuda.memory_allocated(), 0.0
    for some, goals in zip(parts[0].split(at_once), targets.split(at_once), strict=True):
        with torch.autocast("cuda", dtype, enabled=dtype is not None):
            loss = loss_of(some, parts[1], None, goals) / ROWS
        loss.backward()
        summed += loss.detach().double()
    return [summed, *(part.grad.double() for part in parts)], torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize(("dtype", "least"), [(None, 1e-5), (torch.bfloat16, 1e-4), (torch.float16, 1e-4)], ids=str)
def test_the_fused_loss_is_as_true_as_the_plain_one_and_holds_no_logits(dtype, least):
    reference, _ = head_step(plain, upcast=torch.float64, at_once=1024)
    (ours, peak), (theirs, plain_peak) = head_step(linear_cross_entropy, dtype), head_step(plain, dtype)
    for mine, other, true in zip(ours, theirs, reference, strict=True):
        error, bound = float((mine - true).norm() / true.norm()), float((other - true).norm() / true.norm())
        assert error <= max(1.05 * bound, least)
    assert peak <= plain_peak - ROWS * 50257 * 4


def test_settings_follow_the_chip_and_the_pace_is_told(lmtune):
    answer = lmtune("train", "training.max_steps=20", "samples.enabled=false")
    assert answer.code == 0, answer.err
    device = detect_device(use_cpu=False)
    chosen = yaml.safe_load((answer.run / "config.yaml").read_text(encoding="utf-8"))["chosen"]
    assert (chosen.get("bf16", False), chosen.get("tf32", False)) == (device.bf16, device.tf32 and not device.bf16)
    assert f"cuda ({device.name}): {'bf16 autocast' if device.bf16 else 'float32'}" in answer.err
    lines = [json.loads(line) for line in (answer.run / "metrics.jsonl").read_text().splitlines()]
    paces = [line for line in lines if "loss" in line]
    assert paces
    assert all(line["tokens_per_second"] > 0 and line["memory_gb"] > 0 for line in paces)
    assert all(0 < line["mfu"] < 1 for line in paces if "mfu" in line)


def test_the_memory_of_a_step_is_known_beforehand(tmp_path):
    """GPT-2's size, 8 rows of 1,024, bfloat16: within a quarter of what the device then holds."""
    from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

    model = GPT2LMHeadModel(GPT2Config(**SHAPE))
    model.loss_type = "ForCausalLM"
    install_loss(model, LossChoice.fused)
    fuse_activations(model)
    arguments = TrainingArguments(str(tmp_path), bf16=True, per_device_train_batch_size=8, optim="adamw_torch_fused")
    memory = estimate_memory(arguments, model, 1024)
    assert memory is not None
    model.cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(1000, (8, 1024), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            loss = model.train()(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert memory.total == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.25)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch's, within its autotuning
@pytest.mark.parametrize("mode", ["default", "max-autotune-no-cudagraphs"])
def test_a_compiled_run_ends_as_the_eager_one(lmtune, mode):
    short = ("training.max_steps=6", "samples.enabled=false", "training.optim=sgd", "training.learning_rate=0.1")
    eager, compiled = (
        lmtune("train", *short),
        lmtune("train", *short, "training.torch_compile=true", f"training.torch_compile_mode={mode}"),
    )
    assert eager.code == compiled.code == 0, compiled.err
    assert numbers_of(compiled.run)["loss"] == pytest.approx(numbers_of(eager.run)["loss"], rel=1e-3)
