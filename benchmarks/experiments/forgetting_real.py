"""A real English model learns Portuguese: what a budget keeps of its English, replayed from its own text and from other English.

    LMTUNE_TEST_DATA=... LMTUNE_TEST_MODEL=... python benchmarks/experiments/forgetting_real.py --seeds 1 2

LMTUNE_TEST_MODEL is a folder with a pretrained English model; docs/experiments.md names the one that was used. The Portuguese is
novels of Machado de Assis, the English that is watched and that `real` replays articles (WikiText-2), of which others are held out.
Steps of 512 tokens, cosine; ten evaluations.

    plain      nothing is done against forgetting
    start-D    nothing, but the weights are pulled to those they began with (decay_to_start in small_corpus.py)
    real-B     forgetting.budget=B, articles
    self-B     forgetting.budget=B, text that the model writes before the first step
"""

import argparse
import contextlib
import json
import shutil
import statistics
from pathlib import Path

from rates import NO_CHECKPOINT, QUIET, begin_real, read_articles, read_change, read_works, write_text
from small_corpus import decay_to_start

import lmtune


def build_settings(arm, most):
    kind, _, budget = arm.partition("-")
    kept = ["forgetting.on=english", f"forgetting.budget={budget}", f"forgetting.most={most}"]
    return {
        "plain": ["eval_data=[english]"],
        "start": ["eval_data=[english]"],
        "real": kept,
        "self": [*kept, "forgetting.replay=self"],
    }[kind]


def train(model, arm, seed, arguments):
    """results.json of a run; one that has ended is not run again, and its weights are removed."""
    name = f"{arm}-{arguments.rate:g}-{arguments.steps}-{seed}".replace("%", "")
    kept = Path(name) / "results.json"
    if not kept.exists() or json.loads(kept.read_text())["status"] != "completed":
        settings = [
            "data=language", f"model.path={model}", f"seed={seed}", *build_settings(arm, arguments.most),
            f"training.max_steps={arguments.steps}", f"training.eval_steps={arguments.steps // 10}",
            f"training.learning_rate={arguments.rate}", "training.per_device_train_batch_size=4",
            "training.bf16=true", "eval.max_tokens=2500", *NO_CHECKPOINT, *QUIET, f"output={name}", "resume=auto",
        ]  # fmt: skip
        kind, _, strength = arm.partition("-")
        with decay_to_start(float(strength)) if kind == "start" else contextlib.nullcontext():
            lmtune.train(lmtune.load_config("train", settings))
        shutil.rmtree(Path(name) / "model")
    return json.loads(kept.read_text())


def describe(results):
    """(Portuguese before, and after; rise of English; share and tokens of old text; seconds)."""
    before, after = read_change(results["eval"]["language"]["while_training"])
    first, last = read_change(results["eval"]["english"]["while_training"])
    found = results.get("forgetting", {"share": 0.0, "tokens": 0})
    return before, after, last / first - 1, found["share"], found["tokens"], results["train"]["seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--arms", nargs="+", default=["plain", "real-1%", "self-1%"])
    parser.add_argument("--rate", type=float, default=4e-4, help="highest learning rate, one that harms the English")
    parser.add_argument("--most", default="50%", help="forgetting.most")
    parser.add_argument("--steps", type=int, default=120)
    arguments, data, model = begin_real(parser, "forgetting-real")
    write_text("english", read_articles(data), train_bytes=150_000)
    write_text("language", read_works(data), train_bytes=300_000)
    print("| arm | before | after | English, rise (least to most) | kept | old text | tokens of it | seconds |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for arm in arguments.arms:
        runs = [train(model, arm, seed, arguments) for seed in arguments.seeds]
        before, after, rises, shares, tokens, seconds = zip(*map(describe, runs), strict=True)
        kept = sum(bool(run["forgetting"]["kept"]) for run in runs) if "%" in arm else "-"
        print(
            f"| {arm} | {before[0]:.4f} | {statistics.mean(after):.4f} ({min(after):.4f} to {max(after):.4f}) | "
            f"{statistics.mean(rises):+.2%} ({min(rises):+.2%} to {max(rises):+.2%}) | {kept} | "
            f"{statistics.mean(shares):.1%} | {statistics.mean(tokens):,.0f} | {statistics.median(seconds):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
