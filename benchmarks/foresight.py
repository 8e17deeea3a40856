"""What `lmtune check` tells, beside the run that follows: steps, time and memory, of configurations of several sizes.

    LMTUNE_TEST_DATA=... python benchmarks/foresight.py                     on a CPU, minutes
    LMTUNE_TEST_DATA=... python benchmarks/foresight.py --device cuda       GPT-2 124M, blocks of 1,024

Each check and each run is a process of its own, one after the other. The time is that of the run from its first evaluation to
its last, saves and samples included, by the clock of its log; loading, the report and the sealing of the model stand outside, as
they do in what check tells. Memory is the peak of the process: resident on a CPU, what torch had allocated on a GPU.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from lmtune.environment import set_environment, set_waiting

SHAPES = {
    "small": {"n_layer": 4, "n_embd": 128, "n_head": 4, "n_positions": 256},
    "medium": {"n_layer": 6, "n_embd": 384, "n_head": 6, "n_positions": 512},
    "gpt2": {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024},
}
CASES = {  # device to name to (shape, block, rows, steps, what else is given)
    "cpu": {
        "4 layers of 128": ("small", 256, 8, 100, ()),
        "the same without samples": ("small", 256, 8, 100, ("samples.enabled=false",)),
        "the same, accumulated": ("small", 256, 4, 60, ("training.gradient_accumulation_steps=2",)),
        "the same, recomputed": ("small", 256, 8, 60, ("training.activation_checkpointing=true",)),
        "the same, in float32": ("small", 256, 8, 60, ("training.bf16=false",)),
        "6 layers of 384": ("medium", 512, 4, 30, ()),
    },
    "cuda": {
        "124M, 32 rows": ("gpt2", 1024, 32, 60, ()),
        "124M, 8 rows": ("gpt2", 1024, 8, 200, ()),
        "124M, 32 rows, compiled": ("gpt2", 1024, 32, 60, ("training.torch_compile=true",)),
        "124M, 32 rows, recomputed": ("gpt2", 1024, 32, 60, ("training.activation_checkpointing=true",)),
    },
}
SMOKE = {"tiny": ("small", 64, 2, 4, ("eval.max_tokens=500", "eval.final_max_tokens=500"))}


def save_tokenizer(data, folder):
    """GPT-2's vocabulary as transformers writes it."""
    from transformers import GPT2TokenizerFast

    GPT2TokenizerFast.from_pretrained(data / "gpt2-tokenizer").save_pretrained(folder)
    return folder


def build_overrides(case, data, tokenizer, device):
    """The command line of a case, but for its command."""
    shape, block, rows, steps, more = case
    text = data / "wikitext-2" / "train.txt.gz"
    sizes = [f"model.config.{key}={value}" for key, value in SHAPES[shape].items()]
    return [
        "model.init=scratch", "model.config.model_type=gpt2", *sizes, f"model.tokenizer={tokenizer}",
        f"data.files={text}", f"data.block_size={block}",
        f"training.per_device_train_batch_size={rows}", f"training.max_steps={steps}", "eval.max_tokens=20000",
        "eval.final_max_tokens=20000", f"training.use_cpu={str(device == 'cpu').lower()}", *more,
    ]  # fmt: skip


def run(arguments):
    """(what the command printed, peak resident bytes of its process)."""
    with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, "-m", "lmtune", *arguments], stdout=told, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"lmtune {' '.join(arguments)}\n{said.read()[-3000:]}")
        return told.read(), used.ru_maxrss * 1024


def measure(overrides, device, folder):
    """What is told and what is taken, of one command line."""
    found = json.loads(run(["check", "check.probe=true", "format=json", *overrides])[0])
    output = Path(folder) / "run"
    _, resident = run(["train", "report.enabled=false", f"output={output}", *overrides])
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    logged = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    allocated = max((line["memory_gb"] for line in logged if "memory_gb" in line), default=0.0) * 1e9
    cost, memory = found["cost"]["here"], found["memory"]["step"]
    return {
        "steps": (found["course"]["steps"], results["train"]["steps"]),
        "seconds": (cost["seconds"]["median"] - final_scoring(found), read_span(output / "train.log")),
        "memory": (memory["total"], allocated if device == "cuda" else resident),
        "probe": found["probe"]["peak_memory"],
    }


def final_scoring(found):
    """Seconds of the last scoring, which comes after the last line that is read of the log."""
    sets = found["text"]["held_out"].values()
    return sum(each["scored_at_the_end"] for each in sets) / found["probe"]["scored_tokens_per_second"]


def read_span(log):
    """Seconds from the line that says what is scored, before the first evaluation, to the last line about a step."""
    lines = log.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if " scored: " in line)
    last = max(number for number, line in enumerate(lines) if ".progress: step " in line or ".samples:   «" in line)
    begun, ended = (datetime.strptime(lines[number][:23], "%Y-%m-%d %H:%M:%S,%f") for number in (first, last))
    return (ended - begun).total_seconds()


def render(name, rounds):
    """One row: medians over the rounds."""
    told, taken = (statistics.median(each["seconds"][side] for each in rounds) for side in (0, 1))
    estimated, peak = (statistics.median(each["memory"][side] for each in rounds) for side in (0, 1))
    probe = statistics.median(each["probe"] for each in rounds)
    return (
        f"| {name} | {told:.1f} | {taken:.1f} | {told / taken - 1:+.0%} | {estimated / 1e9:.2f} | {probe / 1e9:.2f} | "
        f"{peak / 1e9:.2f} | {probe / peak - 1:+.0%} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="a part of the names of the cases")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    set_environment()  # for the processes
    set_waiting()
    data = Path(os.environ["LMTUNE_TEST_DATA"]).resolve()
    cases = SMOKE if arguments.smoke else CASES[arguments.device]
    cases = {name: case for name, case in cases.items() if not arguments.only or arguments.only in name}
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "accelerate")
    )
    print(
        f"{arguments.device}, {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {versions}"
    )
    print(
        "| | seconds told | taken | off | step, GB | probe, GB | run, GB | off |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LMTUNE_CACHE"] = str(Path(folder) / "cache")
        tokenizer = save_tokenizer(data, Path(folder) / "tokenizer")
        for number, (name, case) in enumerate(cases.items()):
            rounds, overrides = [], build_overrides(case, data, tokenizer, arguments.device)
            for turn in range(arguments.rounds):
                rounds.append(measure(overrides, arguments.device, Path(folder) / f"{number}-{turn}"))
                assert rounds[-1]["steps"][0] == rounds[-1]["steps"][1], name
            print(render(name, rounds), flush=True)


if __name__ == "__main__":
    main()
