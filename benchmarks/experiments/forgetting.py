"""English to Portuguese with a small gpt2-tiny: what is forgotten without a budget, and what a budget costs and keeps.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/forgetting.py --seeds 1 2 3 4 5

One model is trained on English articles (WikiText-2). From it, on the same Portuguese text and with the same number of steps:

    plain      nothing is done against forgetting
    start-D    nothing, but the weights are pulled to those they began with (decay_to_start in small_corpus.py)
    fixed-S    the share S of each step is old text (data.mix), in as many more steps as the new text needs
    real-B     forgetting.budget=B, old text from the English training part
    self-B     forgetting.budget=B, old text that the model writes before the first step

The seeds change the order of the Portuguese rows. English is held out of both trainings by the same split.
"""

import argparse
import contextlib
import gzip
import json
import os
import statistics
from pathlib import Path

from small_corpus import decay_to_start

import lmtune

QUIET = ["samples.enabled=false", "report.enabled=false", "training.use_cpu=true"]
SHAPE = ["model.config.n_layer=2", "model.config.n_embd=64", "model.config.n_head=2"]
ARMS = ("plain", "real-1%", "self-1%", "real-5%", "self-5%")


def train(folder, name, *settings):
    """results.json of a run; one that has been trained before is not trained again."""
    kept = folder / name / "results.json"
    if not kept.exists() or json.loads(kept.read_text())["status"] != "completed":
        lmtune.train(lmtune.load_config("train", [*settings, *QUIET, f"output={name}", "resume=auto"]))
    return json.loads(kept.read_text())


def write_texts(folder, data, english_bytes, portuguese_bytes):
    """Two data sets by name: english, the beginning of WikiText-2, and portuguese, beginnings of works of Machado de Assis."""
    with gzip.open(data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        works = [json.loads(line)["text"][:20_000] for line in lines]
    rows, size = [], 0
    for text in works:
        if size < portuguese_bytes:
            rows.append(json.dumps({"text": text}))
            size += len(text.encode())
    (folder / "portuguese.jsonl").write_text("\n".join(rows), encoding="utf-8")
    groups = folder / "conf" / "data"
    groups.mkdir(parents=True, exist_ok=True)
    source = data / "wikitext-2" / "train.txt.gz"
    (groups / "english.yaml").write_text(
        f"files: {source}\ndocuments: wikitext\nmax_bytes: {english_bytes}\nvalidation_fraction: 0.15\nblock_size: 128\n"
    )
    (groups / "portuguese.yaml").write_text("files: portuguese.jsonl\nlanguage: pt\nblock_size: 128\n")


def run_arm(folder, arm, seed, steps, rate, most, rows):
    kind, _, budget = arm.partition("-")
    kept = ["forgetting.on=english", f"forgetting.budget={budget}", f"forgetting.most={most}"]
    old = float(budget.removesuffix("%")) / 100 if kind == "fixed" else 0
    settings = {
        "plain": ["eval_data=[english]"],
        "start": ["eval_data=[english]"],
        "fixed": ["eval_data=[english]", f"data.mix={{portuguese: {1 - old:g}, english: {old:g}}}"],
        "real": kept,
        "self": [*kept, "forgetting.replay=self"],
    }[kind]
    name = f"{arm}-{most}-{rate:g}-{steps}-{rows}-{seed}".replace("%", "")
    with decay_to_start(float(budget)) if kind == "start" else contextlib.nullcontext():
        return train(
            folder, name, "data=portuguese", "model.path=source", *settings, f"seed={seed}", "eval.max_tokens=8000",
            f"training.max_steps={round(steps / (1 - old))}", f"training.per_device_train_batch_size={rows}",
            f"training.learning_rate={rate}",
        )  # fmt: skip


def describe(results):
    """(Portuguese bits per byte, rise of English, share of old text, tokens of old text, seconds of training)."""
    english = results["eval"]["english"]["while_training"]
    rise = english["after"]["bits_per_byte"] / english["before"]["bits_per_byte"] - 1
    found = results.get("forgetting", {"share": 0.0, "tokens": 0})
    target = results["eval"]["portuguese"]["bits_per_byte"]
    return target, rise, found["share"], found["tokens"], results["train"]["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate on Portuguese")
    parser.add_argument("--most", default="50%", help="forgetting.most")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=8, help="of a step, of 128 tokens each")
    parser.add_argument("--folder", type=Path, default=Path("outputs/forgetting"))
    parser.add_argument("--english-bytes", type=int, default=400_000)
    parser.add_argument("--portuguese-bytes", type=int, default=400_000)
    arguments = parser.parse_args()
    folder, data = arguments.folder.resolve(), Path(os.environ["LMTUNE_TEST_DATA"])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    write_texts(folder, data, arguments.english_bytes, arguments.portuguese_bytes)
    source = train(
        folder,
        "source",
        "data=english",
        "model=gpt2-tiny",
        *SHAPE,
        "training.num_train_epochs=2",
        "eval.max_tokens=10000",
    )
    print(
        f"source: {source['train']['tokens']:,} tokens, {source['eval']['english']['bits_per_byte']:.4f} bits per byte"
    )
    print(
        "| arm | Portuguese, bits per byte | English, rise (least to most) | kept | old text | tokens of it | seconds |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for arm in arguments.arms:
        given = (arguments.steps, arguments.rate, arguments.most, arguments.rows)
        runs = [run_arm(folder, arm, seed, *given) for seed in arguments.seeds]
        targets, rises, shares, tokens, seconds = zip(*map(describe, runs), strict=True)
        kept = sum(bool(run["forgetting"]["kept"]) for run in runs) if arm.startswith(("real", "self")) else "-"
        print(
            f"| {arm} | {statistics.mean(targets):.4f} | {statistics.mean(rises):+.2%} ({min(rises):+.2%} to {max(rises):+.2%}) | "
            f"{kept} | {statistics.mean(shares):.1%} | {statistics.mean(tokens):,.0f} | {statistics.median(seconds):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
