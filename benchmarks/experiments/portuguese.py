"""A real English model learns Portuguese, with its own vocabulary and with one that was learned from the text.

    LMTUNE_TEST_DATA=... LMTUNE_TEST_MODEL=... python benchmarks/experiments/portuguese.py --steps 400
    ... --bytes 25000000 --entries 16384 --block 512 --rows 32 --rate 5e-4 --epochs 2                             on a GPU

LMTUNE_TEST_MODEL is a folder with a pretrained English model; docs/experiments.md names the one that was used. The text is novels
of the ELTeC collection; other novels are held out (novels), and sentences of news and encyclopaedias are scored besides (modern). A
step is 512 tokens unless --block and --rows say otherwise, of either vocabulary. What is printed: one row an evaluation, and
samples at the start and at the end.
"""

import argparse
import gzip
import json
from pathlib import Path

from rates import NO_CHECKPOINT, QUIET, begin_real, write_text
from transplant import learn

import lmtune

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


def train(model, name, asked, *settings):
    """The run folder of an arm."""
    if not (Path(name) / "results.json").exists():
        prompts = ",".join(f'"{prompt}"' for prompt in PROMPTS)
        length = f"training.num_train_epochs={asked.epochs}" if asked.epochs else f"training.max_steps={asked.steps}"
        arguments = [
            "data=novels", f"model.path={model}", "eval_data=[modern]", f"seed={asked.seed}", f"prompts=[{prompts}]",
            length, "training.eval_steps=0.25", *NO_CHECKPOINT, "eval.max_tokens=4000", f"data.block_size={asked.block}",
            f"training.learning_rate={asked.rate}", f"training.per_device_train_batch_size={asked.rows}",
            "training.bf16=true", "generation.max_new_tokens=40", *QUIET[1:], *settings, f"output={name}",
        ]  # fmt: skip
        lmtune.train(lmtune.load_config("train", arguments))
    return Path(name)


def read_rows(run):
    """Of each evaluation: epoch, step, seconds of training, the measures of COLUMNS, and bits per byte of modern text."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    for line in lines:
        if "eval_loss" in line:
            loss, accuracy, perplexity, bits = (line[f"eval_{column}"] for column in COLUMNS)
            yield (
                f"| {line['epoch']:.2f} | {line['step']} | {line['train_seconds']:.0f} | {loss:.4f} | {accuracy:.4f} | "
                f"{perplexity:.2f} | {bits:.4f} | {line['eval_modern_bits_per_byte']:.4f} |"
            )


def render_arm(name, run):
    """Rows of the table of one arm, and its samples at the first and the last step."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    yield f"\n{name}: {results['train']['seconds']:.0f} s, {results['train']['tokens']:,} tokens\n"
    yield (
        "| epoch | step | s | loss | accuracy | perplexity | bits per byte | modern, bits per byte |\n"
        + "|---:" * 8
        + "|"
    )
    yield from read_rows(run)
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    for sample in samples:
        if sample["step"] in (samples[0]["step"], samples[-1]["step"]):
            yield json.dumps(sample, ensure_ascii=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--epochs", type=float, help="instead of --steps")
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=1_500_000, help="of novels to learn from")
    parser.add_argument("--block", type=int, default=128)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--entries", type=int, default=8192, help="of the vocabulary that is learned from the text")
    parser.add_argument("--vocabularies", nargs="+", choices=["english", "own"], default=["english", "own"])
    arguments, data, model = begin_real(parser, "portuguese")
    write_text("novels", read_novels(data), train_bytes=arguments.bytes, held_out_bytes=30_000)
    write_text("modern", read_sentences(data), train_bytes=1_000, held_out_bytes=30_000)
    settings = {"english": (), "own": ("model.tokenizer=own", "model.transplant=fvt")}
    if "own" in arguments.vocabularies:
        learn(("data=novels",), arguments.entries, "own")
    for name in arguments.vocabularies:
        for line in render_arm(name, train(model, f"{name}-vocabulary", arguments, *settings[name])):
            print(line, flush=True)


if __name__ == "__main__":
    main()
