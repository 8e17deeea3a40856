"""The vocabulary of a small GPT-2 that reads Portuguese: how many entries, whose, and how rows for new ones begin.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py sizes --seeds 1 2 3
    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py moves --seeds 1 2 3
    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py rows --seeds 1 2 3

All read the same Portuguese (works of Machado de Assis; other works are held out) in the shape of model=gpt2-tiny, all but rows
the same number of times. Bits per byte compare across vocabularies; tokens do not.

    sizes   from scratch, each with a vocabulary of its own of another size
    moves   from one model that was trained on English, with its vocabulary, that extended, or one of the text's own
    rows    from that model to the vocabulary of a small Portuguese one, by each model.transplant=: 300 steps of 1,024 tokens

What a command printed is kept in --folder, and not run again.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

SIZES = (512, 1024, 2048, 4096, 8192, 16384)
ENTRIES = 4096
"""Of the English vocabulary, and of the Portuguese one that the English model moves to."""
EXTENSIONS = (1024, 4096)
EPOCHS = 2
SOURCE = ("model.path=source/model", "training.learning_rate=1e-3")
QUIET = ("samples.enabled=false", "report.enabled=false", "eval.max_tokens=0", "format=json")


def lmtune(folder, command, *arguments):
    """The JSON that a command prints, and its largest resident size in bytes (`peak`)."""
    name = dict(argument.split("=", 1) for argument in arguments)["output"]
    kept = folder / f"{name}.json"
    if not kept.exists():
        with subprocess.Popen(
            [sys.executable, "-m", "lmtune", command, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
        ) as process:
            printed = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"lmtune {command} output={name} ended with {process.returncode}")
        kept.write_text(json.dumps({**json.loads(printed), "peak": usage.ru_maxrss * 1024}), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def write_portuguese(folder, data, train_bytes, held_out_bytes=150_000):
    """Beginnings of every other work to learn from, and of those between to hold out, as settings of data=."""
    with gzip.open(data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        works = [json.loads(line)["text"] for line in lines]
    for name, chosen, limit, cut in (
        ("train", works[::2], train_bytes, 100_000),
        ("held-out", works[1::2], held_out_bytes, 10_000),
    ):
        size, rows = 0, []
        for text in chosen:
            if size < limit:
                rows.append(json.dumps({"text": text[:cut]}))
                size += len(text[:cut].encode())
        (folder / f"pt-{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return ("data.files=pt-train.jsonl", "data.validation_files=pt-held-out.jsonl", "data.language=pt", "data.name=pt")


def learn(folder, text, entries, name, *more):
    return lmtune(folder, "tokenizer", *text, f"tokenizer.vocab_size={entries}", f"output={name}", "format=json", *more)


def build_source(folder, data, max_bytes):
    """A model of English, with a vocabulary learned from the same text."""
    english = (
        f"data.files={data / 'wikitext-2' / 'train.txt.gz'}", "data.documents=wikitext", f"data.max_bytes={max_bytes}",
    )  # fmt: skip
    learn(folder, english, ENTRIES, "en")
    settings = ("model=gpt2-tiny", "model.tokenizer=en", f"training.num_train_epochs={EPOCHS}", "output=source")
    return lmtune(folder, "train", *english, *settings, *QUIET)


def train(folder, text, name, *settings):
    length = () if "training.max_steps=300" in settings else (f"training.num_train_epochs={EPOCHS}",)
    return lmtune(folder, "train", *text, *length, *settings, *QUIET, f"output={name}")


def run_sizes(folder, text, seeds, sizes):
    """From scratch: (name, fit of the vocabulary, results of each seed)."""
    for entries in sizes:
        fit = learn(folder, text, entries, f"pt-{entries}")["fit"]
        model = ("model=gpt2-tiny", f"model.tokenizer=pt-{entries}")
        yield (
            f"{entries:,}",
            fit,
            [train(folder, text, f"size-{entries}-{seed}", *model, f"seed={seed}") for seed in seeds],
        )


def run_moves(folder, text, seeds):
    """From the English model: (name, fit of the vocabulary, results of each seed)."""
    own = learn(folder, text, ENTRIES, f"pt-{ENTRIES}")["fit"]
    arms = []
    for more in EXTENSIONS:
        asked = (*text, "model.path=en", f"extend={more}", f"output=en-{more}", "format=json")
        account = lmtune(folder, "tokenizer", *asked)
        added, unused = account["extends"]["added"], account["extends"]["unused"]
        name = f"English and {added:,} more ({unused:,} unused)"
        arms.append((name, account["fit"], (f"model.tokenizer=en-{more}", "model.transplant=fvt")))
    arms.insert(0, ("English, as it is", account["source"]["fit"], ()))
    arms.append((f"own {ENTRIES:,}", own, (f"model.tokenizer=pt-{ENTRIES}", "model.transplant=fvt")))
    for place, (name, fit, settings) in enumerate(arms):
        model = (*SOURCE, *settings)
        yield name, fit, [train(folder, text, f"move-{place}-{seed}", *model, f"seed={seed}") for seed in seeds]


def run_rows(folder, data, text, seeds):
    """From the English model, the vocabulary of a Portuguese one: (how rows begin, bits per byte by step, of each seed)."""
    learn(folder, text, ENTRIES, f"pt-{ENTRIES}")
    novels = (f"data.files={data / 'pt-wiki' / 'eltec-por.jsonl.gz'}", "data.max_bytes=1000000", "data.name=novels")
    train(folder, novels, "donor", "model=gpt2-tiny", f"model.tokenizer=pt-{ENTRIES}")
    steps = ("training.max_steps=300", "training.eval_steps=100", "training.per_device_train_batch_size=4")
    for method in ("mean", "fvt", "omp"):
        asked = (*SOURCE, "model.tokenizer=donor/model", f"model.transplant={method}", *steps)
        for seed in seeds:
            train(folder, text, f"rows-{method}-{seed}", *asked, f"seed={seed}")
        yield method, [read_steps(folder / f"rows-{method}-{seed}" / "metrics.jsonl") for seed in seeds]


def read_steps(file):
    """Bits per byte by step."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["eval_bits_per_byte"] for line in lines if "eval_bits_per_byte" in line}


def render_spread(values):
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def render_row(name, fit, runs, read):
    """A line of the table. read: bytes that a run reads."""
    bits = [run["eval"]["pt"]["bits_per_byte"] for run in runs]
    begun = runs[0]["eval"]["pt"]["while_training"]["before"]["bits_per_byte"]
    seconds = statistics.median(run["train"]["seconds"] for run in runs)
    peak = statistics.median(run["peak"] for run in runs)
    return (
        f"| {name} | {fit['tokens_per_word']:.3f} | {begun:.3f} | {render_spread(bits)} "
        f"| {runs[0]['train']['tokens']:,} | {read / seconds / 1e3:.1f} | {runs[0]['train']['tokens'] / seconds:,.0f} "
        f"| {peak / 1e6:,.0f} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("sizes", "moves", "rows"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--folder", type=Path, default=Path("outputs/vocabularies"))
    parser.add_argument("--bytes", type=int, default=500_000, help="of Portuguese to learn from")
    parser.add_argument("--english-bytes", type=int, default=1_500_000)
    arguments = parser.parse_args()
    folder, data = arguments.folder.resolve(), Path(os.environ["LMTUNE_TEST_DATA"])
    folder.mkdir(parents=True, exist_ok=True)
    text = write_portuguese(folder, data, arguments.bytes)
    if arguments.part == "sizes":
        print_table(folder, run_sizes(folder, text, arguments.seeds, arguments.sizes))
        return
    source = build_source(folder, data, arguments.english_bytes)
    (english,) = source["eval"].values()
    print(f"source: {source['train']['tokens']:,} tokens of English, {english['bits_per_byte']:.4f} bits per byte\n")
    if arguments.part == "moves":
        print_table(folder, run_moves(folder, text, arguments.seeds))
        return
    print("| rows begin by | step 0 | step 100 | step 200 | step 300 |")
    print("|---|---:|---:|---:|---:|")
    for method, curves in run_rows(folder, data, text, arguments.seeds):
        cells = [render_spread([curve[step] for curve in curves]) for step in (0, 100, 200, 300)]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


def print_table(folder, rows):
    lines = (folder / "pt-train.jsonl").read_text(encoding="utf-8").splitlines()
    read = EPOCHS * sum(len(json.loads(line)["text"].encode()) for line in lines)
    print(
        "| vocabulary | tokens a word | bits per byte, untrained | bits per byte | tokens | kB/s | tokens/s | peak MB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, fit, runs in rows:
        print(render_row(name, fit, runs, read), flush=True)


if __name__ == "__main__":
    main()
