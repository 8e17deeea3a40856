"""What benchmarks/gpu.py measures, stage by stage. A stage is called with (smoke, emit) in a process of its own."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import train

VOCABULARY = 50257
WIDTH, LAYERS, BLOCK = 768, 12, 1024
LIBRARIES = ("torch", "transformers", "accelerate")
COMPARED = 2048
"""Rows whose loss is compared with that in float64."""


def measure_machine(smoke, emit):
    """The card, the versions, and the ceilings: a bfloat16 product and a copy."""
    import torch

    device = find_device(smoke)
    side, size = (64, 1 << 16) if smoke else (8192, 1 << 30)
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    product = median_seconds(lambda: one @ one, device)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = median_seconds(lambda: target.copy_(source), device)
    card = platform.processor() or "CPU" if smoke else torch.cuda.get_device_name()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    reached = f"products of {side} x {side} reach {2 * side**3 / product / 1e12:.1f} TFLOP/s"
    ceilings = f"{reached}, copies {2 * size / copy / 1e12:.2f} TB/s"
    emit(
        {
            "card": f"{card}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "versions": versions,
            "ceilings": ceilings,
        }
    )


def measure_head(smoke, emit):
    """Head and loss, forward and backward: time, peak above the inputs, and the loss of some rows from float64."""
    import torch.nn.functional as F  # noqa: N812

    from lmtune.modeling.cross_entropy import linear_cross_entropy

    def plain(hidden, weight, targets):
        return F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")

    sides = {
        "plain": plain,
        "lmtune, eager": lambda hidden, weight, targets: linear_cross_entropy(hidden, weight, None, targets),
        "lmtune, softmax compiled": lambda hidden, weight, targets: linear_cross_entropy(hidden, weight, None, targets, True),
    }  # fmt: skip
    device = find_device(smoke)
    rows, vocabulary, width = (64, 997, 32) if smoke else (32 * BLOCK, VOCABULARY, WIDTH)
    hidden, weight, targets = build_head_inputs(device, rows, vocabulary, width)
    few = slice(0, COMPARED)
    true = F.cross_entropy(hidden[few].double() @ weight.double().T, targets[few], reduction="sum").item()
    for side, compute in sides.items():
        if smoke and "compiled" in side:
            continue  # it is for a GPU, and a compiler may be missing

        def step(compute=compute):
            hidden.grad = weight.grad = None
            compute(hidden, weight, targets).backward()

        found = float(compute(hidden[few], weight, targets[few]).detach())
        seconds, peak = median_seconds(step, device), measure_peak(step, device)
        emit({"side": side, "ms": seconds * 1e3, "gb": peak / 1e9, "apart": abs(found - true) / abs(true)})


def build_head_inputs(device, rows, vocabulary, width):
    """Hidden states near the head's row of their target, as a model that has learned makes them; in bfloat16."""
    import torch

    torch.manual_seed(0)
    weight = torch.randn(vocabulary, width, device=device) * 0.02
    targets = torch.randint(0, vocabulary, (rows,), device=device)
    hidden = weight[targets] * 8 * torch.rand(rows, 1, device=device) + torch.randn(rows, width, device=device)
    return hidden.bfloat16().requires_grad_(), weight.bfloat16().requires_grad_(), targets


def measure_training(smoke, emit):
    """The sides of benchmarks/train.py in bfloat16, the most telling first."""
    cases = [
        ("lmtune", 32, True), ("run_clm", 32, False), ("bare", 32, True), ("lmtune", 64, True), ("lmtune", 32, False),
        ("bare", 64, True), ("lmtune", 8, False), ("run_clm", 8, False),
    ]  # fmt: skip
    if smoke:
        cases = [("lmtune", 2, False), ("run_clm", 2, False), ("bare", 2, False)]
    device = find_device(smoke)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LMTUNE_CACHE"] = str(Path(folder) / "cache")
        settings = build_settings(device, max(rows for _, rows, _ in cases), smoke, folder)
        settings |= train.prepare(settings)
        for side, rows, compiled in cases:
            asked = settings | build_settings(device, rows, smoke, folder)
            emit(measure_side(asked, side, compiled))


def build_settings(device, rows, smoke, folder):
    """What train.py is told of one size: as many steps as the text has rows for, at most 64."""
    steps = 4 if smoke else min(64, 2048 // rows)
    shape = (
        {"layers": 1, "width": 32, "heads": 2, "block": 64}
        if smoke
        else {"layers": LAYERS, "width": WIDTH, "block": BLOCK}
    )
    pace = {"warmup": 2, "every": 1} if smoke else {"warmup": steps // 3, "every": 4}
    return train.build_settings(Namespace(device=device, batch=rows, steps=steps, **shape, **pace), folder)


def measure_side(settings, side, compiled):
    """One row of the table; a side that fails is a row as well."""
    row = {"side": f"{side}, {'compiled' if compiled else 'eager'}", "rows": settings["batch"]}
    try:
        found = train.measure(settings, side, "bf16", compiled)
    except SystemExit as failure:
        return row | {"failure": "out of memory" if "out of memory" in str(failure).lower() else str(failure)[-300:]}
    tokens_per_second = settings["batch"] * settings["block"] / found["step"]
    memory = found["memory"] + settings["parameters"] * 4
    return row | {
        "step": found["step"], "tokens_per_second": tokens_per_second, "mfu": compute_mfu(settings, tokens_per_second),
        "gb": memory / 1e9, "cpu": found["cpu"],
    }  # fmt: skip


def compute_mfu(settings, tokens_per_second):
    """The share of the card's peak, None where that is not known; FLOPs are counted as lmtune does."""
    import torch

    from lmtune.training.throughput import find_peak

    peak = (
        find_peak("cuda", torch.cuda.get_device_name(), half=True, tf32=False) if settings["device"] == "cuda" else None
    )
    layers, width, block = (settings[name] for name in ("layers", "width", "block"))
    flops = 6 * (12 * layers * width**2 + VOCABULARY * width) + 12 * layers * width * block
    return None if peak is None else tokens_per_second * flops / peak


def run_tests(smoke, emit):
    """pytest -m gpu, in the checkout that this file lies in."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", *(["--collect-only"] if smoke else [])]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    print(ended.stdout, ended.stderr, flush=True)
    emit({"summary": ended.stdout.strip().rpartition("\n")[2], "code": ended.returncode})


def find_device(smoke):
    """cuda, or the CPU for a trial of the script; ends the process where there is no GPU."""
    import torch

    if not smoke and not torch.cuda.is_available():
        raise SystemExit("Expected a CUDA device, found none. --smoke tries the script on the CPU.")
    return "cpu" if smoke else "cuda"


def median_seconds(work, device, runs=10):
    """Median seconds of `work`, after three that do not count."""
    import torch

    times = []
    for _ in range(3 + runs):
        begun = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return sorted(times[3:])[runs // 2]


def measure_peak(work, device):
    """Bytes that `work` takes above what there was; 0 on a CPU, where torch does not count."""
    import torch

    if device != "cuda":
        work()
        return 0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before


STAGES = {"machine": measure_machine, "head": measure_head, "train": measure_training, "tests": run_tests}
