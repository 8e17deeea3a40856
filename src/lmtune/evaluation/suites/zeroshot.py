"""The zero-shot table of GPT-2 (Radford et al. 2019, Language Models are Unsupervised Multitask Learners, table 3).

Ten columns from nine sets, each with a protocol of its own, under one of three profiles:

    paper     de-tokenized running text in windows of the model's positions, words and row ends of the tokenised text
              counted; the last token of LAMBADA; all ten options of CBT. What the paper does not say (stride, first
              token, stop words) is as written here, so its figures are a neighbour and not a target.
    hf_docs   the strided loop of transformers' documentation: raw rows joined by a blank line, perplexity per token, the
              first token not scored.
    lm_eval   EleutherAI's harness 0.4.13: page by page, its windows, its de-tokenizer, its counts; the last word of LAMBADA.
"""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmtune.errors import DataError
from lmtune.evaluation.evaluator import Scoring, score_documents
from lmtune.evaluation.metrics import exp
from lmtune.evaluation.protocol import collect_versions
from lmtune.evaluation.scorer import open_scorer
from lmtune.evaluation.suites import detokenizers
from lmtune.evaluation.suites.detokenizers import Detokenizer
from lmtune.evaluation.suites.requests import Request, rolling_requests, score_requests
from lmtune.evaluation.suites.sources import Source, load_rows
from lmtune.token_stream import DOCUMENT_TABLE, NO_SEPARATOR, TokenStream
from lmtune.vocabulary import encode_opening, encode_plain

PUBLISHED = {
    "124M": (35.13, 45.99, 87.65, 83.4, 29.41, 65.85, 1.16, 1.17, 37.50, 75.20),
    "355M": (15.60, 55.48, 92.35, 87.1, 22.76, 47.33, 1.01, 1.06, 26.37, 55.72),
    "774M": (10.87, 60.12, 93.45, 88.0, 19.93, 40.31, 0.97, 1.02, 22.05, 44.575),
    "1.5B": (8.63, 63.24, 93.30, 89.05, 18.34, 35.76, 0.93, 0.98, 17.48, 42.16),
}
"""Table 3 of the paper, in the order of COLUMNS; its sizes are printed there as 117M, 345M, 762M and 1542M."""
COLUMNS = {
    "lambada_perplexity": "LAMBADA perplexity",
    "lambada_accuracy": "LAMBADA accuracy, %",
    "cbt-cn_accuracy": "CBT-CN accuracy, %",
    "cbt-ne_accuracy": "CBT-NE accuracy, %",
    "wikitext-2_perplexity": "WikiText-2 perplexity",
    "ptb_perplexity": "PTB perplexity",
    "enwik8_bits_per_byte": "enwik8 bits per byte",
    "text8_bits_per_character": "text8 bits per character",
    "wikitext-103_perplexity": "WikiText-103 perplexity",
    "lm1b_perplexity": "1BW perplexity",
}
TITLE = re.compile(r"^ = [^=\n](?:[^\n]*[^=\n])? = *$", re.MULTILINE)
HF_DOCS_STRIDE = 512
LAST = 5_000_000
"""Bytes of enwik8 and characters of text8 that are the test set by convention."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with what is needed to put questions to it."""

    model: Any
    tokenizer: Any
    context: int
    batch_size: int
    dtype: str

    def encode(self, text: str) -> list[int]:
        """The ids of a text as it stands, behind nothing."""
        return encode_plain(self.tokenizer, [text])[0]

    def encode_opened(self, text: str) -> list[int]:
        """The ids of a text behind what the tokenizer itself puts before one."""
        return [*self.opening, *self.encode(text)]

    @property
    def opening(self) -> tuple[int, ...]:
        return encode_opening(self.tokenizer)

    def score(self, requests: list[Request]) -> list[tuple[float, bool]]:
        with open_scorer(self.model, self.dtype) as scorer:
            return list(score_requests(scorer, requests, self.context, self.batch_size))

    @property
    def separator(self) -> int:
        """The end-of-text token, which the first token of a text is predicted from."""
        if self.tokenizer.eos_token_id is None:
            raise DataError("the vocabulary has no end-of-text token to predict the first token from")
        return int(self.tokenizer.eos_token_id)


@dataclass(slots=True)
class Outcome:
    """What one task has found, and how."""

    values: dict[str, float]
    """By the name of the column, without that of the task."""
    counts: dict[str, int]
    """What the values were divided by."""
    protocol: dict[str, Any] = field(default_factory=dict)


Measure = Callable[["Task", list[dict[str, Any]], Subject], Outcome]


@dataclass(frozen=True, slots=True)
class Task:
    """One set of the table: where it comes from, and how each profile measures it."""

    name: str
    source: Source
    measures: dict[str, Measure]
    """By profile; a profile that is not here does not know this set."""
    column: str = "text"
    detokenizer: Detokenizer | None = None
    sources: dict[str, Source] = field(default_factory=dict)
    """Of profiles that take the set from elsewhere."""

    def read_texts(self, rows: list[dict[str, Any]]) -> list[str]:
        """The text of each row, without a line end behind it."""
        column = self.column if self.column in rows[0] else "text"
        if column not in rows[0]:
            raise DataError(f"expected a column {self.column!r}, found {', '.join(rows[0])}")
        return [str(row[column]).removesuffix("\n") for row in rows]

    def source_of(self, profile: str) -> Source:
        return self.sources.get(profile, self.source)


def run_task(task: Task, profile: str, subject: Subject, file: str | None, limit: int | None) -> dict[str, Any]:
    """The values of one set with counts and protocol, or the reason why there are none under `missing`."""
    if profile not in task.measures:
        return {"missing": f"profile {profile} does not define it"}
    source = task.source_of(profile)
    try:
        whole = load_rows(source, file)
        rows = whole[:limit]
        if not rows:
            raise DataError(f"{file or source} is empty")
        outcome = task.measures[profile](task, rows, subject)
    except DataError as error:
        return {"missing": str(error)}
    protocol = {
        "profile": profile,
        "source": file or str(source),
        "split": "file" if file else source.split,
        "context": subject.context,
        "dtype": subject.dtype,
        "limit": limit,
        "limited": {"examples": len(rows), "of_examples": len(whole)} if len(rows) < len(whole) else None,
        "opening": list(subject.opening),
        **outcome.protocol,
        "versions": collect_versions(),
    }
    return {**outcome.values, **outcome.counts, "protocol": protocol}


# Running text


def measure_words(task: Task, rows: list[dict[str, Any]], subject: Subject) -> Outcome:
    """Profile paper: perplexity per word and row end of the tokenised text, of its de-tokenized form."""
    assert task.detokenizer is not None
    lines = task.read_texts(rows)
    text = task.detokenizer.convert(lines)
    nll, tokens = score_text("\n".join(text.lines) + "\n", subject, subject.context, subject.separator)
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


def measure_tokens(task: Task, rows: list[dict[str, Any]], subject: Subject) -> Outcome:
    """Profile hf_docs: perplexity per token of raw rows joined by a blank line."""
    text = "\n\n".join(task.read_texts(rows))
    # The documentation feeds windows of as many tokens as the model has positions, of which the last predicts nothing.
    context = max(1, subject.context - 1)
    stride = min(HF_DOCS_STRIDE, context)
    nll, tokens = score_text(text, subject, context, NO_SEPARATOR, stride)
    protocol = {
        "windows": "strided",
        "context": context,
        "stride": stride,
        "separator": None,
        "detokenizer": None,
        "unit": "tokens",
    }
    return Outcome({"perplexity": exp(nll / tokens)}, {"tokens": tokens}, protocol)


def measure_pages(task: Task, rows: list[dict[str, Any]], subject: Subject) -> Outcome:
    """Profile lm_eval: page by page; words and bytes of the page as it stands, its de-tokenized form scored.

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
    words = sum(
        len(re.split(r"\s+", page)) for page in pages
    )  # counts the empty strings at both ends, as the harness does
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


def measure_compression(task: Task, rows: list[dict[str, Any]], subject: Subject) -> Outcome:
    """Bits per byte of enwik8, per character of text8: the last five million."""
    text = "\n".join(task.read_texts(rows))
    if task.name == "enwik8":
        text = text.encode()[-LAST:].decode("utf-8", errors="ignore")  # a character cut at the edge is left out
        name, unit, count = "bits_per_byte", "bytes", len(text.encode())
    else:
        text = text[-LAST:]
        name, unit, count = "bits_per_character", "characters", len(text)
    nll, tokens = score_text(text, subject, subject.context, subject.separator)
    protocol = {
        "windows": "disjoint",
        "stride": subject.context,
        "separator": subject.separator,
        "detokenizer": None,
        "unit": unit,
    }
    return Outcome({name: nll / math.log(2) / count}, {unit: count, "tokens": tokens}, protocol)


def score_text(
    text: str, subject: Subject, context: int, separator: int, stride: int | None = None
) -> tuple[float, int]:
    """(nll, tokens) of one long text; its first token predicted from what the tokenizer opens a text with, or else from the
    separator, or not scored without either.
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
    """Articles of WikiText, each from its title on; what stands before the first title goes with the first."""
    text = "".join(line + "\n" for line in lines)
    starts = [match.start() for match in TITLE.finditer(text)][1:]
    return [text[start:end] for start, end in itertools.pairwise([0, *starts, len(text)])]


def load_harness_detokenizer() -> Callable[[dict[str, str]], str]:
    """That of the harness itself; raise DataError where it is not installed."""
    try:
        from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer
    except ImportError as error:
        raise DataError("its de-tokenizer comes with the harness: pip install lmtune[bench]") from error
    return wikitext_detokenizer


# LAMBADA


def measure_last_token(task: Task, rows: list[dict[str, Any]], subject: Subject) -> Outcome:
    """Profile paper: the last token of each passage. This reading comes nearest to the paper (openai/gpt-2#131)."""
    requests = [Request(subject.encode_opened(text), 1) for text in task.read_texts(rows)]
    return _summarise_targets(subject.score(requests), "last token")


def measure_last_word(task: Task, rows: list[dict[str, Any]], subject: Subject) -> Outcome:
    """Profile lm_eval: what stands after the last space, all of its tokens."""
    requests = []
    for text in task.read_texts(rows):
        context = text.rpartition(" ")[0].rstrip()
        ids = subject.encode_opened(text)
        requests.append(Request(ids, len(ids) - len(subject.encode_opened(context))))
    return _summarise_targets(subject.score(requests), "last word")


def _summarise_targets(answers: list[tuple[float, bool]], unit: str) -> Outcome:
    count = len(answers)
    values = {
        "perplexity": exp(math.fsum(nll for nll, _ in answers) / count),
        "accuracy": 100 * sum(greedy for _, greedy in answers) / count,
    }
    return Outcome(values, {"passages": count}, {"unit": unit, "separator": None, "detokenizer": None})


# The Children's Book Test


def measure_cloze(task: Task, rows: list[dict[str, Any]], subject: Subject) -> Outcome:
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


def render_options(row: dict[str, Any]) -> list[str]:
    """The story with its last sentence filled in, once for each option."""
    story = " ".join(sentence.strip() for sentence in row["sentences"])
    return [f"{story} {row['question'].strip().replace('XXXXX', option)}" for option in row["options"]]


def count_shared(rows: list[list[int]]) -> int:
    """Tokens that all rows begin with; at most so many that each keeps one to be scored."""
    shared = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
    return min(shared, min(map(len, rows)) - 1)


PARQUET = "refs/convert/parquet"
_RUNNING: dict[str, Measure] = {"paper": measure_words, "hf_docs": measure_tokens}
_WIKI: dict[str, Measure] = {**_RUNNING, "lm_eval": measure_pages}
_BYTES: dict[str, Measure] = {"paper": measure_compression}
_PAGES = "EleutherAI/wikitext_document_level"

TASKS = {
    task.name: task
    for task in (
        Task(
            "lambada",
            Source("EleutherAI/lambada_openai", subset="default"),
            {"paper": measure_last_token, "lm_eval": measure_last_word},
        ),
        # The test split holds The Jungle Book, which GPT-2 was trained on (section 3.2 of the paper).
        Task(
            "cbt-cn", Source("cam-cst/cbt", "validation", "CN"), {"paper": measure_cloze}, detokenizer=detokenizers.CBT
        ),
        Task(
            "cbt-ne", Source("cam-cst/cbt", "validation", "NE"), {"paper": measure_cloze}, detokenizer=detokenizers.CBT
        ),
        Task(
            "wikitext-2",
            Source("Salesforce/wikitext", subset="wikitext-2-raw-v1"),
            _WIKI,
            detokenizer=detokenizers.WIKITEXT,
            sources={"lm_eval": Source(_PAGES, subset="wikitext-2-raw-v1")},
        ),
        Task("ptb", Source("FALcon6/ptb_text_only"), _RUNNING, column="sentence", detokenizer=detokenizers.PTB),
        Task("enwik8", Source("LTCB/enwik8", "train", "enwik8", PARQUET, "enwik8/train"), _BYTES),
        Task("text8", Source("afmck/text8"), _BYTES),
        Task(
            "wikitext-103",
            Source("Salesforce/wikitext", subset="wikitext-103-raw-v1"),
            _WIKI,
            detokenizer=detokenizers.WIKITEXT,
            sources={"lm_eval": Source(_PAGES, subset="wikitext-103-raw-v1")},
        ),
        Task(
            "lm1b",
            Source("billion-word-benchmark/lm1b", "test", "plain_text", PARQUET, "plain_text/test"),
            _RUNNING,
            detokenizer=detokenizers.LM1B,
        ),
    )
}
