"""Running text: WikiText, PTB, the Billion Words, enwik8 and text8."""

import itertools
import math
import re
from collections.abc import Callable

import numpy as np

from lmtune.data.boundaries import WIKITEXT_TITLE
from lmtune.errors import DataError
from lmtune.evaluation.evaluator import Scoring, score_documents
from lmtune.evaluation.metrics import exp
from lmtune.evaluation.suites.requests import rolling_requests
from lmtune.evaluation.suites.subject import Subject
from lmtune.evaluation.suites.task import Outcome, Rows, Task
from lmtune.token_stream import DOCUMENT_TABLE, NO_SEPARATOR, TokenStream
from lmtune.versions import render_install

HF_DOCS_STRIDE = 512
LAST = 5_000_000
"""Bytes of enwik8 and characters of text8 that are the test set by convention."""


def measure_words(task: Task, rows: Rows, subject: Subject) -> Outcome:
    """Profile paper: perplexity per word and row end of the tokenised text, of its de-tokenized form."""
    assert task.detokenizer is not None
    lines = task.read_texts(rows)
    text = task.detokenizer.convert(lines)
    nll, tokens = score_running_text("\n".join(text.lines) + "\n", subject, subject.context, subject.separator)
    words = count_words(lines)
    protocol = {
        "windows": "disjoint",
        "stride": subject.context,
        "separator": subject.separator,
        "detokenizer": task.detokenizer.name,
        "lines": len(lines),
        "lines_left_as_they_stood": text.kept,
        "unit": "words and row ends of the tokenised text",
    }
    return Outcome({"perplexity": exp(nll / words)}, {"words": words, "tokens": tokens}, protocol)


def measure_tokens(task: Task, rows: Rows, subject: Subject) -> Outcome:
    """Profile hf_docs: perplexity per token of raw rows joined by a blank line."""
    text = "\n\n".join(task.read_texts(rows))
    # The documentation feeds windows of as many tokens as the model has positions, of which the last predicts nothing.
    context = max(1, subject.context - 1)
    stride = min(HF_DOCS_STRIDE, context)
    nll, tokens = score_running_text(text, subject, context, NO_SEPARATOR, stride)
    protocol = {
        "windows": "strided",
        "context": context,
        "stride": stride,
        "separator": None,
        "detokenizer": None,
        "unit": "tokens",
    }
    return Outcome({"perplexity": exp(nll / tokens)}, {"tokens": tokens}, protocol)


def measure_pages(task: Task, rows: Rows, subject: Subject) -> Outcome:
    """Profile lm_eval: page by page; words and bytes of the page as given, its de-tokenized form scored.

    As in the harness, a BOS that the tokenizer adds stands behind the prefix token and is scored with the page.
    """
    detokenize = load_harness_detokenizer()
    pages = [str(row["page"]) for row in rows] if "page" in rows[0] else split_pages(task.read_texts(rows))
    bos = subject.tokenizer.bos_token_id
    prefix = subject.separator if bos is None else int(bos)
    nll, tokens = 0.0, 0
    for page in pages:
        requests = rolling_requests(subject.encode_opened(detokenize({"page": page})), prefix, subject.context)
        tokens += sum(request.scored for request in requests)
        nll += math.fsum(loss for loss, _ in subject.score(requests))
    # The harness counts the empty strings at both ends too.
    words = sum(len(re.split(r"\s+", page)) for page in pages)
    size = sum(len(page.encode()) for page in pages)
    values = {
        "perplexity": exp(nll / words),
        "word_perplexity": exp(nll / words),
        "byte_perplexity": exp(nll / size),
        "bits_per_byte": nll / size / math.log(2),
    }
    protocol = {
        "windows": "disjoint, the last one reaching back",
        "separator": prefix,
        "detokenizer": "lm_eval",
        "pages": len(pages),
        "unit": "pieces between white space of the page as it stands",
    }
    return Outcome(values, {"words": words, "bytes": size, "tokens": tokens}, protocol)


def measure_compression(task: Task, rows: Rows, subject: Subject) -> Outcome:
    """Bits per byte of enwik8, per character of text8: the last five million."""
    text = "\n".join(task.read_texts(rows))
    if task.name == "enwik8":
        text = text.encode()[-LAST:].decode("utf-8", errors="ignore")  # a character cut at the edge is left out
        name, unit, count = "bits_per_byte", "bytes", len(text.encode())
    else:
        text = text[-LAST:]
        name, unit, count = "bits_per_character", "characters", len(text)
    nll, tokens = score_running_text(text, subject, subject.context, subject.separator)
    protocol = {
        "windows": "disjoint",
        "stride": subject.context,
        "separator": subject.separator,
        "detokenizer": None,
        "unit": unit,
    }
    return Outcome({name: nll / math.log(2) / count}, {unit: count, "tokens": tokens}, protocol)


def score_running_text(
    text: str, subject: Subject, context: int, separator: int, stride: int | None = None
) -> tuple[float, int]:
    """(nll, tokens) of one long text.

    The first token is predicted from the tokens with which the tokenizer opens a text, or else from the separator; without
    either it is not scored.
    """
    ids = subject.encode(text)
    opening = () if subject.opening == (separator,) else subject.opening
    ended = [*opening, *ids] if separator == NO_SEPARATOR else [*opening, *ids, separator]
    table = np.zeros(1, dtype=DOCUMENT_TABLE)
    table["tokens"] = len(ended)
    stream = TokenStream(np.array(ended, dtype=np.uint32), table, separator, opening)
    scores = score_documents(subject.model, stream, Scoring(context, subject.batch_size, stride, subject.dtype))
    return float(scores["nll"][0]), len(ids) - (0 if opening else stream.unscored)


def count_words(lines: list[str]) -> int:
    """White-space words and row ends: 245,569 for the test text of WikiText, 82,430 for that of PTB."""
    return sum(len(line.split()) for line in lines) + len(lines)


def split_pages(lines: list[str]) -> list[str]:
    """Articles of WikiText, each from its title on; text before the first title goes with the first."""
    text = "".join(line + "\n" for line in lines)
    starts = [match.start() for match in WIKITEXT_TITLE.finditer(text)][1:]
    return [text[start:end] for start, end in itertools.pairwise([0, *starts, len(text)])]


def load_harness_detokenizer() -> Callable[[dict[str, str]], str]:
    """The detokenizer of the harness itself; raise DataError if the harness is not installed."""
    try:
        from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer
    except ImportError as error:
        raise DataError(f"its de-tokenizer comes with the harness: {render_install('lm-eval')}") from error
    return wikitext_detokenizer
