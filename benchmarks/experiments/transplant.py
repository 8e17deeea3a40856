"""How rows of new tokens begin (model.transplant=) when a small English GPT-2 moves to a Portuguese vocabulary.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/transplant.py --seeds 1 2 3

The model is gpt2-tiny at half its width; it learns English from 1 MB of WikiText-2. The vocabulary is learned from works of Machado
de Assis, on which the model is then trained for 300 steps of 512 tokens; other works are held out. The donor that omp looks new
tokens up in is a model of the same shape, trained on 0.5 MB of other Portuguese novels.

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

from rates import write_once

from lmtune.cli import main as cli

ENTRIES = 2048
"""Of the English vocabulary, and of the Portuguese one that it gives way to."""
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
        write_once(Path(f"pt-{name}.jsonl"), "\n".join(rows))
    return ("data.files=pt-train.jsonl", "data.validation_files=pt-held-out.jsonl")


def learn(text, entries, name):
    return lmtune("tokenizer", *text, f"tokenizer.vocab_size={entries}", f"output={name}", "format=json")


def train(text, name, *settings):
    length = () if "training.max_steps=300" in settings else (f"training.num_train_epochs={EPOCHS}",)
    return lmtune("train", *text, *length, *settings, *QUIET, "data.name=pt", f"output={name}")


def build_source(data, max_bytes):
    """A model of English, with a vocabulary learned from the same text; says what it is worth."""
    file = data / "wikitext-2" / "train.txt.gz"
    english = (f"data.files={file}", "data.documents=wikitext", f"data.max_bytes={max_bytes}")
    learn(english, ENTRIES, "en")
    source = train(english, "source", *TINY, "model.tokenizer=en")
    (scores,) = source["eval"].values()
    print(f"source: {source['train']['tokens']:,} tokens of English, {scores['bits_per_byte']:.4f} bits per byte\n")


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


def begin(parser, folder, train_bytes=400_000):
    """(arguments, folder of the data, settings of the Portuguese text), in the folder that keeps what commands print."""
    parser.add_argument("--folder", type=Path, default=Path("outputs") / folder)
    parser.add_argument("--bytes", type=int, default=train_bytes, help="of Portuguese to learn from")
    parser.add_argument("--held-out-bytes", type=int, default=60_000)
    parser.add_argument("--english-bytes", type=int, default=1_000_000)
    arguments = parser.parse_args()
    data = Path(os.environ["LMTUNE_TEST_DATA"]).resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    return arguments, data, write_portuguese(data, arguments.bytes, arguments.held_out_bytes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments, data, text = begin(parser, "transplant")
    build_source(data, arguments.english_bytes)
    print("| rows begin by | step 0 | step 100 | step 200 | step 300 |")
    print("|---|---:|---:|---:|---:|")
    for method, curves in run_rows(data, text, arguments.seeds):
        cells = [render_spread([curve[step] for curve in curves]) for step in (0, 100, 200, 300)]
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
