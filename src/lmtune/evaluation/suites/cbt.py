"""The Children's Book Test: the word that was taken out of a sentence, out of ten."""

import itertools

import numpy as np

from lmtune.errors import DataError
from lmtune.evaluation.suites.requests import Request
from lmtune.evaluation.suites.subject import Subject
from lmtune.evaluation.suites.task import Outcome, Rows, Task
from lmtune.storage import Record


def measure_cloze(task: Task, rows: Rows, subject: Subject) -> Outcome:
    """Profile paper: the option is right that makes itself and the rest of the sentence most probable."""
    assert task.detokenizer is not None
    needed = {"sentences", "question", "options", "answer"}
    if not needed <= rows[0].keys():
        raise DataError(f"expected the columns {', '.join(sorted(needed))}, found {', '.join(rows[0])}")
    requests, sizes, kept = [], [], 0
    for row in rows:
        texts = task.detokenizer.convert(render_options(row))
        kept += texts.kept
        ids = [subject.encode_opened(text) for text in texts.lines]
        shared = count_shared(ids)
        requests += [Request(each, len(each) - shared) for each in ids]
        sizes.append(len(ids))
    losses = iter(nll for nll, _ in subject.score(requests))
    chosen = [int(np.argmin(list(itertools.islice(losses, size)))) for size in sizes]
    right = sum(row["options"][choice] == row["answer"] for row, choice in zip(rows, chosen, strict=True))
    protocol = {
        "unit": "choice and rest of the sentence",
        "separator": None,
        "detokenizer": task.detokenizer.name,
        "texts_left_as_they_stood": kept,
    }
    return Outcome({"accuracy": 100 * right / len(rows)}, {"questions": len(rows)}, protocol)


def render_options(row: Record) -> list[str]:
    """The story with its last sentence filled in, once for each option."""
    story = " ".join(sentence.strip() for sentence in row["sentences"])
    return [f"{story} {row['question'].strip().replace('XXXXX', option)}" for option in row["options"]]


def count_shared(rows: list[list[int]]) -> int:
    """Length of the common prefix of all rows, at least one token of each row left to be scored."""
    shared = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
    return min(shared, min(map(len, rows)) - 1)
