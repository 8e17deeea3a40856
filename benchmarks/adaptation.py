"""English to Portuguese with a small GPT-2 made on the spot: is the whole recipe worth it at an equal token budget?

    LMTUNE_TEST_DATA=... python benchmarks/adaptation.py --seeds 1 2 3

One source model is trained on WikiText-2. From it, on the same Portuguese text and with the same number of steps:

    recipe      the Portuguese vocabulary, embeddings moved (mean), layer groups in four phases
    recipe-fvt  the same, embeddings moved by fvt
    no-move     the same, embeddings drawn anew
    full        the Portuguese vocabulary, embeddings moved (mean), all parameters at once
    english     plain fine-tuning, the English vocabulary kept
    scratch     a new model with the Portuguese vocabulary

Everything runs through the commands of lmtune. Bits per byte of held-out Portuguese compare across vocabularies. The steps
are equal, and so is the number of tokens; a vocabulary that needs more tokens for a word sees less text.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SHAPE = {"model_type": "gpt2", "n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 128}
ENTRIES = 2048
SOURCE_RATE = 1e-3
PHASES = [
    {"epochs": 0.2, "groups": 1, "learning_rate": 2e-3},
    {"epochs": 0.2, "groups": 2, "learning_rate": 2e-3, "lowest_learning_rate": 2e-4},
    {"epochs": 0.2, "groups": 3, "learning_rate": 2e-3, "lowest_learning_rate": 2e-4},
    {"epochs": 0.4, "groups": 4, "learning_rate": 1e-3, "lowest_learning_rate": 1e-4},
]
QUIET = ["samples.enabled=false", "eval.max_tokens=20000", "training.eval_steps=0.25", "format=json"]
ARMS = ("recipe", "no-move", "english", "scratch", "recipe-fvt", "full")


def lmtune(folder, command, *arguments):
    """The JSON that a command prints; one that has been run before is not run again."""
    kept = folder / f"{dict(a.split('=', 1) for a in arguments)['output'].rsplit('/', 1)[-1]}.json"
    if not kept.exists():
        done = subprocess.run(
            [sys.executable, "-m", "lmtune", command, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        kept.write_text(done.stdout, encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def write_portuguese(folder, data, max_bytes):
    """Works of Machado de Assis as data.files: beginnings of every other one to learn from, of those between to hold out."""
    with gzip.open(data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        works = [json.loads(line)["text"] for line in lines]
    for name, chosen, limit, cut in (
        ("train", works[::2], max_bytes, 40_000),
        ("held-out", works[1::2], 80_000, 8_000),
    ):
        size, rows = 0, []
        for text in chosen:
            if size < limit:
                rows.append(json.dumps({"text": text[:cut]}))
                size += len(text[:cut].encode())
        (folder / f"pt-{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return ["data.files=pt-train.jsonl", "data.validation_files=pt-held-out.jsonl", "data.language=pt"]


def build_source(folder, data, max_bytes):
    """A small GPT-2 trained on English, with a vocabulary learned from the same text."""
    english = [
        f"data.files={data / 'wikitext-2' / 'train.txt.gz'}",
        "data.documents=wikitext",
        f"data.max_bytes={max_bytes}",
    ]
    lmtune(
        folder,
        "tokenizer",
        *english,
        f"tokenizer.vocab_size={ENTRIES}",
        "tokenizer.max_length=128",
        "output=en",
        "format=json",
    )
    return lmtune(
        folder, "train", *english, *scratch("en"), *QUIET, f"training.learning_rate={SOURCE_RATE}", "training.num_train_epochs=2",
        "output=source",
    )  # fmt: skip


def scratch(tokenizer):
    shape = [f"model.config.{key}={value}" for key, value in SHAPE.items()]
    return ["model=hub", "model.init=scratch", *shape, f"model.tokenizer={tokenizer}"]


def write_without_move(folder):
    """The source model with the Portuguese vocabulary and embeddings drawn anew."""
    model = AutoModelForCausalLM.from_pretrained(folder / "source" / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "pt")
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=model.config.initializer_range)
    model.save_pretrained(folder / "anew")
    tokenizer.save_pretrained(folder / "anew")


def run_arm(folder, arm, seed, text, steps, rate):
    phases = ",".join("{" + ",".join(f"{key}: {value}" for key, value in phase.items()) + "}" for phase in PHASES)
    gradual = ["finetune=gradual", f"finetune.phases=[{phases}]"]
    plain = [f"training.learning_rate={rate}", f"training.max_steps={steps}"]
    moved = ["model.path=source/model", "model.tokenizer=pt"]
    settings = {
        "recipe": [*moved, "model.transplant=mean", *gradual],
        "recipe-fvt": [*moved, "model.transplant=fvt", *gradual],
        "no-move": ["model.path=anew", *gradual],
        "full": [*moved, "model.transplant=mean", *plain],
        "english": ["model.path=source/model", *plain],
        "scratch": [*scratch("pt"), *plain],
    }[arm]
    return lmtune(folder, "train", *text, *settings, *QUIET, f"seed={seed}", f"output={arm}-{seed}", "data.name=pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate of the arms without phases")
    parser.add_argument("--folder", type=Path, default=Path("outputs/adaptation"))
    parser.add_argument("--english-bytes", type=int, default=1_500_000)
    parser.add_argument("--portuguese-bytes", type=int, default=500_000)
    arguments = parser.parse_args()
    folder, data = arguments.folder.resolve(), Path(os.environ["LMTUNE_TEST_DATA"])
    folder.mkdir(parents=True, exist_ok=True)
    source = build_source(folder, data, arguments.english_bytes)
    text = write_portuguese(folder, data, arguments.portuguese_bytes)
    asked = [*text, f"tokenizer.vocab_size={ENTRIES}", "tokenizer.max_length=128", "output=pt", "format=json"]
    fit = lmtune(folder, "tokenizer", *asked, "model.path=en")
    write_without_move(folder)
    print(
        f"source: {source['train']['tokens']:,} tokens of English, {source['eval']['files']['bits_per_byte']:.4f} bits per byte"
    )
    ours, theirs = fit["fit"]["tokens_per_word"], fit["source"]["fit"]["tokens_per_word"]
    print(f"tokens per Portuguese word: {ours:.3f} learned, {theirs:.3f} English")
    rows = {arm: [] for arm in arguments.arms}
    for seed in arguments.seeds:
        steps = run_arm(folder, "recipe", seed, text, 0, 0)["train"]["steps"]
        for arm in arguments.arms:
            results = run_arm(folder, arm, seed, text, steps, arguments.rate)
            (measures,) = results["eval"].values()
            rows[arm].append(measures["bits_per_byte"])
            print(
                f"seed {seed} {arm:<12} {steps} steps {results['train']['tokens']:,} tokens {rows[arm][-1]:.4f}",
                flush=True,
            )
    print("\n| arm | bits per byte, mean | least | most |\n|---|---:|---:|---:|")
    for arm, values in rows.items():
        print(f"| {arm} | {statistics.mean(values):.4f} | {min(values):.4f} | {max(values):.4f} |")


if __name__ == "__main__":
    main()
