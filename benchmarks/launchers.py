"""What Hydra's launchers cost: one sweep of eight small jobs through each, on the clock and in processor time.

    python benchmarks/launchers.py [--rounds 3] [--steps 24] [--only basic processes]

Every launcher takes the same sweep once in each round, round robin, so that what else the machine does falls on all of them;
medians. Two jobs at once where a launcher can say so (submitit's local executor starts all of them), one thread a job, text
prepared before the first round. Those of joblib, submitit and Ray are left out, and named, where their plugins are not installed.

The parts of a sweep are measured once, before the rounds: a Python that imports what a training imports, and one job alone, with
the seconds of its steps. Processor time is that of all processes that a command has brought forth, servers that it leaves behind
included: the kernel hands these to the benchmark when their parents end (Linux). Of Ray it is not known.
"""

import argparse
import ctypes
import json
import math
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

JOBS = 8
JOB = (
    "data=sample model=gpt2-tiny training.use_cpu=true training.eval_strategy=no training.save_strategy=no "
    "samples.enabled=false report.enabled=false"
)
LAUNCHERS = {
    "basic": ("hydra/launcher=basic", None),
    "processes": ("hydra/launcher=processes sweep.jobs=2", None),
    "joblib": ("hydra/launcher=joblib hydra.launcher.n_jobs=2", "hydra-joblib-launcher"),
    "submitit_local": ("hydra/launcher=submitit_local", "hydra-submitit-launcher"),
    "ray": (
        "hydra/launcher=ray +hydra.launcher.ray.init.num_cpus=2 +hydra.launcher.ray.remote.num_cpus=1",
        "hydra-ray-launcher",
    ),
}
"""What is typed for each, and the package of its plugin."""

IMPORTS = "from lmtune.foreign import import_transformers; import_transformers(); from transformers import Trainer"
ADOPT = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""


def find_version(package):
    """None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def measure(command, folder):
    """(seconds on the clock, of processor time) of a command and all that it has started. Raises if it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    end_left_behind()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def end_left_behind(patience=20):
    """End what the command has left running, and take it over, so that its processor time is known."""
    end = time.monotonic() + patience
    while children := psutil.Process().children():
        if time.monotonic() > end:
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.1)


def measure_sweep(typed, folder, steps):
    """A sweep by one launcher, all of whose jobs have to complete: (wall, processor time)."""
    sweep = tempfile.mkdtemp(dir=folder)
    seeds = f"seed={','.join(map(str, range(JOBS)))}"
    settings = [*JOB.split(), f"training.max_steps={steps}", seeds, f"hydra.sweep.dir={sweep}/sweep", *typed.split()]
    times = measure([sys.executable, "-m", "lmtune", "train", "-m", *settings], sweep)
    found = [json.loads(file.read_text())["status"] for file in Path(sweep).glob("sweep/*/results.json")]
    if found != ["completed"] * JOBS:
        raise SystemExit(f"{typed}: expected {JOBS} completed jobs in {sweep}, found {found}")
    return times


def measure_alone(folder, steps):
    """One job without a sweep: (wall, processor time), and the wall seconds of its training alone."""
    output = tempfile.mkdtemp(dir=folder) + "/run"
    settings = [*JOB.split(), f"training.max_steps={steps}", f"output={output}"]
    times = measure([sys.executable, "-m", "lmtune", "train", *settings], folder)
    return times, json.loads(Path(output, "results.json").read_text())["train"]["seconds"]


def measure_round(names, folder, steps):
    """Launcher to (wall, processor time); told as they come."""
    found = {}
    for name in names:
        wall, processor = measure_sweep(LAUNCHERS[name][0], folder, steps)
        found[name] = (wall, math.nan if name == "ray" else processor)  # its workers are not accounted for
        tell(name, *found[name])
    return found


def tell(name, wall, processor):
    print(f"{name}: {wall:.1f} s, {processor:.1f} s of processor time", file=sys.stderr, flush=True)


def render_spread(seconds):
    if math.isnan(seconds[0]):
        return "not known"
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def render(rounds):
    yield f"{'':<16}{'wall, s (range)':>26}{'processor, s (range)':>28}"
    for name in rounds[0]:
        cells = [render_spread(seconds) for seconds in zip(*(each[name] for each in rounds), strict=True)]
        yield f"{name:<16}{cells[0]:>26}{cells[1]:>28}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--only", nargs="*", default=list(LAUNCHERS), choices=list(LAUNCHERS), metavar="LAUNCHER")
    told = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0")
    ctypes.CDLL(None).prctl(ADOPT, 1, 0, 0, 0)
    plugins = {name: find_version(package) for name in told.only if (package := LAUNCHERS[name][1])}
    names = [name for name in told.only if plugins.get(name, "") is not None]
    for name in sorted(set(told.only) - set(names)):
        print(f"left out: {name}, which takes {LAUNCHERS[name][1]}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LMTUNE_CACHE"] = f"{folder}/cache"
        measure_alone(folder, 2)  # prepares the text
        tell("imports", *measure([sys.executable, "-c", IMPORTS], folder))
        alone, training = measure_alone(folder, told.steps)
        tell(f"one job, {training:.1f} s of it for its steps", *alone)
        rounds = []
        for _ in range(told.rounds):
            rounds.append(measure_round(names, folder, told.steps))
            print(
                f"load {os.getloadavg()[0]:.1f}, {len(rounds)} of {told.rounds} rounds",
                *render(rounds),
                sep="\n",
                flush=True,
            )
    packages = ["torch", "transformers", "hydra-core", *(LAUNCHERS[name][1] for name in names if name in plugins)]
    print(f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {JOBS} jobs of {told.steps} steps; "
          + ", ".join(f"{package} {version(package)}" for package in packages))  # fmt: skip


if __name__ == "__main__":
    main()
