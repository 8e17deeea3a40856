"""What training.goldfish keeps a small model from saying again, and what it costs.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/goldfish.py memory --seeds 1 2 3 4 5
    LMTUNE_TEST_DATA=... python benchmarks/experiments/goldfish.py prose --seeds 1 2 3 4 5

    memory  from scratch, on pieces of works of Machado de Assis of which some stand sixteen times in the text, with canaries, for
            many epochs: what lmtune audit finds, and which of the repeated passages come back
    within  the same, but each copy of a repeated piece stands within another text of its own, so that no two rows are alike
    prose   from scratch, on 400 kB of his works, read twice: what is lost where nothing is repeated

The model is gpt2-tiny at half its width, and in memory and within with half its layers. What a command printed is kept in --folder,
and it is not run again.
"""

import argparse
import gzip
import json
import math
import os
import random
import statistics
from pathlib import Path

from transplant import QUIET, TINY, learn, lmtune, render_spread, write_portuguese

from lmtune.evaluation.audit.passages import judge
from lmtune.evaluation.audit.rows import Row, score_rows
from lmtune.evaluation.audit.shares import Share
from lmtune.modeling.loading import load_model
from lmtune.modeling.tokenizer import load_tokenizer

ENTRIES = 1024
PREFIX, CONTINUATION, TRIES = 20, 20, 100
REPEATED, TIMES = 12, 16
"""Pieces that stand several times in the text, and how often."""
LINES, LEAST = 7, 300
"""Of a piece; and its characters at least, which tables of contents have not."""
REPEATS = (1, 4, 16, 64)
SMALL = (*TINY, "model.config.n_layer=2", "model.config.n_head=2")
PLAIN = "training.bf16=false"
"""On a CPU without matrix units for it, bfloat16 takes a model this small three times as long."""
TEXT = ("data.files=text.jsonl", "data.validation_files=held-out.jsonl")

MEMORY = {
    "all tokens": (1, ()),
    "all tokens, 3/4 of the steps": (3 / 4, ()),
    "`goldfish=4`": (1, ("training.goldfish=4",)),
    "`goldfish=3`": (1, ("training.goldfish=3",)),
    "all tokens, `data.deduplicate`": (1, ("data.deduplicate=true",)),
}
"""Share of the steps, and settings."""
PROSE = {"all tokens": (), "`goldfish=4`": ("training.goldfish=4",), "`goldfish=3`": ("training.goldfish=3",)}


def write_pieces(data, once, held_out, within):
    """text.jsonl, `once` pieces and REPEATED more TIMES each, in a drawn order; held-out.jsonl, pieces of other works.

    Returns the repeated ones. With `within` each of their copies stands between the halves of a further piece.
    """
    with gzip.open(data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        works = [json.loads(line)["text"] for line in lines]
    draw = random.Random(0)
    learned, apart = (cut_pieces(some, draw) for some in (works[::2], works[1::2]))
    repeated = learned[:REPEATED]
    copies, others = repeated * TIMES, learned[REPEATED + once :]
    if within:
        copies = [put_within(other, piece) for other, piece in zip(others[: len(copies)], copies, strict=True)]
    texts = [*learned[REPEATED : REPEATED + once], *copies]
    draw.shuffle(texts)
    for name, some in (("text", texts), ("held-out", apart[:held_out])):
        Path(f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in some), encoding="utf-8")
    return repeated


def put_within(other, piece):
    lines = other.split("\n")
    return "\n".join((*lines[: LINES // 2], piece, *lines[LINES // 2 :]))


def cut_pieces(works, draw):
    """Different pieces of LINES lines each, in a drawn order."""
    cut = [work.split("\n") for work in works]
    pieces = ["\n".join(lines[start : start + LINES]) for lines in cut for start in range(0, len(lines), LINES)]
    pieces = list(dict.fromkeys(piece for piece in pieces if len(piece) >= LEAST))
    draw.shuffle(pieces)
    return pieces


def count_returned(name, pieces):
    """Of the passages of the repeated pieces: how many a run gives back, greedily or among TRIES texts, and how many there are.

    Then the same of the tokens of their ends, one by one, the true ones before each given.
    """
    kept = Path(f"{name}-returned.json")
    if not kept.exists():
        tokenizer, model = load_tokenizer(f"{name}/model"), load_model(f"{name}/model")
        size, rows = PREFIX + CONTINUATION, []
        for piece in pieces:
            ids = tokenizer(piece, add_special_tokens=False)["input_ids"]
            rows += [Row(ids[start : start + size], PREFIX) for start in range(0, len(ids) - size + 1, size)]
        found = judge(score_rows(model, rows, batch_size=16), TRIES).either
        ends = [Row(row.ids[: end + 1], end) for row in rows for end in range(PREFIX, size)]
        right = score_rows(model, ends, batch_size=64).greedy
        kept.write_text(json.dumps([int(found.sum()), len(rows), int(right.sum()), len(ends)]), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def read_curve(name):
    """Held-out bits per byte at each evaluation."""
    lines = map(json.loads, Path(name, "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["eval_bits_per_byte"] for line in lines if "eval_bits_per_byte" in line]


def run_memory(place, seed, steps, settings, pieces, rate):
    """(results, audit, returned, lowest bits per byte) of one run."""
    name = f"memory-{place}-{steps}-{rate:g}-{seed}"
    keeps = ("training.load_best_model_at_end=false", "training.save_strategy=no", "training.eval_steps=0.1")
    shape = (*SMALL, "model.tokenizer=vocabulary", "data.block_size=128", PLAIN)
    results = lmtune(
        "train", *TEXT, "data.name=machado", *shape, "audit.canaries=5", *QUIET, *keeps, *settings,
        f"training.max_steps={steps}", f"training.learning_rate={rate}", f"seed={seed}", f"data.seed={seed}", f"output={name}",
    )  # fmt: skip
    lengths = (f"audit.prefix={PREFIX}", f"audit.continuation={CONTINUATION}", "audit.identifiers=0")
    audit = lmtune("audit", f"ckpt={name}", *lengths, f"audit.tries={TRIES}", f"output={name}-audit", "format=json")
    return results, audit, count_returned(name, pieces), min(read_curve(name))


def render_share(count, of):
    low, high = Share(count, of).bound()
    return f"{count} of {of} ({low:.1%} to {high:.1%})"


def render_canaries(audits, repeats):
    """Mean exposure with the interval of a mean over canaries, and how many are found."""
    each = [canary for audit in audits for canary in audit["canaries"]["canaries"] if canary["repeats"] == repeats]
    bits, found = [canary["exposure"] for canary in each], sum(canary["found"] for canary in each)
    half = 1.96 * statistics.stdev(bits) / math.sqrt(len(bits))
    return f"{statistics.mean(bits):.1f} ± {half:.1f}, {found} of {len(each)}"


def print_memory(seeds, steps, rate, pieces):
    planted = " | ".join(f"planted {each}" for each in REPEATS)
    print(f"| arm | {planted} | false alarms | training passages | repeated passages | tokens of their ends | ", end="")
    print("bits per byte, lowest | last | tokens learned | left out |\n|---|" + "---:|" * 12)
    for place, (arm, (share, settings)) in enumerate(MEMORY.items()):
        runs = [run_memory(place, seed, round(share * steps), settings, pieces, rate) for seed in seeds]
        results, audits, returned, lowest = zip(*runs, strict=True)
        alarms = [audit["canaries"]["false_alarms"] for audit in audits]
        asked = [audit["passages"]["sides"]["training"]["model"]["either"] for audit in audits]
        cells = [render_canaries(audits, each) for each in REPEATS]
        cells += [
            render_share(sum(each["count"] for each in some), sum(each["of"] for each in some))
            for some in (alarms, asked)
        ]
        passages, of, right, tokens = map(sum, zip(*returned, strict=True))
        cells += [render_share(passages, of), f"{right / tokens:.1%}"]
        cells += [render_spread(lowest), render_spread([each["eval"]["machado"]["bits_per_byte"] for each in results])]
        cells += [
            f"{statistics.mean(each['train'].get(name, 0) for each in results):,.0f}"
            for name in ("tokens", "tokens_left_out")
        ]
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)


def print_prose(seeds, text):
    print("| arm | bits per byte, before | after | tokens learned | left out |\n|---|" + "---:|" * 4)
    for place, (arm, settings) in enumerate(PROSE.items()):
        runs = [
            lmtune(
                "train", *text, *TINY, "model.tokenizer=prose-vocabulary", "data.name=pt", "training.num_train_epochs=2", PLAIN,
                *QUIET, *settings, f"seed={seed}", f"output=prose-{place}-{seed}",
            )
            for seed in seeds
        ]  # fmt: skip
        curves = [read_curve(f"prose-{place}-{seed}") for seed in seeds]
        after = [run["eval"]["pt"]["bits_per_byte"] for run in runs]
        learned, left = (
            statistics.mean(run["train"].get(name, 0) for run in runs) for name in ("tokens", "tokens_left_out")
        )
        cells = [render_spread([curve[0] for curve in curves]), render_spread(after), f"{learned:,.0f}", f"{left:,.0f}"]
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "within", "prose"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--once", type=int, default=100, help="pieces that stand once in the text")
    parser.add_argument("--steps", type=int, default=800, help="of 8 rows of 128 tokens")
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate of memory and within")
    parser.add_argument("--folder", type=Path, default=Path("outputs/goldfish"))
    given = parser.parse_args()
    data = Path(os.environ["LMTUNE_TEST_DATA"]).resolve()
    place = given.folder / given.what
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    if given.what != "prose":
        pieces = write_pieces(data, given.once, held_out=60, within=given.what == "within")
        learn((*TEXT, "data.deduplicate=true"), ENTRIES, "vocabulary")
        print_memory(given.seeds, given.steps, given.rate, pieces)
    else:
        text = write_portuguese(data, 400_000)
        learn(text, 2 * ENTRIES, "prose-vocabulary")
        print_prose(given.seeds, text)


if __name__ == "__main__":
    main()
