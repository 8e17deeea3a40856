"""Head and cross-entropy of GPT-2's size, forward and backward: time, and peak memory above the inputs.

    python benchmarks/head.py [--rows 2048] [--features 768] [--runs 5]

plain: logits in memory, as transformers takes the loss. torch: torch.nn.functional.linear_cross_entropy in chunks of 512 rows,
under autocast. lmtune: what a training uses. Each in a process of its own, for its memory; ratios are of medians.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

from lmtune.environment import set_environment, set_waiting

VOCABULARY = 50257
IGNORED = -100


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def build_loss(side):
    """From (hidden, weight, targets) to the sum of the losses."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    from lmtune.modeling.cross_entropy import linear_cross_entropy

    def of_torch(hidden, weight, targets):  # from torch 2.13 on
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=512)
        return F.linear_cross_entropy(hidden, weight, targets, reduction="sum", ignore_index=IGNORED, options=options)

    return {
        "plain": lambda h, w, t: F.cross_entropy(F.linear(h, w).float(), t, reduction="sum", ignore_index=IGNORED),
        "torch": of_torch,
        "lmtune": lambda h, w, t: linear_cross_entropy(h, w, None, t),
    }[side]


def measure(side, precision, rows, features, runs):
    """Seconds of each run, one to warm up left out, and bytes."""
    import torch

    torch.manual_seed(0)
    hidden = torch.randn(rows, features, requires_grad=True)
    weight = (torch.randn(VOCABULARY, features) * 0.02).requires_grad_()
    targets = torch.randint(VOCABULARY, (rows,))
    loss_of, seconds, before = build_loss(side), [], peak()
    for _ in range(runs + 1):
        hidden.grad = weight.grad = None
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(hidden, weight, targets)
        (loss / rows).backward()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:], "bytes": peak() - before, "loss": loss.item() / rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape = (arguments.rows, arguments.features, arguments.runs)
    if arguments.case:
        print(json.dumps(measure(*arguments.case, *shape)))
        return
    set_environment()  # for the processes of all sides
    set_waiting()
    sides = ("plain", "torch", "lmtune") if importlib.metadata.version("torch") >= "2.13" else ("plain", "lmtune")
    print(f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, rows {shape[0]}, "
          f"features {shape[1]}, vocabulary {VOCABULARY}")  # fmt: skip
    print(f"{'':<18}{'seconds (range)':>24}{'x plain':>9}{'peak MB':>9}{'loss':>12}")
    for precision in ("float32", "bf16"):
        first = None
        for side in sides:
            command = [sys.executable, __file__, "--case", side, precision]
            command += [f"--{name}={value}" for name, value in zip(("rows", "features", "runs"), shape, strict=True)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            median = statistics.median(found["seconds"])
            first = first or median
            spread = f"{median:.2f} ({min(found['seconds']):.2f} to {max(found['seconds']):.2f})"
            print(f"{side + ', ' + precision:<18}{spread:>24}{first / median:>9.2f}{found['bytes'] / 1e6:>9,.0f}"
                  f"{found['loss']:>12.6f}")  # fmt: skip


if __name__ == "__main__":
    main()
