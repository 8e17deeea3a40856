"""Kills trainings with SIGKILL at random instants, saves included, and resumes them until they are done.

    python tests/survival/killing.py --kills 200

The heavy imports happen once, in a server from which every training is forked. Saves are slowed down, so that many of the
kills fall into one.
"""

import argparse
import itertools
import multiprocessing
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

from lmtune import runs, storage

SETTINGS = (
    "training.use_cpu=true",
    "training.max_steps=60",  # an epoch of the built-in text has 40
    "training.eval_steps=5",
    "training.logging_steps=1",
    "eval.max_tokens=500",
    "generation.max_new_tokens=3",
    "data.prompts=[Era uma vez]",
    "model.config.n_layer=1",
    "model.config.n_embd=32",
    "model.config.n_head=2",
    "model.config.resid_pdrop=0.1",  # draws random numbers at every step
)
MEASURED = ("seconds", "runtime", "per_second", "memory", "mfu")
"""Parts of names that stand for what the machine did, not for the training."""

PAUSE = 0.01
"""Seconds added before each part of a save."""

LEARN = "lmtune.training"
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["lmtune.commands.train", f"{LEARN}.trainer", f"{LEARN}.callbacks", "hydra"])


def train(folder, overrides, environment):
    """`lmtune train` in a process of its own; what it says goes to `log` in the folder."""
    os.chdir(folder)
    os.environ |= environment
    log = Path("log").open("a")  # noqa: SIM115
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log

    import torch

    from lmtune.cli import main

    torch.set_num_threads(1)
    slow_saves()
    sys.exit(main.run(["train", *overrides]))


def slow_saves():
    """Sleep before each part of a save and of a deletion."""
    from lmtune.training.trainer import LmTrainer

    for owner, name in (
        (LmTrainer, "save_model"),
        (LmTrainer, "_save_optimizer_and_scheduler"),
        (LmTrainer, "_save_rng_state"),
        (runs.manifest, "checksum"),
        (runs.manifest, "write_json"),
        (runs.folder, "write_mark"),
        (runs.Run, "place"),
        (runs.folder.shutil, "rmtree"),
    ):
        setattr(owner, name, delayed(getattr(owner, name)))


def delayed(function):
    def wrapped(*arguments, **settings):
        time.sleep(PAUSE)
        return function(*arguments, **settings)

    return wrapped


@dataclass
class Training:
    """One run of `lmtune train`, in as many processes as it is told."""

    folder: Path
    overrides: tuple
    world_size: int = 1

    @property
    def settings(self):
        """SETTINGS, without a number of steps between evaluations where those come after epochs."""
        by_epoch = "training.eval_strategy=epoch" in self.overrides
        return [text for text in SETTINGS if not (by_epoch and text.startswith("training.eval_steps="))]

    def start(self, *more):
        port = free_port()
        self.processes = []
        for rank in range(self.world_size):
            environment = {
                "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.world_size, "LOCAL_WORLD_SIZE": self.world_size,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            }  # fmt: skip
            spoken = {name: str(value) for name, value in environment.items()} if self.world_size > 1 else {}
            process = context.Process(
                target=train, args=(self.folder, (*self.settings, *self.overrides, *more), spoken)
            )
            process.start()
            self.processes.append(process)

    def wait(self, seconds):
        """Exit codes, or None when time is up first."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        return None if None in codes else codes

    def kill(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def finish(self):
        codes = self.wait(300)
        if codes != [0] * self.world_size:
            self.kill()
            raise AssertionError(f"exit codes {codes}\n" + (self.folder / "log").read_text()[-3000:])

    @property
    def runs(self):
        return [runs.Run(file.parent) for file in sorted(self.folder.glob("outputs/**/config.yaml"))]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Outcome:
    """What must not depend on the kills."""

    weights: bytes
    metrics: list
    """Lines of metrics.jsonl, without clocks and memory."""
    samples: str

    def differences(self, other):
        """In words, what another run ended with that this one did not."""
        found = []
        if self.weights != other.weights:
            found.append("the weights")
        for mine, theirs in itertools.zip_longest(self.metrics, other.metrics):
            if mine != theirs:
                found.append(f"metrics: {mine} became {theirs}")
                break
        if self.samples != other.samples:
            found.append("the samples")
        return found


def load_outcome(run):
    metrics = [
        {name: value for name, value in line.items() if not any(part in name for part in MEASURED)}
        for line in storage.load_jsonl(run.metrics_file)
    ]
    weights = (run.model_folder / "model.safetensors").read_bytes()
    return Outcome(weights, metrics, run.samples_file.read_text())


def undisturbed(folder, overrides=(), world_size=1):
    """(seconds, Outcome) of a training that nobody kills."""
    training = Training(folder, overrides, world_size)
    server = context.Process(target=int)  # the first process pays for the imports
    server.start()
    server.join()
    started = time.monotonic()
    training.start()
    training.finish()
    (run,) = training.runs
    return time.monotonic() - started, load_outcome(run)


@dataclass
class Tally:
    """What kills did."""

    kills: int = 0
    in_saves: int = 0
    lost: int = 0
    """Kills that left a checkpoint behind that is not whole."""
    ended: int = 0
    equal: int = 0
    """Runs that ended with the weights, metrics and samples of the undisturbed one."""

    def __add__(self, other):
        return Tally(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    def __str__(self):
        return (
            f"{self.kills} kills ({self.in_saves} during a save): {self.kills - self.lost} survived, {self.lost} lost; "
            f"{self.equal} of {self.ended} runs bit-equal to the undisturbed one"
        )


def disturb(folder, kills, draw, expected, seconds, overrides=(), world_size=1):
    """Kill a run at random instants until it has had so many kills or is done; then let it end.

    Returns the tally and what differs from the expected Outcome.
    """
    training, tally = Training(folder, overrides, world_size), Tally()
    while tally.kills < kills:
        training.start("resume=auto")
        if training.wait(draw.uniform(0.1, 0.9) * seconds) is not None:
            break
        training.kill()
        tally.kills += 1
        tally.in_saves += any(run.staging_folder.exists() for run in training.runs)
        tally.lost += any(runs.find_fault(folder) for run in training.runs for folder in run.checkpoints())
    training.start("resume=auto")
    training.finish()
    (run,) = training.runs
    differences = expected.differences(load_outcome(run))
    tally.ended, tally.equal = 1, int(not differences)
    return tally, differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world-size", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="further settings of the training")
    told = parser.parse_args()
    overrides, draw, total = tuple(told.overrides), random.Random(told.seed), Tally()
    with tempfile.TemporaryDirectory() as root:
        os.environ["LMTUNE_CACHE"] = f"{root}/cache"
        folders = (make(Path(root) / str(number)) for number in itertools.count())
        seconds, expected = undisturbed(next(folders), overrides, told.world_size)
        print(f"undisturbed: {seconds:.1f} s")
        while total.kills < told.kills:
            folder = next(folders)
            kills = min(20, told.kills - total.kills)
            tally, differences = disturb(folder, kills, draw, expected, seconds, overrides, told.world_size)
            total += tally
            print(total, *differences, sep="; ", flush=True)
            shutil.rmtree(folder)
    return int(total.lost > 0 or total.equal < total.ended)


def make(folder):
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
