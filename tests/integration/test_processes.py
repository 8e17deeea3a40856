"""What takes processes of its own: launchers, signals, and a wheel in an empty folder."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("training.use_cpu=true", "samples.enabled=false")


def start(folder, *arguments, launcher=(sys.executable,), **settings):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    return subprocess.Popen(
        [*launcher, "-m", "lmtune", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process, seconds=240):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out


def test_two_processes_share_one_run_and_reach_the_loss_of_one(tmp_path):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    # bfloat16 would round away what is compared here.
    shared = (
        "train",
        "training.num_train_epochs=1",
        "training.eval_steps=40",
        "training.bf16=false",
        "format=json",
        *STEPS,
    )
    two = json.loads(finish(start(tmp_path, *shared, "training.per_device_train_batch_size=4", launcher=torchrun)))
    one = json.loads(finish(start(tmp_path, *shared, "training.per_device_train_batch_size=8")))
    runs = sorted((tmp_path / "outputs" / "sample-gpt2-tiny").iterdir())
    assert len(runs) == 2
    assert (two["train"]["world_size"], one["train"]["world_size"]) == (2, 1)
    ledger = json.loads((runs[0] / "ledger.json").read_text())
    assert two["train"]["tokens"] == one["train"]["tokens"] == ledger["targets"], (
        "each target once, whatever the processes"
    )
    assert two["eval"]["sample"]["loss"] == pytest.approx(one["eval"]["sample"]["loss"], rel=1e-4)
    alone = json.loads(finish(start(tmp_path, "eval", f"ckpt={runs[0]}", "format=json", "device=cpu")))["eval"][
        "sample"
    ]
    for name, value in two["eval"]["sample"].items():
        if isinstance(value, (int, float)) and name in alone and name != "seconds":
            assert alone[name] == pytest.approx(value, rel=1e-6), f"{name}: by one process, and by two"
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in (runs[0] / "checkpoint-40").iterdir()}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_a_checkpoint_and_its_own_code(tmp_path, number, code):
    process = start(tmp_path, "train", "training.max_steps=4000", "training.eval_steps=100000", *STEPS)
    try:
        metrics = wait_for(tmp_path, "outputs/*/*/metrics.jsonl", lambda text: '"loss"' in text)
        process.send_signal(number)
        _, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == code, err
    run = metrics.parent
    assert json.loads((run / "results.json").read_text())["status"] == "stopped"
    assert len(list(run.glob("checkpoint-*/manifest.json"))) == 1
    assert "Traceback" not in err


def wait_for(folder, pattern, ready, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for file in folder.glob(pattern):
            if ready(file.read_text()):
                return file
        time.sleep(0.1)
    raise AssertionError(f"{pattern} did not come within {seconds} s")


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(tmp_path, monkeypatch):
    """Packages of this environment are lent to the new one; lmtune itself comes from the wheel alone."""
    monkeypatch.delenv("PYTHONPATH", raising=False)  # a source folder in it would come before the wheel
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "lmtune/conf/train.yaml" in names
    assert any(name.startswith("lmtune/data/sample/") for name in names)
    environment, folder = tmp_path / "venv", tmp_path / "empty"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", environment], check=True)
    lender = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (next(environment.glob("lib/*/site-packages")) / "lender.pth").write_text(f"{lender}\n")
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel], check=True)
    where = subprocess.check_output([python, "-c", "import lmtune; print(lmtune.__file__)"], cwd=folder, text=True)
    assert where.startswith(str(environment))
    finish(start(folder, "train", "training.max_steps=5", *STEPS, launcher=(python,)))
    (folder / "conf" / "data").mkdir(parents=True)
    (folder / "mine.txt").write_text("\n\n".join(f"Documento {n} sobre saúde e exames." for n in range(60)))
    (folder / "conf" / "data" / "mine.yaml").write_text("files: mine.txt\ndocuments: blank_line\nblock_size: 32\n")
    finish(start(folder, "train", "data=mine", "training.max_steps=5", *STEPS, launcher=(python,)))
    assert sorted(path.name for path in (folder / "outputs").iterdir()) == ["mine-gpt2-tiny", "sample-gpt2-tiny"]
