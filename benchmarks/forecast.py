"""The calibration of `lmtune check check.forecast=true`: small trainings from end to end, a law fitted to some, judged on the rest.

    LMTUNE_TEST_DATA=... python benchmarks/forecast.py runs --out DIR     an hour of one thread; goes on where it stopped
    python benchmarks/forecast.py fit --out DIR                           the tables, DIR/forecast.json and DIR/forecast.svg
    python benchmarks/forecast.py fit --out DIR --ship                    the same into the package and docs/

Every run is a GPT-2 of 30 thousand to a million parameters on a CPU, its vocabulary learned from its own text; `continued` ones
start from one of two such models, trained here on another text. Texts, rates and seeds of the judged runs are none of the fitted
ones. forecast_laws.py has what the law is compared with.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path
from typing import NamedTuple

from forecast_laws import render_calibration

import lmtune
from lmtune.environment import set_environment, set_waiting

SHARES = [0.015, 0.03, 0.06, 0.12, 0.24, 0.48, 1.0]
"""Of the steps of a run, after which what is held out is scored."""
ROOT = Path(__file__).parents[1]
OPENING, CLOSING = "<!-- forecast: benchmarks/forecast.py writes this -->", "<!-- end -->"
SOURCE = Path(os.environ.get("LMTUNE_TEST_DATA", "."))
TEXTS = {
    "fitted": {
        "machado": SOURCE / "pt-wiki/machado.jsonl.gz",
        "rebec": SOURCE / "bio/rebec.txt.gz",
        "wikitext-2": SOURCE / "wikitext-2/train.txt.gz",
        "tico19": SOURCE / "bio/tico19-pt_BR.txt.gz",
        "scielo-titles": SOURCE / "bio/scielo-titles-abstracts.txt.gz",
    },
    "judged": {
        "eltec": SOURCE / "pt-wiki/eltec-por.jsonl.gz",
        "scielo-rsp": SOURCE / "bio/scielo-rsp-2004.txt.gz",
        "lambada": SOURCE / "lambada/lambada_test.jsonl.gz",
        "sample": "pkg",
    },
}
RATES = {"fitted": [1e-3, 2e-3, 4e-3, 8e-3], "judged": [1.4e-3, 2.8e-3, 5.6e-3]}
SCHEDULES = ["cosine", "linear", "constant_with_warmup", "warmup_stable_decay"]
SHAPES = [(1, 32), (2, 48), (2, 64), (3, 64), (2, 96), (4, 128)]
"""(layers, width)"""
BASES = {"fitted": "machado", "judged": "wikitext-2"}
"""What the models of continued runs have learned first."""
STEPS = {"sample": [240, 300], "scielo-titles": [240, 400], "others": [240, 400, 640, 960]}
"""Lengths of runs; of the two small texts, at most four epochs."""


class Planned(NamedTuple):
    """One run. The seed is that of weights and order."""

    side: str
    kind: str
    text: str
    layers: int
    width: int
    vocabulary: int
    rows: int
    block: int
    rate: float
    schedule: str
    steps: int
    seed: int


def plan_runs(side, kind, count):
    """`count` runs of one side, drawn with a seed of their own."""
    draw = random.Random(f"{side} {kind}")
    texts, rates = list(TEXTS[side]), RATES[side]
    if kind == "continued":
        texts = [text for text in texts if text != BASES[side]]
    runs = []
    for number in range(count):
        text = texts[number % len(texts)]
        layers, width = draw.choices(SHAPES, weights=[3, 4, 4, 3, 2, 1])[0]
        steps = draw.choice(STEPS.get(text, STEPS["others"]))
        rate, schedule = draw.choice(rates), draw.choice(SCHEDULES)
        if kind == "continued":
            (layers, width), steps, rate = (2, 64), min(steps, 400), rate / 2
        rows, block = draw.choice([(8, 64), (4, 128)] if text in STEPS else [(8, 64), (4, 128), (8, 128)])
        if width >= 96:
            steps = min(steps, 240)
        batch = draw.choice([384, 512, 768]), rows, block
        seed = number + {"fitted": 0, "judged": 100}[side] + {"scratch": 0, "continued": 50}[kind]
        runs.append(Planned(side, kind, text, layers, width, *batch, rate, schedule, steps, seed))
    return runs


def plan_all(smoke):
    """All runs, the kinds taking turns, so that those of an hour that is cut short are of all kinds too."""
    counts = {
        ("fitted", "scratch"): 26,
        ("judged", "scratch"): 18,
        ("fitted", "continued"): 10,
        ("judged", "continued"): 7,
    }
    parts = {key: plan_runs(*key, count) for key, count in counts.items()}
    if smoke:
        short = {"steps": 240, "layers": 1, "width": 32, "rows": 4, "block": 64}
        return [run._replace(**short) for part in parts.values() for run in part[:2]]
    placed = [((number + 0.5) / len(part), run) for part in parts.values() for number, run in enumerate(part)]
    return [run for _, run in sorted(placed, key=lambda each: each[0])]


def list_keys(run, bases):
    """The command line of a run, without `lmtune check`."""
    text = next(texts[run.text] for texts in TEXTS.values() if run.text in texts)
    keys = [] if run.text == "sample" else [f"data.files={text}"]
    keys += (
        [f"model.path={bases[run.side]}", f"training.learning_rate={run.rate}"]
        if run.kind == "continued"
        else [
            f"model.vocab_size={run.vocabulary}", f"model.config.n_layer={run.layers}", f"model.config.n_embd={run.width}",
            f"model.config.n_head={run.width // 16}", f"training.learning_rate={run.rate}",
        ]
    )  # fmt: skip
    if run.schedule == "warmup_stable_decay":
        keys.append(f"training.lr_scheduler_kwargs={{num_decay_steps:{max(1, run.steps // 5)}}}")
    return [
        *keys, f"seed={run.seed}", f"training.lr_scheduler_type={run.schedule}", f"training.max_steps={run.steps}",
        f"data.block_size={run.block}", f"training.per_device_train_batch_size={run.rows}",
        "training.use_cpu=true", "training.bf16=false", "samples.enabled=false", f"eval.context={run.block}",
        "eval.max_tokens=12000",
    ]  # fmt: skip


def train_bases(folder, smoke):
    """Folders of the models that continued runs start from."""
    bases = {}
    for side, text in BASES.items():
        output = folder / f"base-{side}"
        if not output.exists():
            run = Planned(side, "scratch", text, 2, 64, 512, 8, 64, 4e-3, "cosine", 40 if smoke else 1200, 200)
            keys = [*list_keys(run, {}), f"output={output}", "training.eval_strategy=no", "training.save_strategy=no"]
            lmtune.train(lmtune.load_config("train", [*keys, "training.load_best_model_at_end=false"]))
        bases[side] = output / "model"
    return bases


def record_run(run, bases):
    """The curve of a whole run, and what the law has to know of it."""
    from lmtune.training.building import build_trainer
    from lmtune.training.curve import record_curve
    from lmtune.training.forecast_probe import plan_run
    from lmtune.training.foresight import plan_course
    from lmtune.training.held_out import load_held_out
    from lmtune.training.setup import build_setup

    begun = time.process_time()
    setup = build_setup(lmtune.load_config("check", list_keys(run, bases)))
    held_out = load_held_out(setup)
    trainer = build_trainer(setup, held_out)
    planned = plan_run(setup, held_out, plan_course(trainer, setup, 0))
    whole = record_curve(trainer, held_out, {max(1, round(share * run.steps)) for share in SHARES})
    return {
        **run._asdict(),
        "parameters": planned.parameters,
        "epochs": planned.epochs,
        "tokens_per_step": planned.tokens_per_step,
        "bytes_per_token": planned.bytes_per_token,
        "rates": [float(f"{run.rate * factor:.5g}") for factor in planned.factors],
        "losses": [round(loss, 5) for loss in whole.losses],
        "scores": whole.scores,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def run_all(arguments):
    """Every planned run that DIR/curves.jsonl does not hold yet."""
    file = arguments.out / "curves.jsonl"
    known = {tuple(run[name] for name in Planned._fields) for run in load_curves(file)}
    bases = train_bases(arguments.out, arguments.smoke)
    for run in plan_all(arguments.smoke):
        if run not in known:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record_run(run, bases)) + "\n")


def load_curves(file):
    """The runs that are there."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["runs", "fit"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="eight short runs, to try the script")
    parser.add_argument("--ship", action="store_true", help="into the package and docs/")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    set_environment()
    set_waiting()
    if arguments.stage == "runs":
        run_all(arguments)
        return
    to = {"forecast.json": ROOT / "src/lmtune/training", "forecast.svg": ROOT / "docs"} if arguments.ship else {}
    table = render_calibration(
        load_curves(arguments.out / "curves.jsonl"), lambda name: to.get(name, arguments.out) / name
    )
    if arguments.ship:
        page = ROOT / "docs/benchmarks.md"
        before, _, after = page.read_text("utf-8").partition(OPENING)
        page.write_text(f"{before}{OPENING}\n{table}\n{CLOSING}{after.partition(CLOSING)[2]}", "utf-8")
    print(table)


if __name__ == "__main__":
    main()
