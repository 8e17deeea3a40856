"""A verified save against Trainer's own, for a GPT-2 of 124M parameters with the state of Adam, pair by pair.

    python benchmarks/save.py --runs 7

The weights are random and made on the spot. Before each save the disk has written out all that came before. lmtune's save is
Trainer's own and then checksums and fsync beside each other, manifest and renaming.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import safetensors
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from lmtune import runs
from lmtune.data.blocks import Blocks
from lmtune.modeling.tokenizer import learn_tokenizer
from lmtune.paths import GivenPath
from lmtune.runs import manifest
from lmtune.training.trainer import LmTrainer


class Clock:
    """Adds up the seconds that a function takes."""

    def __init__(self, owner, name):
        self.seconds, function = 0.0, getattr(owner, name)

        def timed(*arguments):
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.perf_counter() - started

        setattr(owner, name, timed)


def build_trainer(folder):
    model = GPT2LMHeadModel(GPT2Config())
    rows = datasets.Dataset.from_dict({"ids": np.zeros((4, 1025), np.uint16)})
    trainer = LmTrainer(
        model=model,
        args=TrainingArguments(str(folder), use_cpu=True, report_to="none", disable_tqdm=True),
        rows=Blocks(rows, 1024, targets=4096),
        tokenizer=learn_tokenizer(["um texto para o vocabulário"] * 10, vocab_size=300, max_length=64),
        score=lambda _: {},
    )
    trainer.attach(runs.begin_at(GivenPath("output", str(folder)), folder.parent), {})
    trainer.create_optimizer_and_scheduler(10)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()  # Adam now has its two moments
    trainer._tr_loss, trainer._total_loss_scalar, trainer._globalstep_last_logged = torch.tensor(0.0), 0.0, 0
    return trainer


def timed_save(trainer, save):
    """Seconds of one save into an empty folder."""
    for folder in trainer.run.folder.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    os.sync()
    trainer.state.global_step += 1
    started = time.perf_counter()
    save(trainer, trainer.model, None)
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default a temporary one")
    told = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    hashing, syncing, syncing_folders = (Clock(manifest, name) for name in ("checksum", "sync", "sync_folder"))
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        trainer = build_trainer(Path(folder))
        timed_save(trainer, Trainer._save_checkpoint)  # warms both up
        rows = []
        for _ in range(told.runs):
            plain = timed_save(trainer, Trainer._save_checkpoint)
            before = hashing.seconds, syncing.seconds + syncing_folders.seconds
            verified = timed_save(trainer, LmTrainer._save_checkpoint)
            after = hashing.seconds, syncing.seconds + syncing_folders.seconds
            rows.append((plain, verified, after[0] - before[0], after[1] - before[1]))
        size = runs.Run(Path(folder)).measure_checkpoints()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, safetensors {safetensors.__version__}")
    print(f"{size / 1e9:.2f} GB, {told.runs} pairs, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
    names = ("Trainer's own, s", "verified, s", "of it hashing, s", "of it fsync, s")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name:<34}{statistics.median(values):>7.2f}   ({min(values):.2f} to {max(values):.2f})")
    for name, parts in (
        ("verified / own", [v / p for p, v, _, _ in rows]),
        ("hashing / own", [h / p for p, _, h, _ in rows]),
        ("fsync / own", [s / p for p, _, _, s in rows]),
    ):
        print(f"{name:<34}{statistics.median(parts):>7.3f}   ({min(parts):.3f} to {max(parts):.3f})")


if __name__ == "__main__":
    main()
