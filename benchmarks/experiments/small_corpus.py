"""What a pretrained model wants that learns from a corpus of 100 kB: how often to read it, how fast, with which decay and average.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/small_corpus.py length --seeds 1 2 3
    LMTUNE_TEST_DATA=... python benchmarks/experiments/small_corpus.py decay --epochs 16 --rate 1e-3 --seeds 1 2 3

The model is the small English one of transplant.py beside this file, with its vocabulary; the text is works of Machado de Assis,
others are held out. A run keeps the best of its ten evaluations, as every run of lmtune does, so an arm that overfits is judged by
its best step. Seeds change the order of the rows.

    length    1, 4 and 16 epochs at three rates
    decay     weight decay 0, 0.1, 0.3, 1 and 3
    start     likewise 0.1, 0.3, 1 and 3, but towards the weights that the training began with (arXiv:1802.01483, L2-SP, decoupled)
    second    Adam's beta2 0.9, 0.95, 0.99 and 0.999
    batch     2, 4, 8 and 16 rows a step, with the rate as it is and in proportion to the root of the batch
    average   the mean of the last fifth of the weights, under a cosine and under a constant rate

What a command printed is kept in --folder, and it is not run again.
"""

import argparse
import contextlib
import math
import re

from torch.optim.optimizer import register_optimizer_step_pre_hook
from transplant import QUIET, SOURCE, begin, build_source, lmtune, render_spread


def vary_length(_usual, _rate):
    for epochs in (1, 4, 16):
        for rate in (3e-4, 1e-3, 3e-3):
            yield (
                f"{epochs} epochs at {rate:g}",
                (f"training.num_train_epochs={epochs}", f"training.learning_rate={rate}"),
            )


def vary_decay(usual, _rate):
    for decay in (0, 0.1, 0.3, 1, 3):
        yield f"decay {decay}", (*usual, f"training.weight_decay={decay}")


def vary_start(usual, _rate):
    for strength in (0.1, 0.3, 1, 3):
        yield f"start {strength}", usual


def vary_second(usual, _rate):
    for beta2 in (0.9, 0.95, 0.99, 0.999):
        yield f"beta2 {beta2}", (*usual, f"training.adam_beta2={beta2}")


def vary_batch(usual, rate):
    for rows in (2, 4, 8, 16):
        size = f"training.per_device_train_batch_size={rows}"
        scaled = f"{rate * math.sqrt(rows / 8):.2g}"
        yield f"{rows} rows", (*usual, size)
        yield f"{rows} rows at {scaled}", (usual[0], f"training.learning_rate={scaled}", size)


def vary_average(usual, _rate):
    for schedule in ("cosine", "constant"):
        for last in ("null", "0.2"):
            shape = (f"training.lr_scheduler_type={schedule}", f"average.last={last}")
            yield f"{schedule}, average.last={last}", (*usual, *shape)


STAGES = {
    "length": vary_length,
    "decay": vary_decay,
    "start": vary_start,
    "second": vary_second,
    "batch": vary_batch,
    "average": vary_average,
}
"""Each gives (name, settings) of its arms, from the length and rate that are usual and that rate."""


@contextlib.contextmanager
def decay_to_start(strength):
    """Before each step of an optimizer, pull matrices to where its first step found them, by the rate times `strength`.

    Vectors (biases, norms) are left alone, as by weight decay.
    """
    starts = {}

    def pull(optimizer, _arguments, _named):
        for group in optimizer.param_groups:
            for weights in group["params"]:
                if weights.ndim > 1:
                    start = starts.setdefault(weights, weights.detach().clone())
                    weights.data.lerp_(start, group["lr"] * strength)

    handle = register_optimizer_step_pre_hook(pull)
    try:
        yield
    finally:
        handle.remove()


def train(text, name, arm, settings):
    """What `lmtune train` prints of an arm, its best evaluation kept."""
    kind, _, strength = arm.partition(" ")
    pulled = decay_to_start(float(strength)) if kind == "start" else contextlib.nullcontext()
    with pulled:
        return lmtune("train", *text, SOURCE[0], *settings, *QUIET, "data.name=pt", f"output={name}")


def score(account):
    """Bits per byte of the held-out text after a training."""
    (scores,) = account["eval"].values()
    return scores["bits_per_byte"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    arguments, data, text = begin(parser, "small-corpus", train_bytes=100_000)
    build_source(data, arguments.english_bytes)
    print("| arm | bits per byte, best step | CPU s |\n|---|---:|---:|")
    usual = (f"training.num_train_epochs={arguments.epochs}", f"training.learning_rate={arguments.rate}")
    for name, settings in STAGES[arguments.stage](usual, arguments.rate):
        place = re.sub(r"[ ,=]+", "-", f"{arguments.epochs} {arguments.rate:g} {name}")
        runs = [train(text, f"{place}-{seed}", name, (*settings, f"seed={seed}")) for seed in arguments.seeds]
        seconds = sum(run["cpu"] for run in runs) / len(runs)
        print(f"| {name} | {render_spread([score(run) for run in runs])} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
