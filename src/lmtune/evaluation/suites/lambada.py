"""LAMBADA: the end of a passage, which only its whole context tells."""

import math

from lmtune.evaluation.metrics import exp
from lmtune.evaluation.suites.requests import Answer, Request
from lmtune.evaluation.suites.subject import Subject
from lmtune.evaluation.suites.task import Outcome, Rows, Task


def measure_last_token(task: Task, rows: Rows, subject: Subject) -> Outcome:
    """Profile paper: the last token of each passage. This reading comes nearest to the paper (openai/gpt-2#131)."""
    requests = [Request(subject.encode_opened(text), 1) for text in task.read_texts(rows)]
    return _summarise_targets(subject.score(requests), "last token")


def measure_last_word(task: Task, rows: Rows, subject: Subject) -> Outcome:
    """Profile lm_eval: all tokens after the last space."""
    requests = []
    for text in task.read_texts(rows):
        context = text.rpartition(" ")[0].rstrip()
        ids = subject.encode_opened(text)
        requests.append(Request(ids, len(ids) - len(subject.encode_opened(context))))
    return _summarise_targets(subject.score(requests), "last word")


def _summarise_targets(answers: list[Answer], unit: str) -> Outcome:
    count = len(answers)
    values = {
        "perplexity": exp(math.fsum(nll for nll, _ in answers) / count),
        "accuracy": 100 * sum(greedy for _, greedy in answers) / count,
    }
    return Outcome(values, {"passages": count}, {"unit": unit, "separator": None, "detokenizer": None})
