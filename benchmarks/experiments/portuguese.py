"""A real English model learns Portuguese, with its own vocabulary and with one that was learned from the text.

    LMTUNE_TEST_DATA=... LMTUNE_TEST_MODEL=... python benchmarks/experiments/portuguese.py --steps 400

LMTUNE_TEST_MODEL is a folder with a pretrained English model; docs/experiments.md names the one that was used. The text is novels
of the ELTeC collection; other novels are held out (novels), and sentences of news and encyclopaedias are scored besides (modern). A
step is 512 tokens, of either vocabulary. What is printed: one row an evaluation, and samples at the start and at the end.
"""

import argparse
import gzip
import json
from pathlib import Path

from rates import NO_CHECKPOINT, QUIET, begin_real, write_text
from transplant import learn

import lmtune

ENTRIES = 8192
PROMPTS = ("Era uma vez", "Quem era Jim Henson? Jim Henson era um", "No Brasil, a maior parte da população")
COLUMNS = ("loss", "accuracy", "perplexity", "bits_per_byte")


def read_novels(data):
    """Pieces of 10,000 characters, of one novel after the other in turn."""
    with gzip.open(data / "pt-wiki" / "eltec-por.jsonl.gz", "rt", encoding="utf-8") as lines:
        novels = [json.loads(line)["text"] for line in lines]
    for start in range(20_000, 320_000, 10_000):
        for novel in novels[3:] if start > 20_000 else novels[:3]:
            if piece := novel[start : start + 10_000]:
                yield piece


def read_sentences(data):
    with gzip.open(data / "pt-wiki" / "ud-pud.txt.gz", "rt", encoding="utf-8") as lines:
        return [line.strip() for line in lines if line.strip()]


def train(model, name, steps, rate, seed, *settings):
    """The run folder of an arm."""
    if not (Path(name) / "results.json").exists():
        prompts = ",".join(f'"{prompt}"' for prompt in PROMPTS)
        every = [f"training.eval_steps={steps // 4}", *NO_CHECKPOINT, "eval.max_tokens=4000"]
        arguments = [
            "data=novels", f"model.path={model}", "eval_data=[modern]", f"seed={seed}", f"prompts=[{prompts}]",
            f"training.max_steps={steps}", f"training.learning_rate={rate}", "training.per_device_train_batch_size=4",
            "training.bf16=true", "generation.max_new_tokens=40", *every, *QUIET[1:], *settings, f"output={name}",
        ]  # fmt: skip
        lmtune.train(lmtune.load_config("train", arguments))
    return Path(name)


def read_curve(run, name):
    """Of a set, by step: the measures of COLUMNS."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        (line["step"], [line[f"{name}_{column}"] for column in COLUMNS]) for line in lines if f"{name}_loss" in line
    ]


def render_arm(name, run):
    """Rows of the table of one arm, and its samples at the first and the last step."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    yield f"\n{name}: {results['train']['seconds']:.0f} s, {results['train']['tokens']:,} tokens\n"
    yield "| step | loss | accuracy | perplexity | bits per byte | modern, bits per byte |\n|---:|---:|---:|---:|---:|---:|"
    modern = dict(read_curve(run, "eval_modern"))
    for step, (loss, accuracy, perplexity, bits) in read_curve(run, "eval"):
        yield f"| {step} | {loss:.4f} | {accuracy:.4f} | {perplexity:.2f} | {bits:.4f} | {modern[step][-1]:.4f} |"
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    for sample in samples:
        if sample["step"] in (samples[0]["step"], samples[-1]["step"]):
            yield json.dumps(sample, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=1)
    arguments, data, model = begin_real(parser, "portuguese")
    write_text("novels", read_novels(data), train_bytes=1_500_000, held_out_bytes=30_000)
    write_text("modern", read_sentences(data), train_bytes=1_000, held_out_bytes=30_000)
    learn(("data=novels",), ENTRIES, "own")
    asked = (arguments.steps, arguments.rate, arguments.seed)
    for name, settings in (("english", ()), ("own", ("model.tokenizer=own", "model.transplant=fvt"))):
        for line in render_arm(name, train(model, f"{name}-vocabulary", *asked, *settings)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
