"""The highest learning rate that a pretrained model of 135M parameters wants for a new language and for a new field.

    LMTUNE_TEST_DATA=... LMTUNE_TEST_MODEL=... python benchmarks/experiments/rates.py --seeds 1 2 --rates 5e-5 1e-4 2e-4 4e-4

LMTUNE_TEST_MODEL is a folder with a pretrained English model; docs/experiments.md names the one that was used. From it, 60 steps of
four rows of 128 tokens each, cosine, on one of two texts:

    language   novels of Machado de Assis
    field      abstracts of Brazilian articles on health (the language is new as well)

and after it bits per byte of held-out text of the same kind, and of English articles (WikiText-2). Seeds change the order of the
rows.
A run that has ended is not run again; its weights are removed, since each set takes half a gigabyte.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import statistics
from pathlib import Path

import lmtune

QUIET = ["samples.enabled=false", "report.enabled=false"]
NO_CHECKPOINT = ["training.save_strategy=no", "training.load_best_model_at_end=false"]


def read_works(data):
    with gzip.open(data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"][2_000:12_000] for line in lines]


def read_abstracts(data):
    with gzip.open(data / "bio" / "scielo-titles-abstracts.txt.gz", "rt", encoding="utf-8") as lines:
        return [line.strip() for line in lines if len(line) > 500]


def read_articles(data):
    """English as it is written (not the tokenized form of the benchmark): a heading between single = opens an article."""
    with gzip.open(data / "wikitext-2" / "test.raw.txt.gz", "rt", encoding="utf-8") as lines:
        articles = re.split(r"^ = [^=].*\n", lines.read(), flags=re.MULTILINE)
    return [article.strip() for article in articles if article.strip()]


TEXTS = {"language": read_works, "field": read_abstracts}


def write_text(name, documents, train_bytes, held_out_bytes=10_000):
    """A data set by name: documents to hold out, then others to learn from, all of them where they are fewer than asked for."""
    documents = iter(documents)
    for side, wanted in (("held-out", held_out_bytes), ("train", train_bytes)):
        rows, size = [], 0
        while size < wanted and (document := next(documents, None)) is not None:
            rows.append(document[: wanted - size])
            size += len(rows[-1].encode())
        write_once(Path(f"{name}-{side}.jsonl"), "\n".join(json.dumps({"text": row}) for row in rows))
    groups = Path("conf/data")
    groups.mkdir(parents=True, exist_ok=True)
    settings = f"files: {name}-train.jsonl\nvalidation_files: {name}-held-out.jsonl\nblock_size: 128\n"
    write_once(groups / f"{name}.yaml", settings)


def write_once(file, content):
    """A file that has the content is left alone, since a run beside this one may be reading it."""
    if not file.exists() or file.read_text(encoding="utf-8") != content:
        file.write_text(content, encoding="utf-8")


def train(model, text, rate, seed, steps, rows):
    """(of the text, of English): each (before, after) in bits per byte."""
    name = f"{text}-{rate:g}-{steps}-{rows}-{seed}"
    kept = Path(name) / "results.json"
    if not kept.exists() or json.loads(kept.read_text())["status"] != "completed":
        settings = [
            f"data={text}", f"model.path={model}", "eval_data=[english]", f"seed={seed}",
            f"training.max_steps={steps}", f"training.eval_steps={steps}", f"training.learning_rate={rate}",
            f"training.per_device_train_batch_size={rows}", "training.bf16=true", "eval.max_tokens=4000",
            *NO_CHECKPOINT, *QUIET, f"output={name}", "resume=auto",
        ]  # fmt: skip
        lmtune.train(lmtune.load_config("train", settings))
        shutil.rmtree(Path(name) / "model")
    scores = json.loads(kept.read_text())["eval"]
    return [read_change(scores[kind]["while_training"]) for kind in (text, "english")]


def read_change(scores):
    return scores["before"]["bits_per_byte"], scores["after"]["bits_per_byte"]


def render_row(rate, changes):
    """`changes` by seed, as `train` gives them."""
    cells = []
    for of_kind in zip(*changes, strict=True):
        after = [change[1] for change in of_kind]
        cells += [f"{of_kind[0][0]:.4f}", f"{statistics.mean(after):.4f} ({min(after):.4f} to {max(after):.4f})"]
    return f"| {rate:g} | {' | '.join(cells)} |"


def begin_real(parser, folder):
    """(arguments, folder of the data, that of the real model), in the folder that keeps the runs."""
    parser.add_argument("--folder", type=Path, default=Path("outputs") / folder)
    arguments = parser.parse_args()
    data, model = (Path(os.environ[name]).resolve() for name in ("LMTUNE_TEST_DATA", "LMTUNE_TEST_MODEL"))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    return arguments, data, model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS))
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-5, 1e-4, 2e-4, 4e-4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=4, help="of 128 tokens in a step")
    parser.add_argument("--train-bytes", type=int, default=200_000)
    arguments, data, model = begin_real(parser, "rates")
    write_text("english", read_articles(data), train_bytes=1_000)  # only the text held out is used
    for text in arguments.texts:
        write_text(text, TEXTS[text](data), arguments.train_bytes)
        print(f"\n| rate | {text}, before | after | English, before | after |\n|---:|---:|---:|---:|---:|", flush=True)
        for rate in arguments.rates:
            changes = [train(model, text, rate, seed, arguments.steps, arguments.rows) for seed in arguments.seeds]
            print(render_row(rate, changes), flush=True)


if __name__ == "__main__":
    main()
