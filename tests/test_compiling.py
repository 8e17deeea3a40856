"""Blocks that are compiled in place: the same model, for as long as it trains."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import set_status

from lmtune.training.compiling import compiled_blocks, uncompiled

QUICK = ("training.max_steps=6", "training.use_cpu=true", "model.config.resid_pdrop=0.1", "training.bf16=false")
COUNTED = []


def count(graph, _):
    """A compiler that compiles nothing and counts calls of what it was given."""

    def run(*inputs):
        COUNTED.append(len(inputs))
        return graph.forward(*inputs)

    return run


def arguments(backend="eager", compiles=True):
    return SimpleNamespace(
        torch_compile=compiles, torch_compile_backend=backend, torch_compile_mode=None, device=torch.device("cpu")
    )


def losses_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
def test_blocks_are_compiled_for_a_while_and_names_stay(build_tiny, kind):
    model = build_tiny(kind)
    ids, names = torch.arange(20)[None], list(model.state_dict())
    before = model(ids, use_cache=False).logits
    COUNTED.clear()
    with compiled_blocks(model, arguments(count)):
        assert torch.equal(model(ids, use_cache=False).logits, before)
        assert len(COUNTED) == 2  # blocks
        assert list(model.state_dict()) == names
        with uncompiled():
            model(ids, use_cache=False)
    model(ids, use_cache=False)
    assert len(COUNTED) == 2


def test_nothing_is_compiled_unasked(build_tiny):
    model = build_tiny()
    COUNTED.clear()
    with compiled_blocks(model, arguments(count, compiles=False)):
        model(torch.arange(20)[None])
    assert not COUNTED


@pytest.mark.parametrize(
    "method",
    [
        "finetune=full",
        pytest.param("finetune=lora", marks=pytest.mark.slow),
        pytest.param(
            "finetune=gradual finetune.block_groups=2 "
            "finetune.phases=[{epochs:0.1,groups:1,learning_rate:1e-3},{epochs:0.1,groups:3,learning_rate:1e-3}]",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_compiled_run_learns_the_same(lmtune, method):
    if method == "finetune=lora":
        pytest.importorskip("peft")
    steps = () if "gradual" in method else QUICK[:1]
    command = ("train", *method.split(), *steps, *QUICK[1:], "training.logging_steps=1")
    plain, compiled = (
        lmtune(*command),
        lmtune(*command, "training.torch_compile=true", "training.torch_compile_backend=aot_eager"),
    )
    assert plain.code == compiled.code == 0, compiled.err
    assert "loss, torch.compile" in compiled.err
    assert losses_of(compiled.run) == pytest.approx(losses_of(plain.run), rel=1e-5)
    names = [set(json.loads((run / "model" / "config.json").read_text())) for run in (plain.run, compiled.run)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (
            "training.torch_compile_backend=foo",
            "backend foo, mode default: expected a product to compile, found: Invalid backend: 'foo'",
        ),
        (
            "training.torch_compile_mode=fast",
            "backend inductor, mode fast: expected a product to compile, found: Unrecognized mode=fast",
        ),
    ],
)
def test_what_does_not_compile_is_refused_before_a_run_folder_is_made(lmtune, wish, found):
    answer = lmtune("train", *QUICK, wish)
    assert answer.code == 2
    assert found in answer.err
    assert "Traceback" not in answer.err
    assert not list(Path("outputs").glob("*/*"))


@pytest.mark.slow
def test_a_resumed_compiled_run_ends_bit_equal(lmtune):
    """With torch's own compiler, over an epoch whose last batch has another shape."""
    command = (
        "train",
        *QUICK[1:],
        "training.torch_compile=true",
        "training.num_train_epochs=2",
        "training.eval_steps=0.2",
    )
    straight = lmtune(*command)
    assert straight.code == 0, straight.err
    run = straight.run
    weights = (run / "model" / "model.safetensors").read_bytes()
    results = json.loads((run / "results.json").read_text())
    last = max(int(folder.name.split("-")[1]) for folder in run.glob("checkpoint-*"))
    assert last == results["train"]["steps"]
    shutil.rmtree(run / f"checkpoint-{last}")
    shutil.rmtree(run / "model")
    set_status(run, "stopped")
    torch._dynamo.reset()
    resumed = lmtune("train", f"resume={run}")
    assert resumed.code == 0, resumed.err
    assert "resuming from checkpoint-" in resumed.err
    assert (run / "model" / "model.safetensors").read_bytes() == weights
