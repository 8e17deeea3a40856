"""Benchmarks run from end to end, tiny and on the CPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_script_of_the_gpu_fills_its_table(tmp_path, real_data):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path), "--smoke"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (tmp_path / "log.txt").read_text("utf-8")[-3000:]
    found = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text("utf-8").splitlines()]
    assert [each["code"] for each in found if "stage" in each] == [0, 0, 0, 0]
    assert {each["side"] for each in found if each.get("of") == "head"} == {"plain", "lmtune, eager"}
    assert all(each["apart"] < 1e-3 for each in found if each.get("of") == "head")
    assert {each["side"] for each in found if each.get("of") == "train"} == {
        "lmtune, eager",
        "run_clm, eager",
        "bare, eager",
    }
    assert all(each["tokens_per_second"] > 0 for each in found if each.get("of") == "train")
    assert "| lmtune, eager | 2 |" in ended.stdout


def test_without_a_gpu_the_script_says_so(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path), "--stages", "machine"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Expected a CUDA device, found none" in (tmp_path / "log.txt").read_text("utf-8")


@pytest.mark.slow
def test_what_check_tells_is_held_against_a_run(real_data):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / "foresight.py"), "--smoke"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    cells = ended.stdout.splitlines()[-1].split("|")
    assert cells[1].strip() == "tiny"
    assert all(float(cell) > 0 for cell in (*cells[2:4], *cells[5:8]))


@pytest.mark.slow
def test_the_calibration_of_the_forecast_fills_its_tables(tmp_path, real_data):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / "forecast.py")]
    ended = subprocess.run(
        [*command, "runs", "--out", str(tmp_path), "--smoke"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    runs = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text("utf-8").splitlines()]
    assert {(run["side"], run["kind"]) for run in runs} == {
        (side, kind) for side in ("fitted", "judged") for kind in ("scratch", "continued")
    }
    assert all(len(run["losses"]) == run["steps"] for run in runs)
    ended = subprocess.run(
        [*command, "fit", "--out", str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "| scratch | 48% |" in ended.stdout
    assert set(json.loads((tmp_path / "forecast.json").read_text("utf-8"))["laws"]) == {"scratch", "continued"}
    assert (tmp_path / "forecast.svg").stat().st_size < 150_000


@pytest.mark.slow
def test_the_costs_of_starting_are_measured():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / "benchmarks" / "startup.py"), "--runs", "1", "--skip", "check", "eval"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    rows = dict(re.findall(r"^([a-z -]+?)  +(\d+\.\d\d) \(", ended.stdout, re.MULTILINE))
    assert list(rows) == [
        *(
            "import torch",
            "import the models",
            "lmtune --help",
            "a mistyped key",
            "lmtune completion",
            "lmtune explain",
        ),
        "lmtune generate",
    ]
    assert float(rows["lmtune --help"]) < float(rows["import torch"]) < float(rows["lmtune generate"])
