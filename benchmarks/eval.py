"""A long text under a stride: lmtune against the loop in the documentation of transformers, on the same model and ids.

    LMTUNE_TEST_DATA=... python benchmarks/eval.py --tokens 6144 --runs 3

Both score the same tokens with the same context: windows of 1,024 inputs, 512 further each time. The model is GPT-2 small
by its shape, with random weights. The seconds are those of both sides in turn in one process; the memory is the peak of a
fresh process for each side, above what it holds with the model loaded and one short window scored.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from lmtune.evaluation.evaluator import Scoring, score_documents
from lmtune.modeling.activations import fuse_activations
from lmtune.token_stream import DOCUMENT_TABLE, NO_SEPARATOR, TokenStream

LENGTH, STRIDE = 1024, 512


def load_ids(tokens):
    """The first so many ids of WikiText-2's raw test text, lines joined as the documentation does."""
    import gzip

    folder = Path(os.environ["LMTUNE_TEST_DATA"])
    tokenizer = GPT2TokenizerFast.from_pretrained(folder / "gpt2-tokenizer")
    with gzip.open(folder / "wikitext-2" / "test.raw.txt.gz", "rt", encoding="utf-8") as stream:
        text = "\n\n".join(stream.read(8 * tokens).splitlines())
    return np.array(tokenizer(text, verbose=False)["input_ids"][:tokens])


def build_model(side, device, dtype):
    """The same weights for both sides; lmtune fuses the activations of every model that it loads."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval().to(device, getattr(torch, dtype))
    if side == "lmtune":
        fuse_activations(model)
    return model


def strided_loop(model, ids, batch_size):
    """Sum of negative log-likelihoods as in docs/source/en/perplexity.md, each window's mean times what it is a mean of."""
    encoded = torch.from_numpy(ids)[None]
    total, previous_end = 0.0, 0
    for begin in range(0, len(ids), STRIDE):
        end = min(begin + LENGTH, len(ids))
        new = end - previous_end
        inputs = encoded[:, begin:end].to(model.device)
        targets = inputs.clone()
        targets[:, :-new] = -100
        with torch.no_grad():
            loss = model(inputs, labels=targets).loss
        total += float(loss) * int((targets[:, 1:] != -100).sum())
        previous_end = end
        if end == len(ids):
            break
    return total


def lmtune(model, ids, batch_size):
    table = np.array([(len(ids), 1, 1, 1, 0)], dtype=DOCUMENT_TABLE)
    stream = TokenStream(ids, table, NO_SEPARATOR)
    dtype = str(model.dtype).removeprefix("torch.")
    scoring = Scoring(LENGTH - 1, batch_size, STRIDE, dtype)
    return float(score_documents(model, stream, scoring)["nll"][0])


SIDES = {"documentation": strided_loop, "lmtune": lmtune}


def measure_memory(side, arguments):
    """Bytes at the peak above the loaded model, in this process; printed for the parent."""
    model, ids = build_model(side, arguments.device, arguments.dtype), load_ids(arguments.tokens)
    SIDES[side](model, ids[:16], 1)
    if arguments.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        SIDES[side](model, ids, arguments.batch_size)
        print(torch.cuda.max_memory_allocated() - before)
        return
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    SIDES[side](model, ids, arguments.batch_size)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(peak - before)


def measure_time(arguments):
    """{side: [(seconds, sum)]}, the sides in turn."""
    models = {side: build_model(side, arguments.device, arguments.dtype) for side in SIDES}
    ids = load_ids(arguments.tokens)
    rounds = {name: [] for name in SIDES}
    for name, work in SIDES.items():
        work(models[name], ids[: LENGTH + STRIDE], 1)
    for _ in range(arguments.runs):
        for name, work in SIDES.items():
            started = time.perf_counter()
            total = work(models[name], ids, arguments.batch_size)
            rounds[name].append((time.perf_counter() - started, total))
    return rounds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=6144)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1, help="windows at once, of lmtune")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        measure_memory(arguments.memory_of, arguments)
        return
    print(
        f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    rounds = measure_time(arguments)
    for name, runs in rounds.items():
        peak = int(subprocess.check_output([sys.executable, *sys.argv, "--memory-of", name], text=True))
        seconds = [each for each, _ in runs]
        print(
            f"{name:<14} median {statistics.median(seconds):7.2f} s ({min(seconds):.2f} to {max(seconds):.2f})  "
            f"sum of log-likelihoods {-runs[0][1]:.6f}  peak above the model {peak / 1e6:,.0f} MB"
        )
    ratios = [theirs[0] / ours[0] for theirs, ours in zip(*rounds.values(), strict=True)]
    print(f"speed ratio, pair by pair: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
