"""Text to blocks: lmtune against the documented run_clm pattern, on the same loaded dataset.

    LMTUNE_TEST_DATA=... python benchmarks/data.py --megabytes 19 200 --runs 5

Both sides start from one datasets.Dataset in memory and end with indexable blocks on disk, with fresh cache folders and
imports outside the clock. run_clm: a batched tokenizer map, then the group_texts map with labels, one process. lmtune:
the whole of Corpus.prepare (split, proof against the tokenizer, ids, blocks, ledger). The texts are WikiText-2's articles,
repeated with their sentences shuffled and numbered until there are enough distinct ones.
"""

import argparse
import itertools
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import psutil
from transformers import GPT2TokenizerFast

from lmtune.config import DataConfig
from lmtune.data import cache
from lmtune.data.corpus import Corpus
from lmtune.data.documents import split_text
from lmtune.data.files import load_text
from lmtune.data.sources import DocumentRule, HubSource
from lmtune.data.tokens import describe_tokenizer

BLOCK = 1024


def build_texts(folder, megabytes):
    """Distinct documents of so many megabytes together."""
    articles = list(split_text([load_text(folder / "wikitext-2" / "train.txt.gz", "utf-8")], DocumentRule.wikitext))
    draw, texts, size = random.Random(0), [], 0
    for turn in itertools.count():
        for article in articles:
            sentences = article.split(" . ")
            if turn:
                draw.shuffle(sentences)
            texts.append(f"{turn} " + " . ".join(sentences))
            size += len(texts[-1].encode())
            if size >= megabytes * 1e6:
                return texts
    raise AssertionError("unreachable: the turns do not end")


def run_clm(dataset, tokenizer, folder):
    """The preparation of transformers' run_clm.py, from its documentation."""

    def group(examples):
        joined = {key: list(itertools.chain(*examples[key])) for key in examples}
        total = len(joined["input_ids"]) // BLOCK * BLOCK
        blocks = {key: [ids[i : i + BLOCK] for i in range(0, total, BLOCK)] for key, ids in joined.items()}
        blocks["labels"] = blocks["input_ids"].copy()
        return blocks

    tokenized = dataset.map(
        lambda rows: tokenizer(rows["text"]),
        batched=True,
        remove_columns=["text"],
        cache_file_name=str(folder / "tokens.arrow"),
    )
    return len(tokenized.map(group, batched=True, cache_file_name=str(folder / "blocks.arrow")))


def lmtune(dataset, tokenizer, folder):
    """Everything that lmtune train does with text before the first step."""
    os.environ["LMTUNE_CACHE"] = str(folder)
    config = DataConfig(path="benchmark", validation_fraction=0.05)
    corpus = Corpus(config, seed=0)
    corpus.source = HubSource(config)
    corpus.source._loaded["train"] = dataset
    return len(corpus.prepare(tokenizer, BLOCK).blocks)


def timed(work, dataset, tokenizer):
    folder = Path(tempfile.mkdtemp())
    describe_tokenizer.cache_clear()  # a process does this once
    try:
        started = time.perf_counter()
        work(dataset, tokenizer, folder)
        seconds = time.perf_counter() - started
        return seconds, sum(file.stat().st_size for file in folder.rglob("*.arrow"))
    finally:
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[19])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["lmtune", "run_clm"])
    arguments = parser.parse_args()
    source = Path(os.environ["LMTUNE_TEST_DATA"])
    tokenizer = GPT2TokenizerFast.from_pretrained(source / "gpt2-tokenizer")
    tokenizer.model_max_length = 10**9
    datasets.disable_progress_bars()
    print(
        f"{os.cpu_count()} cores, cache format {cache.FORMAT}, numpy {np.__version__}, datasets {datasets.__version__}"
    )
    print(f"{'MB':>7} {'side':<8} {'median s':>9} {'MB/s':>8} {'min':>7} {'max':>7} {'MB on disk':>11}")
    for megabytes in arguments.megabytes:
        dataset = datasets.Dataset.from_dict({"text": build_texts(source, megabytes)})
        sides = {
            name: work for name, work in (("run_clm", run_clm), ("lmtune", lmtune)) if arguments.only in (None, name)
        }
        rounds = [
            {name: timed(work, dataset, tokenizer) for name, work in sides.items()} for _ in range(arguments.runs)
        ]
        for name in sides:
            seconds = [each[name][0] for each in rounds]
            median = statistics.median(seconds)
            spread = f"{min(seconds):>7.2f} {max(seconds):>7.2f}"
            disk = rounds[0][name][1] / 1e6
            print(f"{megabytes:>7.0f} {name:<8} {median:>9.2f} {megabytes / median:>8.1f} {spread} {disk:>11.1f}")
        if len(sides) == 2:
            ratios = [each["run_clm"][0] / each["lmtune"][0] for each in rounds]
            middle = statistics.median(ratios)
            print(f"{megabytes:>7.0f} ratio, pair by pair: median {middle:.1f}, {min(ratios):.1f} to {max(ratios):.1f}")
        memory = psutil.Process().memory_full_info()
        print(f"        private memory of this process afterwards: {memory.uss / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
