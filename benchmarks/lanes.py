"""What each process of a training reads of a stream, and computes for it, with one lane and with several.

    OMP_NUM_THREADS=1 LMTUNE_TEST_DATA=... python benchmarks/lanes.py --files 8 --megabytes 192 --lanes 4

Each process of 1, 2 and 4 is a Python of its own that asks for the rows of its batches, one after the other, until nearly all of
one pass has been taken by all of them; nothing is trained. Bytes are those of its read calls and CPU seconds its own, both from
behind the start, in which every process reads the begin of the text for what is held out. The texts are WikiText-2's articles,
repeated with their sentences shuffled.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch  # noqa: F401  the first batch imports it, which would count as reading
from transformers import GPT2TokenizerFast

from lmtune.config import DataConfig, DocumentRule, SplitRule
from lmtune.data.boundaries import split_text
from lmtune.data.build import build_corpus, prepare_training
from lmtune.data.decoding import Reading, load_pieces
from lmtune.data.streaming import POSITION

ROWS, BLOCK, SEED = 8, 256, 1
TAKEN = 0.95
"""Of the rows of a pass: lanes are not equally long, and none is to begin anew."""


def write_files(folder, count, megabytes):
    """JSON lines of equal size: a letter is a byte, since json.dumps escapes all others."""
    data = Path(os.environ["LMTUNE_TEST_DATA"])
    pieces = load_pieces(Reading(data / "wikitext-2" / "train.txt.gz", "utf-8"))
    articles, draw = list(split_text(pieces, DocumentRule.wikitext)), random.Random(0)
    texts = itertools.cycle(articles)
    for number in range(count):
        size = 0
        with (folder / f"{number}.jsonl").open("w", encoding="utf-8") as file:
            while size < megabytes * 1e6 / count:
                sentences = next(texts).split(" . ")
                draw.shuffle(sentences)
                size += file.write(json.dumps({"text": f"{number} {size} " + " . ".join(sentences)}) + "\n")


def prepare(folder, lanes, ranks):
    tokenizer = GPT2TokenizerFast.from_pretrained(Path(os.environ["LMTUNE_TEST_DATA"]) / "gpt2-tokenizer")
    config = DataConfig(files=f"{folder}/*.jsonl", streaming=True, lanes=lanes, split_by=SplitRule.hash)
    blocks = prepare_training(build_corpus(config, SEED), {}, tokenizer, BLOCK).blocks
    blocks.set_batch_shape(ROWS * ranks, 1, ranks)
    return blocks


def read_as(folder, lanes, rank, ranks, rows):
    """What one process does: the rows of a pass if `rows` is 0, else what it reads for its batches among so many rows."""
    process = psutil.Process()
    begun = process.io_counters().read_chars
    blocks = prepare(folder, lanes, ranks)
    before = process.io_counters().read_chars
    if not rows:
        while (window := blocks.sources[0].text.lanes[0].load_window(rows)).mark.turn == 0:
            rows = window.end
        return {"rows": rows}
    cpu = time.process_time()
    for batch in range(rank, rows // ROWS, ranks):
        blocks.__getitems__(list(range(batch * ROWS, (batch + 1) * ROWS)))
    read, spent = process.io_counters().read_chars, time.process_time()
    with tempfile.TemporaryDirectory() as place:
        blocks.save_position(Path(place))
        saved = (Path(place) / POSITION).stat().st_size
    return {
        "start_mb": (before - begun) / 1e6,
        "position_mb": saved / 1e6,
        "mb": (read - before) / 1e6,
        "cpu": spent - cpu,
    }


def start(*arguments):
    """read_as in a process of its own."""
    command = [sys.executable, __file__, "--as", *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=192)
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--as", dest="one", nargs=5)
    given = parser.parse_args()
    if given.one:
        folder, *numbers = given.one
        print(json.dumps(read_as(folder, *map(int, numbers))))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["LMTUNE_CACHE"] = f"{place}/cache"
        write_files(folder, given.files, given.megabytes)
        rows = int(TAKEN * start(folder, 1, 0, 1, 0)["rows"])
        print(f"{rows:,} rows of {BLOCK} tokens, {given.files} files, {given.megabytes} MB")
        print(
            "| processes | lanes | MB of each | CPU s of each | MB of all | CPU s of all |\n|---:|---:|---:|---:|---:|---:|"
        )
        for ranks, lanes in itertools.product((1, 2, 4), (1, given.lanes)):
            found = [start(folder, lanes, rank, ranks, rows) for rank in range(ranks)]
            megabytes, cpu = ([each[name] for each in found] for name in ("mb", "cpu"))
            print(
                f"| {ranks} | {lanes} | {max(megabytes):.0f} | {max(cpu):.1f} | {sum(megabytes):.0f} | {sum(cpu):.1f} |",
                flush=True,
            )
        print(
            f"read by each before: {found[0]['start_mb']:.0f} MB; position of its lanes: {found[0]['position_mb']:.1f} MB"
        )


if __name__ == "__main__":
    main()
