"""How `lmtune eval` shows one checkpoint, or several side by side, on the same documents."""

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmtune.evaluation.comparison import MIN_DOCUMENTS, Difference, DocumentBits, compare_documents
from lmtune.evaluation.measures import COLUMNS
from lmtune.paths import GivenPath
from lmtune.storage import number_names, render_number, slug
from lmtune.token_stream import TokenStream

PER_TOKEN = frozenset(["perplexity", "loss", "accuracy"])
"""Measures that do not compare across vocabularies."""
BEGINNING_TOKENS = 24
SHOWN_DOCUMENTS = 10
STEM_CHARS = 50
"""Of each part of a file's name: file systems take 255 bytes for all of it."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One checkpoint on one set."""

    measures: dict[str, Any]
    documents: DocumentBits


def build_results(name: str, scored: dict[str, Scored]) -> dict[str, Any]:
    """What format=json prints: `eval` of one checkpoint; `models` and their differences of several."""
    sets = {ckpt: {"eval": {name: each.measures}} for ckpt, each in scored.items()}
    if len(sets) == 1:
        return next(iter(sets.values()))
    differences = {ckpt: {name: difference.as_dict()} for ckpt, difference in compare_with_first(scored).items()}
    return {
        "models": sets,
        "comparison": {
            "baseline": next(iter(sets)),
            "measure": "bits_per_byte",
            "same_vocabulary": have_same_vocabulary(scored),
            "differences": differences,
        },
    }


def compare_with_first(scored: dict[str, Scored]) -> dict[str, Difference]:
    """For each checkpoint but the first, its bits per byte less those of the first."""
    first, *others = scored.items()
    return {ckpt: compare_documents(each.documents, first[1].documents) for ckpt, each in others}


def have_same_vocabulary(scored: dict[str, Scored]) -> bool:
    """True where numbers per token mean the same for all checkpoints."""
    return len({each.measures["protocol"]["tokenizer"] for each in scored.values()}) == 1


def render_table(name: str, scored: dict[str, Scored]) -> list[str]:
    """Measures for people: a column for each checkpoint, differences below."""
    first = next(iter(scored.values())).measures
    protocol = first["protocol"]
    head = f"{name} ({protocol['split']}, {render_amount(first)})"
    labels = [] if len(scored) == 1 else [_shorten(ckpt) for ckpt in scored]
    width = max(12, *(len(label) + 2 for label in labels)) if labels else 12
    lines = [head, f"{'':<24}" + "".join(f"{label:>{width}}" for label in labels)] if labels else [head]
    same = have_same_vocabulary(scored)
    for key, words in COLUMNS.items():
        if same or key not in PER_TOKEN:
            numbers = (render_number(each.measures[key]) for each in scored.values())
            lines.append(f"{words:<24}" + "".join(f"{number:>{width}}" for number in numbers))
    if not same:
        lines.append(
            "The checkpoints have different vocabularies, so what they lose per token (loss, perplexity, accuracy) does not "
            "compare and is left out; bits per byte and word perplexity do."
        )
    lines += _render_differences(scored)
    lines.append(_render_counts(scored))
    return lines + [line for ckpt, each in scored.items() for line in _render_worst(ckpt, each, len(scored) > 1)]


def render_amount(measures: dict[str, Any]) -> str:
    """How much of a text was scored, and of how much where that was limited."""
    protocol = measures["protocol"]
    limit = protocol["limit"]
    if limit is None:
        return f"{protocol['documents']:,} documents"
    return (
        f"{protocol['documents']:,} of {limit['of_documents']:,} documents, {measures['tokens']:,} of {limit['of_tokens']:,} "
        f"tokens: a part, by eval.max_tokens={limit['max_tokens']:,}"
    )


def list_documents(stream: TokenStream, scored: Scored, tokenizer: Any) -> list[dict[str, Any]]:
    """Every document with its bits per byte and its beginning, the worst first."""
    table = stream.documents
    begins = stream.ends - table["tokens"]
    bits = scored.documents.nll / math.log(2) / np.maximum(table["bytes"], 1)
    return [
        {
            "document": int(place) + 1,
            "bits_per_byte": float(bits[place]),
            "bytes": int(table["bytes"][place]),
            "tokens": int(table["tokens"][place]),
            "beginning": _decode_beginning(stream, int(begins[place]), int(stream.ends[place]), tokenizer),
        }
        for place in np.argsort(-bits, kind="stable")
    ]


def check_output(output: str) -> None:
    """Raise ConfigError, before anything is scored, for a folder in which write_documents could not write."""
    given = GivenPath("output", output)
    given.check_can_make(given.anchor())


def write_documents(name: str, scored: dict[str, Scored], output: str) -> list[Path]:
    """One .csv file for each checkpoint, with what list_documents found; readable by its owner alone, as it holds people's text.

    No file is overwritten: a taken name gets -2, -3.
    """
    given = GivenPath("output", output)
    folder = given.make_folder(given.expand())
    files = []
    for number, (ckpt, each) in enumerate(scored.items(), start=1):
        count = f"{number}-" if len(scored) > 1 else ""
        stem = f"documents-{count}{slug(ckpt)[:STEM_CHARS]}-{slug(name)[:STEM_CHARS]}"
        try:
            files.append(_write_table(folder, stem, each.measures["documents"]))
        except OSError as fault:
            raise given.refuse("a folder to write in", str(fault.strerror), "Give another output=.") from fault
    return files


def _write_table(folder: Path, stem: str, rows: list[dict[str, Any]]) -> Path:
    for candidate in number_names(stem):
        file = folder / f"{candidate}.csv"
        try:
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            continue
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123  made and opened in one step
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return file
    raise AssertionError("unreachable: candidates do not end")


def _decode_beginning(stream: TokenStream, begin: int, end: int, tokenizer: Any) -> str:
    ids = stream.ids[begin : min(end, begin + BEGINNING_TOKENS)].astype(np.int64)
    text = tokenizer.decode(ids[~np.isin(ids, [stream.separator, *stream.opening])].tolist())
    return " ".join(text.split())


def _render_differences(scored: dict[str, Scored]) -> list[str]:
    if len(scored) == 1:
        return []
    baseline = _shorten(next(iter(scored)))
    return [
        f"{_shorten(ckpt)} less {baseline}: {difference.difference:+.4f} bits per byte, {_render_interval(difference)}"
        for ckpt, difference in compare_with_first(scored).items()
    ]


def _render_interval(difference: Difference) -> str:
    documents = f"{difference.documents:,} document" + ("" if difference.documents == 1 else "s")
    if difference.low is None or difference.high is None:
        few = difference.documents < MIN_DOCUMENTS
        why = "" if few else f", which weigh as much as {difference.effective_documents:.1f} of one size"
        return f"without an interval: {documents}{why}, are too few for one (expected {MIN_DOCUMENTS})"
    return (
        f"{difference.confidence:.0%} interval {difference.low:+.4f} to {difference.high:+.4f} "
        f"(paired bootstrap over {documents})"
    )


def _render_counts(scored: dict[str, Scored]) -> str:
    first = next(iter(scored.values())).measures
    tokens = " and ".join(dict.fromkeys(f"{each.measures['tokens']:,}" for each in scored.values()))
    windows = " and ".join(dict.fromkeys(_render_windows(each.measures["protocol"]) for each in scored.values()))
    seconds = sum(each.measures["seconds"] for each in scored.values())
    return f"{tokens} tokens, {first['words']:,} words, {first['bytes']:,} bytes; {windows}, {seconds:.1f} s"


def _render_windows(protocol: dict[str, Any]) -> str:
    stride = "" if protocol["windows"] == "disjoint" else f" every {protocol['stride']:,}"
    return f"windows of {protocol['context']:,}{stride}, {protocol['dtype']}"


def _render_worst(ckpt: str, scored: Scored, several: bool) -> list[str]:
    documents = scored.measures.get("documents", [])[:SHOWN_DOCUMENTS]
    if not documents:
        return []
    lines = ["", f"the worst documents{f' of {_shorten(ckpt)}' if several else ''}, bits per byte"]
    more = len(scored.measures["documents"]) - len(documents)
    if more:
        lines[-1] += f" ({more:,} more; output=FOLDER writes all of them)"
    return lines + [
        f"{each['bits_per_byte']:>9.4f}  {each['document']:>6}  {each['beginning'][:90]}" for each in documents
    ]


def _shorten(ckpt: str) -> str:
    """The end of a path or id, long enough to know it by."""
    return ckpt if len(ckpt) <= 28 else "..." + ckpt[-25:]
