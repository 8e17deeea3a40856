"""Results of `lmtune eval`: one checkpoint, or several side by side, on the same documents."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmtune.evaluation.comparison import Difference, DocumentBits, compare_documents
from lmtune.evaluation.gain import compare_runs
from lmtune.paths import GivenPath
from lmtune.storage import Record, number_names, slug
from lmtune.token_stream import TokenStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEGINNING_TOKENS = 24
STEM_CHARS = 50
"""Most characters of each part of a file's name: file systems allow 255 bytes for all of it."""


@dataclass(frozen=True, slots=True)
class ScoredCheckpoint:
    """Scores of one checkpoint on one set, in total and per document."""

    measures: Record
    documents: DocumentBits


def build_results(name: str, scored: dict[str, ScoredCheckpoint], against: Sequence[str] = ()) -> Record:
    """What format=json prints: `eval` of one checkpoint; `models` and their differences of several.

    against: those of them that the others are compared with together; without any, all are compared with the first.
    """
    sets = {ckpt: {"eval": {name: each.measures}} for ckpt, each in scored.items()}
    if len(sets) == 1:
        return next(iter(sets.values()))
    compared = {
        "measure": "bits_per_byte",
        "same_vocabulary": have_same_vocabulary({ckpt: each.measures for ckpt, each in scored.items()}),
    }
    if against and len(scored) > 2:
        return {"models": sets, "comparison": {**compared, **_compare_sides(name, scored, against)}}
    baseline = against[0] if against else next(iter(sets))
    differences = {ckpt: {name: found.as_dict()} for ckpt, found in compare_with(baseline, scored).items()}
    return {"models": sets, "comparison": {"baseline": baseline, **compared, "differences": differences}}


def compare_with(baseline: str, scored: dict[str, ScoredCheckpoint]) -> dict[str, Difference]:
    """The bits per byte of each other checkpoint less those of the baseline."""
    theirs = scored[baseline].documents
    return {ckpt: compare_documents(each.documents, theirs) for ckpt, each in scored.items() if ckpt != baseline}


def _compare_sides(name: str, scored: dict[str, ScoredCheckpoint], against: Sequence[str]) -> Record:
    runs = [ckpt for ckpt in scored if ckpt not in against]
    ours, theirs = ([scored[ckpt].documents for ckpt in side] for side in (runs, against))
    return {"runs": runs, "against": list(against), "over_runs": {name: compare_runs(ours, theirs).as_dict()}}


def find_repeated(scored: dict[str, ScoredCheckpoint], against: Sequence[str]) -> dict[str, str]:
    """Checkpoints with the weights of an earlier one of their side, mapped to that: they are no further run of it."""
    first: dict[tuple[bool, str], str] = {}
    repeated = {}
    for ckpt, each in scored.items():
        earlier = first.setdefault((ckpt in against, each.measures["protocol"]["model"]), ckpt)
        if earlier != ckpt:
            repeated[ckpt] = earlier
    return repeated


def have_same_vocabulary(scored: dict[str, Record]) -> bool:
    """True where numbers per token mean the same for all checkpoints. scored: their measures."""
    return len({measures["protocol"]["tokenizer"] for measures in scored.values()}) == 1


def measure_documents(stream: TokenStream, nll: np.ndarray) -> np.ndarray:
    """[documents] bits per byte. nll: [documents] nats of their text."""
    return np.asarray(nll / math.log(2) / np.maximum(stream.documents["bytes"], 1))


def list_documents(stream: TokenStream, scored: ScoredCheckpoint, tokenizer: PreTrainedTokenizerBase) -> list[Record]:
    """Every document with its bits per byte and its beginning, the worst first."""
    bits = measure_documents(stream, scored.documents.nll)
    return [describe_document(stream, int(place), bits, tokenizer) for place in np.argsort(-bits, kind="stable")]


def hide_texts(scored: dict[str, ScoredCheckpoint]) -> None:
    """Take the beginnings of documents away again."""
    for each in scored.values():
        for document in each.measures.get("documents", []):
            del document["beginning"]


def describe_document(stream: TokenStream, place: int, bits: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> Record:
    """A document by its place, from 0. bits: [documents] bits per byte."""
    row, end = stream.documents[place], int(stream.ends[place])
    return {
        "document": place + 1,
        "bits_per_byte": float(bits[place]),
        "bytes": int(row["bytes"]),
        "tokens": int(row["tokens"]),
        "beginning": _decode_beginning(stream, end - int(row["tokens"]), end, tokenizer),
    }


def check_output(output: str) -> None:
    """Raise ConfigError, before anything is scored, for a folder in which write_documents could not write."""
    given = GivenPath("output", output)
    given.check_can_make(given.anchor())


def write_documents(name: str, scored: dict[str, ScoredCheckpoint], output: str) -> list[Path]:
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


def _write_table(folder: Path, stem: str, rows: list[Record]) -> Path:
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


def _decode_beginning(stream: TokenStream, start: int, end: int, tokenizer: PreTrainedTokenizerBase) -> str:
    ids = stream.ids[start : min(end, start + BEGINNING_TOKENS)].astype(np.int64)
    text = str(tokenizer.decode(ids[~np.isin(ids, [stream.separator, *stream.opening])].tolist()))
    return " ".join(text.split())
