"""What a pretrained model wants that learns from a corpus of 100 kB: how often to read it, how fast, with which decay and average.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/small_corpus.py length --seeds 1 2 3
    LMTUNE_TEST_DATA=... python benchmarks/experiments/small_corpus.py decay --epochs 16 --rate 1e-3 --seeds 1 2 3
    LMTUNE_TEST_DATA=... LMTUNE_TEST_MODEL=... python benchmarks/experiments/small_corpus.py decay --real --epochs 4 --rate 1e-4

The model is the small English one of transplant.py beside this file, with its vocabulary, or with --real the pretrained one in the
folder LMTUNE_TEST_MODEL; the text is works of Machado de Assis, others are held out. A run is judged by the best of its ten
evaluations, whose step it would keep, so that an arm that overfits is not judged by its end. Seeds change the order of the rows.

    length    --lengths in epochs, at each of --rates
    decay     weight decay 0, 0.1, 0.3, 1 and 3
    start     likewise 0.1, 0.3, 1 and 3, but towards the weights that the training began with (arXiv:1802.01483, L2-SP, decoupled)
    second    Adam's beta2 0.9, 0.95, 0.99 and 0.999
    batch     2, 4, 8 and 16 rows a step, with the rate as it is and in proportion to the root of the batch
    average   the mean of the last fifth of the weights, under a cosine and under a constant rate

What a command printed is kept in --folder, and it is not run again.
"""

import argparse
import contextlib
import json
import math
import os
import re
import shutil
from pathlib import Path

from rates import NO_CHECKPOINT
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transplant import QUIET, SOURCE, begin, build_source, lmtune, render_spread


def vary_length(_usual, asked):
    for epochs in asked.lengths:
        for rate in asked.rates:
            yield (
                f"{epochs} epochs at {rate:g}",
                (f"training.num_train_epochs={epochs}", f"training.learning_rate={rate}"),
            )


def vary_decay(usual, _asked):
    for decay in (0, 0.1, 0.3, 1, 3):
        yield f"decay {decay}", (*usual, f"training.weight_decay={decay}")


def vary_start(usual, _asked):
    for strength in (0.1, 0.3, 1, 3):
        yield f"start {strength}", usual


def vary_second(usual, _asked):
    for beta2 in (0.9, 0.95, 0.99, 0.999):
        yield f"beta2 {beta2}", (*usual, f"training.adam_beta2={beta2}")


def vary_batch(usual, asked):
    for rows in (2, 4, 8, 16):
        size = f"training.per_device_train_batch_size={rows}"
        scaled = f"{asked.rate * math.sqrt(rows / 8):.2g}"
        yield f"{rows} rows", (*usual, size)
        yield f"{rows} rows at {scaled}", (usual[0], f"training.learning_rate={scaled}", size)


def vary_average(usual, _asked):
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
"""Each gives (name, settings) of its arms, from the settings of the usual length and rate, and what was asked for."""


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
    """The lowest bits per byte of held-out text in a run, and its CPU seconds. Its weights are removed."""
    kind, _, strength = arm.partition(" ")
    pulled = decay_to_start(float(strength)) if kind == "start" else contextlib.nullcontext()
    with pulled:
        account = lmtune("train", *text, *settings, *QUIET, "data.name=pt", f"output={name}")
    shutil.rmtree(Path(name) / "model", ignore_errors=True)
    (scores,) = account["eval"].values()
    lines = map(json.loads, (Path(name) / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    curve = [line["eval_bits_per_byte"] for line in lines if "eval_bits_per_byte" in line]
    return min(*curve, scores["bits_per_byte"]), account["cpu"]


def begin_from(arguments, data):
    """Settings of the model that is continued; says what it is worth where it is trained here."""
    if arguments.real:
        return (f"model.path={arguments.model}", "training.bf16=true", "data.block_size=128", *NO_CHECKPOINT)
    build_source(data, arguments.english_bytes)
    return SOURCE[:1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--real", action="store_true", help="continue the model in LMTUNE_TEST_MODEL")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 4, 16], help="of the stage `length`, in epochs")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3], help="of the stage `length`")
    parser.set_defaults(model=Path(os.environ.get("LMTUNE_TEST_MODEL", "")).resolve())
    arguments, data, text = begin(parser, "small-corpus", train_bytes=100_000)
    source = begin_from(arguments, data)
    print("| arm | bits per byte, best step | CPU s |\n|---|---:|---:|")
    usual = (f"training.num_train_epochs={arguments.epochs}", f"training.learning_rate={arguments.rate}")
    for name, settings in STAGES[arguments.stage](usual, arguments):
        arm = re.sub(r"[ ,=]+", "-", f"{arguments.epochs} {arguments.rate:g} {name}")
        place = f"real-{arm}" if arguments.real else arm
        runs = [train(text, f"{place}-{seed}", name, (*source, *settings, f"seed={seed}")) for seed in arguments.seeds]
        scores, seconds = zip(*runs, strict=True)
        print(f"| {name} | {render_spread(scores)} | {sum(seconds) / len(runs):.0f} |", flush=True)


if __name__ == "__main__":
    main()
