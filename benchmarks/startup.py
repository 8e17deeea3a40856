"""What commands cost before and around their work: processor time and wall time of each, on a tiny saved run.

    python benchmarks/startup.py [--runs 5] [--skip check eval]

The run is trained first, a few steps on the built-in text. Then every command runs once in each round, in a process of its own
with one thread; medians. `import torch` and `import the models` are what those that load a model cannot do without: the second
imports what every model class of transformers needs, as lmtune does.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

TRAIN = "name=startup training.max_steps=2 training.eval_strategy=no training.save_strategy=no samples.enabled=false"
IMPORT_MODELS = "from lmtune.foreign import import_transformers; import_transformers()"
FAILS = {"a mistyped key": 2}
"""Exit codes other than 0."""


def list_commands(run):
    """The command line of each row of the table."""
    lmtune = [sys.executable, "-m", "lmtune"]
    return {
        "import torch": [sys.executable, "-c", "import torch"],
        "import the models": [sys.executable, "-c", IMPORT_MODELS],
        "lmtune --help": [*lmtune, "--help"],
        "a mistyped key": [*lmtune, "train", "training.lerning_rate=1e-4"],
        "lmtune completion": [*lmtune, "completion", "bash"],
        "lmtune explain": [*lmtune, "explain", "training.learning_rate"],
        "lmtune generate": [*lmtune, "generate", f"ckpt={run}", "prompt=O", "generation.max_new_tokens=5"],
        "lmtune eval": [*lmtune, "eval", f"ckpt={run}"],
        "lmtune check": [*lmtune, "check"],
    }


def measure(command, folder, expected=0):
    """(seconds of processor time, user and system; seconds on the clock) of one process. Raises if it ends otherwise."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != expected:
        raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}, expected {expected}\n{ended.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], metavar="COMMAND", help="commands of lmtune to leave out")
    told = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        measure([sys.executable, "-m", "lmtune", "train", *TRAIN.split()], folder)
        (run,) = Path(folder, "outputs", "startup").iterdir()
        skipped = {f"lmtune {name}" for name in told.skip}
        commands = {name: command for name, command in list_commands(run).items() if name not in skipped}
        rounds = [
            {name: measure(command, folder, FAILS.get(name, 0)) for name, command in commands.items()}
            for _ in range(told.runs)
        ]
    print(f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, torch {version('torch')}, "
          f"transformers {version('transformers')}, {told.runs} rounds")  # fmt: skip
    print(f"{'':<22}{'processor, s (range)':>24}{'clock, s (range)':>26}")
    for name in commands:
        spreads = [
            f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
            for seconds in zip(*(each[name] for each in rounds), strict=True)
        ]
        print(f"{name:<22}{spreads[0]:>24}{spreads[1]:>26}")


if __name__ == "__main__":
    main()
