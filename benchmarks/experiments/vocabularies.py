"""The vocabulary of a small GPT-2 that reads Portuguese: how many entries, whose, and how rows for new ones begin.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py sizes --seeds 1 2 3
    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py moves --seeds 1 2 3
    LMTUNE_TEST_DATA=... python benchmarks/experiments/vocabularies.py rows --seeds 1 2 3

All read the same Portuguese, works of Machado de Assis; other works are held out. The model is gpt2-tiny at half its width.
Bits per byte compare across vocabularies; tokens do not.

    sizes   from scratch, each with a vocabulary of its own of another size; the text is read twice
    moves   from one model that was trained on English, with its vocabulary, that extended, or one of the text's own; twice
    rows    from that model to the vocabulary of a small Portuguese one, by each model.transplant=; 300 steps of 512 tokens

Every command runs in this process, since starting one takes longer than some of them. What one printed is kept in --folder, and
it is not run again.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import statistics
import time
from pathlib import Path

from lmtune.cli import main as cli

SIZES = (512, 1024, 2048, 4096, 8192)
ENTRIES = 2048
"""Of the English vocabulary, and of the Portuguese one that the English model moves to."""
EXTENSIONS = (512, 2048)
EPOCHS = 2
TINY = ("model=gpt2-tiny", "model.config.n_embd=64", "model.config.n_positions=128")
SOURCE = ("model.path=source/model", "training.learning_rate=1e-3")
QUIET = ("samples.enabled=false", "report.enabled=false", "eval.max_tokens=0", "format=json")


def lmtune(command, *arguments):
    """The JSON that a command prints, and the CPU seconds that it took (`cpu`)."""
    name = dict(argument.split("=", 1) for argument in arguments)["output"]
    kept = Path(f"{name}.json")
    if not kept.exists():
        begun, printed = time.process_time(), io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = cli.run([command, *arguments])
        if code:
            raise SystemExit(f"lmtune {command} output={name} ended with {code}")
        account = {**json.loads(printed.getvalue()), "cpu": time.process_time() - begun}
        kept.write_text(json.dumps(account), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def write_portuguese(data, train_bytes, held_out_bytes=60_000):
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
        Path(f"pt-{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return ("data.files=pt-train.jsonl", "data.validation_files=pt-held-out.jsonl")


def learn(text, entries, name):
    return lmtune("tokenizer", *text, f"tokenizer.vocab_size={entries}", f"output={name}", "format=json")


def train(text, name, *settings):
    length = () if "training.max_steps=300" in settings else (f"training.num_train_epochs={EPOCHS}",)
    return lmtune("train", *text, *length, *settings, *QUIET, "data.name=pt", f"output={name}")


def build_source(data, max_bytes):
    """A model of English, with a vocabulary learned from the same text."""
    file = data / "wikitext-2" / "train.txt.gz"
    english = (f"data.files={file}", "data.documents=wikitext", f"data.max_bytes={max_bytes}")
    learn(english, ENTRIES, "en")
    return train(english, "source", *TINY, "model.tokenizer=en")


def run_sizes(text, seeds, sizes):
    """From scratch: (name, fit of the vocabulary, results of each seed)."""
    for entries in sizes:
        fit = learn(text, entries, f"pt-{entries}")["fit"]
        model = (*TINY, f"model.tokenizer=pt-{entries}")
        yield f"{entries:,}", fit, [train(text, f"size-{entries}-{seed}", *model, f"seed={seed}") for seed in seeds]


def run_moves(text, seeds):
    """From the English model: (name, fit of the vocabulary, results of each seed)."""
    own = learn(text, ENTRIES, f"pt-{ENTRIES}")["fit"]
    arms = []
    for more in EXTENSIONS:
        account = lmtune("tokenizer", *text, "model.path=en", f"extend={more}", f"output=en-{more}", "format=json")
        added, unused = account["extends"]["added"], account["extends"]["unused"]
        name = f"English and {added:,} more ({unused:,} unused)"
        arms.append((name, account["fit"], (f"model.tokenizer=en-{more}", "model.transplant=fvt")))
    arms.insert(0, ("English, as it is", account["source"]["fit"], ()))
    arms.append((f"own {ENTRIES:,}", own, (f"model.tokenizer=pt-{ENTRIES}", "model.transplant=fvt")))
    for place, (name, fit, settings) in enumerate(arms):
        model = (*SOURCE, *settings)
        yield name, fit, [train(text, f"move-{place}-{seed}", *model, f"seed={seed}") for seed in seeds]


def run_rows(data, text, seeds):
    """From the English model, the vocabulary of a Portuguese one: (how rows begin, bits per byte by step, of each seed)."""
    learn(text, ENTRIES, f"pt-{ENTRIES}")
    novels = (f"data.files={data / 'pt-wiki' / 'eltec-por.jsonl.gz'}", "data.max_bytes=500000")
    train(novels, "donor", *TINY, f"model.tokenizer=pt-{ENTRIES}")
    steps = ("training.max_steps=300", "training.eval_steps=100", "training.per_device_train_batch_size=4")
    for method in ("mean", "fvt", "omp"):
        asked = (*SOURCE, "model.tokenizer=donor/model", f"model.transplant={method}", *steps)
        for seed in seeds:
            train(text, f"rows-{method}-{seed}", *asked, f"seed={seed}")
        yield method, [read_steps(Path(f"rows-{method}-{seed}/metrics.jsonl")) for seed in seeds]


def read_steps(file):
    """Bits per byte by step."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["eval_bits_per_byte"] for line in lines if "eval_bits_per_byte" in line}


def render_spread(values):
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def print_table(rows):
    read = EPOCHS * sum(
        len(json.loads(line)["text"].encode())
        for line in Path("pt-train.jsonl").read_text(encoding="utf-8").splitlines()
    )
    print("| vocabulary | tokens a word | bits per byte, untrained | bits per byte | tokens | CPU s for a MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, fit, runs in rows:
        bits = [run["eval"]["pt"]["bits_per_byte"] for run in runs]
        begun = statistics.mean(run["eval"]["pt"]["while_training"]["before"]["bits_per_byte"] for run in runs)
        seconds = statistics.median(run["cpu"] for run in runs) / read * 1e6
        tokens = runs[0]["train"]["tokens"]
        print(
            f"| {name} | {fit['tokens_per_word']:.3f} | {begun:.3f} | {render_spread(bits)} | {tokens:,} | {seconds:.1f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("sizes", "moves", "rows"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--folder", type=Path, default=Path("outputs/vocabularies"))
    parser.add_argument("--bytes", type=int, default=400_000, help="of Portuguese to learn from")
    parser.add_argument("--english-bytes", type=int, default=1_000_000)
    arguments = parser.parse_args()
    data = Path(os.environ["LMTUNE_TEST_DATA"]).resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    text = write_portuguese(data, arguments.bytes)
    if arguments.part == "sizes":
        print_table(run_sizes(text, arguments.seeds, arguments.sizes))
        return
    source = build_source(data, arguments.english_bytes)
    (english,) = source["eval"].values()
    print(f"source: {source['train']['tokens']:,} tokens of English, {english['bits_per_byte']:.4f} bits per byte\n")
    if arguments.part == "moves":
        print_table(run_moves(text, arguments.seeds))
        return
    print("| rows begin by | step 0 | step 100 | step 200 | step 300 |")
    print("|---|---:|---:|---:|---:|")
    for method, curves in run_rows(data, text, arguments.seeds):
        cells = [render_spread([curve[step] for curve in curves]) for step in (0, 100, 200, 300)]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
