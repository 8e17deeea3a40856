"""Text to blocks: lmtune against the documented run_clm pattern, on the same loaded dataset.

    LMTUNE_TEST_DATA=... python benchmarks/data.py --megabytes 19 200 --runs 5

Both sides start from one memory-mapped datasets.Dataset and end with indexable blocks on disk, with fresh cache folders and
imports outside the clock. run_clm: a batched tokenizer map, then the group_texts map with labels, one process. lmtune:
the whole of EncodedCorpus.prepare (split, comparison with the tokenizer, ids, blocks, ledger). The texts are WikiText-2's articles,
repeated with their sentences shuffled and numbered until there are enough distinct ones.
"""

import argparse
import itertools
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import datasets
import numpy as np
import psutil
from transformers import GPT2TokenizerFast

from lmtune.config import DataConfig, DocumentRule
from lmtune.data import cache, splits
from lmtune.data.blocks import write_blocks
from lmtune.data.boundaries import split_text
from lmtune.data.corpus import Corpus
from lmtune.data.decoding import Reading, load_pieces
from lmtune.data.encoding import describe_tokenizer
from lmtune.data.ledger import Ledger
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.sources import HubSource

BLOCK = 1024
STAGED = 250
"""Megabytes up to which stages are timed one by one, which keeps all of their results in memory."""


def write_texts(file, folder, megabytes):
    """Distinct documents of so many megabytes together, as an Arrow file."""
    pieces = load_pieces(Reading(folder / "wikitext-2" / "train.txt.gz", "utf-8"))
    articles = list(split_text(pieces, DocumentRule.wikitext))
    draw, size = random.Random(0), 0
    with datasets.arrow_writer.ArrowWriter(path=str(file)) as writer:
        for turn in itertools.count():
            for article in articles:
                sentences = article.split(" . ")
                if turn:
                    draw.shuffle(sentences)
                text = f"{turn} " + " . ".join(sentences)
                writer.write({"text": text})
                size += len(text.encode())
                if size >= megabytes * 1e6:
                    writer.finalize()
                    return


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


def build_bench_corpus(dataset):
    config = DataConfig(path="benchmark", validation_fraction=0.05)
    corpus = Corpus(config, seed=0)
    corpus.source = HubSource(config)
    corpus.source._loaded["train"] = dataset
    return corpus


def lmtune(dataset, tokenizer, folder):
    """Everything that lmtune train does with text before the first step."""
    os.environ["LMTUNE_CACHE"] = str(folder)
    return len(EncodedCorpus(build_bench_corpus(dataset), tokenizer).prepare(BLOCK).blocks)


def time_stages(dataset, tokenizer):
    """Seconds of each stage by itself, one after another over all text."""
    corpus = build_bench_corpus(dataset)

    def consume(batches):
        started = time.perf_counter()
        kept = list(batches)
        return kept, time.perf_counter() - started

    _, read = consume(rows.texts for rows in corpus.source.load_rows("train", 0))
    documents, selected = consume(corpus.load_documents("train", Ledger()))
    started = time.perf_counter()
    _ = corpus.first_pass
    surveyed = time.perf_counter() - started - selected
    assigned, hashed = consume(splits.assign_by_hash(texts, corpus.assigner.shares, 0)["train"] for texts in documents)
    encoder = EncodedCorpus(corpus, tokenizer).encoder
    encoded, ids = consume(encoder.encode(texts) for texts in assigned)
    joined, separated = consume(np.insert(each, np.cumsum(lengths), 50256) for each, lengths in encoded)
    _, counted = consume(np.bincount(each, minlength=50257) for each in joined)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_blocks(Path(folder) / "train.arrow", joined, BLOCK, np.dtype(np.uint16), 0)
        written = time.perf_counter() - started
    return {
        "Arrow to batches of text (twice)": 2 * read,
        "empty rows, counts (twice)": 2 * (selected - read),
        "lengths, hashes, sample": surveyed,
        "hash and assign": hashed,
        "ids": ids,
        "separators": separated,
        "unigram counts": counted,
        "rows, cast, write": written,
    }


def time_files(dataset, tokenizer):
    """Seconds from a file of each kind to blocks, its content hashed for the first time."""
    seconds = {}
    for kind, write in (("jsonl", dataset.to_json), ("parquet", dataset.to_parquet)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"texts.{kind}"
            write(file)
            os.environ["LMTUNE_CACHE"] = str(Path(folder) / "cache")
            started = time.perf_counter()
            corpus = Corpus(DataConfig(files=str(file), validation_fraction=0.05), 0)
            EncodedCorpus(corpus, tokenizer).prepare(BLOCK)
            seconds[kind] = time.perf_counter() - started
    return seconds


class PeakMemory:
    """Highest private memory of this process above that at the begin, sampled every 50 ms."""

    def __enter__(self):
        self.process, self.stop = psutil.Process(), threading.Event()
        self.begin = self.process.memory_full_info().uss
        self.peak = 0
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def _sample(self):
        while not self.stop.wait(0.05):
            self.peak = max(self.peak, self.process.memory_full_info().uss - self.begin)

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


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
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "texts.arrow"
            write_texts(file, source, megabytes)
            measure(datasets.Dataset.from_file(str(file)), tokenizer, megabytes, arguments)


def measure(dataset, tokenizer, megabytes, arguments):
    sides = {name: work for name, work in (("run_clm", run_clm), ("lmtune", lmtune)) if arguments.only in (None, name)}
    rounds = [{name: timed(work, dataset, tokenizer) for name, work in sides.items()} for _ in range(arguments.runs)]
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
    if "lmtune" in sides:
        measure_more(dataset, tokenizer, megabytes)


def measure_more(dataset, tokenizer, megabytes):
    """Memory, a warm start, and where the time goes."""
    with tempfile.TemporaryDirectory() as folder:
        with PeakMemory() as memory:
            lmtune(dataset, tokenizer, folder)
        started = time.perf_counter()
        lmtune(dataset, tokenizer, folder)
        warm = time.perf_counter() - started
    print(
        f"{megabytes:>7.0f} lmtune: at most {memory.peak / 1e9:.2f} GB more private memory; again, warm: {warm:.3f} s"
    )
    for kind, seconds in time_files(dataset, tokenizer).items():
        print(f"{megabytes:>7.0f} lmtune from {kind:<8} {seconds:>8.2f} s {megabytes / seconds:>8.1f} MB/s")
    if megabytes <= STAGED:
        for stage, seconds in time_stages(dataset, tokenizer).items():
            print(f"{'':>16}{seconds:>8.2f} s {megabytes / max(seconds, 1e-9):>8.0f} MB/s  {stage}")


if __name__ == "__main__":
    main()
