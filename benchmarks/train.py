"""Training side by side: lmtune, the documented run_clm pattern, and a bare PyTorch loop in nanoGPT's manner.

    LMTUNE_TEST_DATA=... python benchmarks/train.py                        a small GPT-2 on a CPU, minutes
    LMTUNE_TEST_DATA=... python benchmarks/train.py --device cuda          GPT-2 124M, blocks of 1,024

Each measurement is a process of its own, the sides taking turns round by round; all read the same token stream in the
same order from the same weights, with the same batch, optimizer, clipping, constant rate and precision, without
evaluation, samples or saves. The clock stands on optimizer steps, by the same hook in each. Memory is the peak above the
process with its model loaded: resident memory on a CPU, allocated memory on a GPU. "First step" is from the start of the
process to the end of the first optimizer step, prepared blocks given, step-0 evaluation and samples left out.

On a machine that is shared, the ratios by CPU time (over run_clm / over the bare loop) say more than those by the clock,
best with OMP_NUM_THREADS=1: threads that wait for each other spend CPU time too.

lmtune learns every token of the stream; blocks of run_clm lose one target each, so its curve may differ by about 1/block.
The bare loop compiles its model where --compile is given (always on CUDA, as nanoGPT does); then so does one more lmtune.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmtune.environment import set_environment, set_waiting

SEED = 0
RATE = 1e-4
SHAPES = {  # device to what is measured by default
    "cpu": {"layers": 4, "width": 384, "heads": 6, "block": 256, "batch": 4, "steps": 12, "warmup": 3, "every": 1},
    "cuda": {"layers": 12, "width": 768, "heads": 12, "block": 1024, "batch": 16, "steps": 130, "warmup": 30, "every": 10},
}  # fmt: skip


class Clock:
    """Times of optimizer steps, every so many; on a GPU it waits for the device there, and only there."""

    def __init__(self, settings):
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self.settings, self.torch, self.steps, self.stamps = settings, torch, 0, []
        self.first = None
        self.loaded = None
        register_optimizer_step_post_hook(self.tick)
        self.handle = torch.nn.modules.module.register_module_forward_pre_hook(self.note_loaded)

    def note_loaded(self, *_):
        self.handle.remove()
        self.loaded = memory_now()

    def tick(self, optimizer, *_):
        learned = sum(weight.numel() for group in optimizer.param_groups for weight in group["params"])
        if learned < self.settings["parameters"]:
            return  # lmtune tries the optimizer on a toy, to know what its state will take on the disk
        self.steps += 1
        if self.steps == 1 or self.steps % self.settings["every"] == 0:
            if self.settings["device"] == "cuda":
                self.torch.cuda.synchronize()
            if self.steps == 1:
                self.first = time.time() - self.settings["started"]
            if self.steps >= self.settings["warmup"]:
                self.stamps.append((self.steps, time.perf_counter(), time.process_time()))

    def result(self, losses):
        spans = [
            [(b - a) / (after[0] - before[0]) for a, b in zip(before[1:], after[1:], strict=True)]
            for before, after in itertools.pairwise(self.stamps)
        ]
        wall, cpu = (statistics.median(each) for each in zip(*spans, strict=True))
        if self.settings["device"] == "cuda":
            peak = self.torch.cuda.max_memory_allocated() - self.settings["parameters"] * 4
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self.loaded
        return {"step": wall, "cpu": cpu, "first": self.first, "memory": peak, "losses": losses}


def memory_now():
    """Resident bytes of this process."""
    import psutil

    return psutil.Process().memory_info().rss


def build_settings(arguments, folder):
    """Everything that a side needs to know, as plain values."""
    settings = {
        **SHAPES[arguments.device],
        **{key: value for key, value in vars(arguments).items() if value is not None},
    }
    settings |= {"folder": str(folder)}
    return settings


def prepare(settings):
    """Weights, the text file, and the token stream that lmtune makes of it; all sides read these."""
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    from lmtune.config import DataConfig
    from lmtune.data.corpus import Corpus
    from lmtune.data.prepare import EncodedCorpus

    folder, source = Path(settings["folder"]), Path(os.environ["LMTUNE_TEST_DATA"])
    tokenizer = GPT2TokenizerFast.from_pretrained(source / "gpt2-tokenizer")
    config = GPT2Config(
        n_layer=settings["layers"], n_embd=settings["width"], n_head=settings["heads"], n_positions=settings["block"],
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(SEED)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    text = source / "wikitext-2" / "train.txt.gz"
    data = DataConfig(files=str(text), validation_fraction=0.0)
    rows = EncodedCorpus(Corpus(data, SEED), tokenizer).prepare(settings["block"]).blocks.rows
    np.save(folder / "stream.npy", np.asarray(rows["ids"])[:-1, :-1].reshape(-1).astype(np.uint16))
    prepare_run_clm(folder, settings["block"], settings["batch"] * settings["steps"])
    return {"text": str(text), "parameters": model.num_parameters()}


def prepare_run_clm(folder, block, rows):
    """run_clm's blocks of the same stream: its group_texts, on pieces as long as its batched map hands over."""
    import datasets
    import numpy as np

    datasets.disable_progress_bars()
    stream = np.load(folder / "stream.npy", mmap_mode="r")[: rows * block]

    def group(examples):
        ids = np.concatenate(examples["input_ids"])
        ids = ids[: len(ids) // block * block].reshape(-1, block).tolist()
        return {"input_ids": ids, "attention_mask": [[1] * block for _ in ids], "labels": ids}

    pieces = [stream[start : start + 100 * block].tolist() for start in range(0, len(stream), 100 * block)]
    grouped = datasets.Dataset.from_dict({"input_ids": pieces}).map(group, batched=True, batch_size=100)
    grouped.save_to_disk(str(folder / "run_clm"))


def train_lmtune(settings):
    """The real command; `chosen`: with the settings that it chooses by itself."""
    from lmtune.cli import main

    clock = Clock(settings)
    output = Path(settings["folder"]) / f"run-{os.getpid()}"
    overrides = [
        f"data.files={settings['text']}", "data.validation_fraction=0", f"data.block_size={settings['block']}",
        f"model.path={settings['folder']}/model", f"seed={SEED}", f"output={output}", "format=json", "samples.enabled=false",
        f"training.max_steps={settings['steps']}", f"training.per_device_train_batch_size={settings['batch']}",
        f"training.logging_steps={settings['every']}", f"training.learning_rate={RATE}", "training.save_strategy=no",
        "training.lr_scheduler_type=constant", "training.warmup_steps=0", "training.train_sampling_strategy=sequential",
    ]  # fmt: skip
    overrides += {
        "float32": ["training.bf16=false"], "bf16": ["training.bf16=true"], "chosen": []
    }[settings["precision"]]  # fmt: skip
    overrides += [f"training.use_cpu={str(settings['device'] == 'cpu').lower()}"]
    overrides += ["training.torch_compile=true"] if settings["compile"] else []
    if main.run(["train", *overrides]) != 0:
        raise SystemExit("lmtune train failed")
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return clock.result([line["loss"] for line in lines if "loss" in line])


def train_run_clm(settings):
    """run_clm.py's loop: mapped Python lists, default_data_collator, Trainer as it comes."""
    import datasets
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, default_data_collator

    clock = Clock(settings)
    folder = Path(settings["folder"])
    arguments = TrainingArguments(
        str(folder / "clm"), max_steps=settings["steps"], per_device_train_batch_size=settings["batch"], seed=SEED,
        logging_steps=settings["every"], learning_rate=RATE, lr_scheduler_type="constant", save_strategy="no",
        train_sampling_strategy="sequential", bf16=settings["precision"] == "bf16", use_cpu=settings["device"] == "cpu",
        dataloader_pin_memory=settings["device"] == "cuda", disable_tqdm=True, report_to="none",
    )  # fmt: skip
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(folder / "model"),
        arguments,
        train_dataset=datasets.load_from_disk(str(folder / "run_clm")),
        data_collator=default_data_collator,
    )
    trainer.train()
    return clock.result([line["loss"] for line in trainer.state.log_history if "loss" in line])


def train_bare(settings):
    """nanoGPT's train.py: batches from a memmap, autocast, fused AdamW, gradients clipped at 1, losses read now and then."""
    import contextlib

    import numpy as np
    import torch
    import torch.nn.functional as F  # noqa: N812
    from transformers import GPT2LMHeadModel

    clock = Clock(settings)
    device, block, batch = settings["device"], settings["block"], settings["batch"]
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = GPT2LMHeadModel.from_pretrained(Path(settings["folder"]) / "model").to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    run = torch.compile(model) if settings["compile"] else model
    half = torch.autocast(device, torch.bfloat16) if settings["precision"] == "bf16" else contextlib.nullcontext()
    data = np.load(Path(settings["folder"]) / "stream.npy", mmap_mode="r")
    losses, summed = [], torch.zeros((), device=device)
    for step in range(settings["steps"]):
        starts = [(step * batch + row) * block for row in range(batch)]
        x = torch.stack([torch.from_numpy(data[i : i + block].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + block].astype(np.int64)) for i in starts])
        if device == "cuda":
            x, y = x.pin_memory().to(device, non_blocking=True), y.pin_memory().to(device, non_blocking=True)
        with half:
            logits = run(x, use_cache=False).logits
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1))
        loss.backward()
        summed += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % settings["every"] == 0:
            losses.append(float(summed) / settings["every"])
            summed.zero_()
    return clock.result(losses)


SIDES = {"lmtune": train_lmtune, "run_clm": train_run_clm, "bare": train_bare}


def measure(settings, side, precision, compiled):
    """One side in a process of its own."""
    asked = {**settings, "precision": precision, "compile": compiled, "started": time.time()}
    command = [sys.executable, __file__, "--side", side, "--settings", json.dumps(asked)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{side} {precision} failed:\n{ended.stderr[-3000:]}")
    print(f"  {side} {precision} {ended.stdout.splitlines()[-1]}", file=sys.stderr, flush=True)
    return json.loads(ended.stdout.splitlines()[-1])


def report(settings, rounds):
    """One table; ratios pair by pair within a round, then their median."""
    tokens = settings["batch"] * settings["block"]
    logits = tokens * 50257 * 4
    print(f"one [batch, block, vocabulary] float32 tensor: {logits / 1e6:,.0f} MB; {tokens:,} tokens a step")
    print(f"{'side':<24}{'ms a step':>11}{'tokens/s':>10}{'x run_clm':>11}{'x bare':>9}{'by CPU time':>14}{'memory MB':>11}"
          f"{'first s':>9}{'curve':>9}")  # fmt: skip
    for name in rounds[0]:
        precision = name.split()[1]
        steps = statistics.median(each[name]["step"] for each in rounds)
        against, by_cpu = {}, {}
        for other in ("run_clm", "bare"):
            rival = f"{other} {'float32' if precision == 'chosen' else precision}"
            rival += " compiled" if other == "bare" and f"{rival} compiled" in rounds[0] else ""
            ratios = [each[rival]["step"] / each[name]["step"] for each in rounds if rival in each]
            against[other] = f"{statistics.median(ratios):.2f}" if ratios else ""
            ratios = [each[rival]["cpu"] / each[name]["cpu"] for each in rounds if rival in each]
            by_cpu[other] = f"{statistics.median(ratios):.2f}" if ratios else "-"
        curve = rounds[0][name]["losses"]
        true = rounds[0]["bare float32"]["losses"] if "bare float32" in rounds[0] else curve
        apart = max(abs(a - b) / b for a, b in zip(curve, true, strict=False))
        print(
            f"{name:<24}{steps * 1e3:>11.1f}{tokens / steps:>10,.0f}{against['run_clm']:>11}{against['bare']:>9}"
            f"{' / '.join(by_cpu.values()):>14}"
            f"{statistics.median(each[name]['memory'] for each in rounds) / 1e6:>11,.0f}"
            f"{statistics.median(each[name]['first'] for each in rounds):>9.1f}{apart:>9.1e}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SHAPES, default="cpu")
    for key in SHAPES["cpu"]:
        parser.add_argument(f"--{key}", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16"], choices=["float32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](json.loads(arguments.settings))))
        return
    set_environment()  # for the processes of all sides
    set_waiting()
    compiled = arguments.compile or arguments.device == "cuda"
    cases = [(side, precision, False) for precision in arguments.precisions for side in SIDES]
    cases.insert(len(SIDES), ("lmtune", "chosen", False))
    if compiled:
        cases += [(side, precision, True) for precision in arguments.precisions for side in ("lmtune", "bare")]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LMTUNE_CACHE"] = str(Path(folder) / "cache")
        settings = build_settings(arguments, folder)
        settings |= prepare(settings)
        versions = ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "accelerate")
        )
        print(
            f"{arguments.device}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {versions}"
        )
        print(", ".join(f"{key} {settings[key]}" for key in SHAPES["cpu"]) + f", {settings['parameters']:,} parameters")
        rounds = []
        for _ in range(arguments.rounds):
            names = [" ".join([side, precision, *(["compiled"] if each else [])]) for side, precision, each in cases]
            rounds.append({name: measure(settings, *case) for name, case in zip(names, cases, strict=True)})
    report(settings, rounds)


if __name__ == "__main__":
    main()
