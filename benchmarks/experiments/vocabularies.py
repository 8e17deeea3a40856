"""The vocabulary of a small GPT-2 that reads Portuguese: how many entries, and whose.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py sizes --seeds 1 2
    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py moves --seeds 1 2

Text and models are those of transplant.py beside this file. Bits per byte compare across vocabularies; tokens do not.

    sizes   from scratch, each with a vocabulary of its own of another size; the text is read twice
    moves   from one model that was trained on English, with its vocabulary, that extended, or one of the text's own; twice

What a command printed is kept in --folder, and it is not run again.
"""

import argparse
import json
import statistics
from pathlib import Path

from transplant import (
    ENTRIES,
    EPOCHS,
    SOURCE,
    TINY,
    begin,
    build_source,
    learn,
    lmtune,
    render_spread,
    train,
)

SIZES = (512, 1024, 2048, 4096, 8192)
EXTENSIONS = (512, 2048)


def run_sizes(text, seeds, sizes):
    """From scratch: (name, fit of the vocabulary, results of each seed)."""
    for entries in sizes:
        fit = learn(text, entries, f"pt-{entries}")["fit"]
        model = (*TINY, f"model.tokenizer=pt-{entries}")
        yield f"{entries:,}", fit, [train(text, f"size-{entries}-{seed}", *model, f"seed={seed}") for seed in seeds]


def run_moves(text, seeds):
    """From the English model: (name, fit of the vocabulary, results of each seed)."""
    arms = []
    for more in EXTENSIONS:
        account = lmtune("tokenizer", *text, "model.path=en", f"extend={more}", f"output=en-{more}", "format=json")
        added, unused = account["extends"]["added"], account["extends"]["unused"]
        name = f"English and {added:,} more ({unused:,} unused)"
        arms.append((name, account["fit"], (f"model.tokenizer=en-{more}", "model.transplant=fvt")))
    arms.insert(0, ("English, as it is", account["source"]["fit"], ()))
    for entries in (ENTRIES, 2 * ENTRIES):
        own = learn(text, entries, f"pt-{entries}")["fit"]
        arms.append((f"own {entries:,}", own, (f"model.tokenizer=pt-{entries}", "model.transplant=fvt")))
    for place, (name, fit, settings) in enumerate(arms):
        model = (*SOURCE, *settings)
        yield name, fit, [train(text, f"move-{place}-{seed}", *model, f"seed={seed}") for seed in seeds]


def print_table(rows):
    """A row for each vocabulary, as soon as its runs have ended."""
    lines = Path("pt-train.jsonl").read_text(encoding="utf-8").splitlines()
    megabytes = EPOCHS * sum(len(json.loads(line)["text"].encode()) for line in lines) / 1e6
    print(
        "| vocabulary | tokens a word | parameters | memory of a step, MB | bits per byte, before | after | "
        "tokens learned | CPU s for a MB |"
    )
    print("|---|" + "---:|" * 7)
    for name, fit, runs in rows:
        scores = [run["eval"]["pt"] for run in runs]
        before = statistics.mean(score["while_training"]["before"]["bits_per_byte"] for score in scores)
        start = runs[0]["starts"][0]
        print(
            f"| {name} | {fit['tokens_per_word']:.3f} | {start['parameters']:,} | {start['memory'] / 1e6:.1f} | {before:.3f} | "
            f"{render_spread([score['bits_per_byte'] for score in scores])} | {runs[0]['train']['tokens']:,} | "
            f"{statistics.median(run['cpu'] for run in runs) / megabytes:.1f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("sizes", "moves"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    arguments, data, text = begin(parser, "vocabularies")
    if arguments.part == "sizes":
        print_table(run_sizes(text, arguments.seeds, arguments.sizes))
        return
    build_source(data, arguments.english_bytes)
    print_table(run_moves(text, arguments.seeds))


if __name__ == "__main__":
    main()
