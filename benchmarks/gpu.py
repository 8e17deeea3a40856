"""The table of docs/benchmarks.md for the GPU at hand: its card, the head alone, training side by side, and the tests for it.

    LMTUNE_TEST_DATA=... python benchmarks/gpu.py --out DIR
    LMTUNE_TEST_DATA=... python benchmarks/gpu.py --out DIR --stages machine,head
    LMTUNE_TEST_DATA=... python benchmarks/gpu.py --out DIR --smoke          tries the script, tiny and on the CPU

Each stage is a process group with a limit of its own. What it finds goes into DIR/gpu.jsonl as soon as it is known, so a stage
that is cut short keeps what it had; what it says goes into DIR/log.txt, and the table into DIR/table.md and onto stdout.

machine: the card, the versions, the ceilings of products and copies. head: head and loss alone, plain against lmtune's, with the
distance from float64. train: the sides of benchmarks/train.py by rows, eager and compiled. tests: pytest -m gpu, among them a run
that is killed and resumed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_stages import STAGES

from lmtune.environment import set_environment, set_waiting

LIMITS = {"machine": 60, "head": 90, "train": 330, "tests": 300}
"""Seconds of each stage, unless --budget leaves fewer."""


def run_stage(name, arguments, left):
    """One stage in a process group of its own, ended with all that it started when its time is over."""
    command = [sys.executable, __file__, "--out", str(arguments.out), "--stage", name]
    command += ["--smoke"] if arguments.smoke else []
    begun = time.monotonic()
    with (arguments.out / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"== {name}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(min(LIMITS[name], left))
        except subprocess.TimeoutExpired:
            code = "out of time"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    emit(arguments.out, {"stage": name, "code": code, "seconds": round(time.monotonic() - begun, 1)})
    return code


def emit(folder, found):
    """Add one finding to DIR/gpu.jsonl."""
    with (folder / "gpu.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


def load_findings(folder):
    """What the stages have found so far."""
    file = folder / "gpu.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def render(found):
    """The findings as Markdown."""
    lines = []
    for each in (each for each in found if each.get("of") == "machine"):
        lines += [each["card"] + ", " + each["versions"], each["ceilings"], ""]
    head = [each for each in found if each.get("of") == "head"]
    if head:
        lines += ["| head | ms | memory, GB | loss from float64 |", "|---|---:|---:|---:|"]
        lines += [f"| {each['side']} | {each['ms']:.1f} | {each['gb']:.2f} | {each['apart']:.1e} |" for each in head]
        lines.append("")
    train = [each for each in found if each.get("of") == "train"]
    if train:
        lines += ["| side | rows | ms a step | tokens/s | MFU | memory, GB |", "|---|---:|---:|---:|---:|---:|"]
        lines += [render_training(each) for each in train]
        lines.append("")
    lines += [f"pytest -m gpu: {each['summary']}" for each in found if each.get("of") == "tests"]
    lines += [f"{each['stage']}: code {each['code']}, {each['seconds']} s" for each in found if "stage" in each]
    return "\n".join(lines) + "\n"


def render_training(each):
    if "failure" in each:
        return f"| {each['side']} | {each['rows']} | {each['failure']} | | | |"
    mfu = "" if each["mfu"] is None else f"{each['mfu']:.0%}"
    return (
        f"| {each['side']} | {each['rows']} | {each['step'] * 1e3:.1f} | {each['tokens_per_second']:,.0f} | {mfu} | "
        f"{each['gb']:.1f} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--budget", type=float, default=540.0, help="seconds for all stages together")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        STAGES[arguments.stage](arguments.smoke, lambda found: emit(arguments.out, {"of": arguments.stage, **found}))
        return
    set_environment()  # for the processes of all stages
    set_waiting()
    names = arguments.stages.split(",")
    if unknown := set(names) - STAGES.keys():
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + arguments.budget
    codes = [run_stage(name, arguments, max(1.0, ends - time.monotonic())) for name in names]
    table = render(load_findings(arguments.out))
    (arguments.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
