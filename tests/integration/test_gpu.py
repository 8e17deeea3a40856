"""On a GPU: mixed precision leaves the numbers alone, and determinism holds as it does on a CPU."""

import json
import shutil

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
EXACT = ("training.max_steps=6", "training.full_determinism=true", "training.bf16=true", "model.config.resid_pdrop=0.1")


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
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "status": "stopped"}))
    resumed = lmtune("train", f"resume={run}")
    assert resumed.code == 0, resumed.err
    assert "resuming from checkpoint-5" in resumed.err
    assert weights_of(run) == weights


def test_samples_leave_the_weights_bit_equal(lmtune):
    with_samples, without = lmtune("train", *EXACT), lmtune("train", *EXACT, "samples.enabled=false")
    assert with_samples.code == without.code == 0, without.err
    assert weights_of(with_samples.run) == weights_of(without.run)


def test_generation_repeats_itself_for_a_seed(lmtune):
    run = lmtune("train", "training.max_steps=6", "samples.enabled=false").run
    command = ("generate", f"ckpt={run}", "prompt=O paciente chegou no hospital", "seed=1")
    assert lmtune(*command).out == lmtune(*command).out
