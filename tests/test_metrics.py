"""Measures by hand, and as an evaluate.Metric."""

import math
import socket
from dataclasses import fields

import pytest

from lmtune.evaluation import metrics
from lmtune.evaluation.hf_metric import LanguageModeling
from lmtune.evaluation.metrics import Sums

SUMS = Sums(nll=12.0, tokens=8, separator_nll=3.0, separators=2, correct=4, bytes=40, characters=36, words=6)


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        (metrics.loss, 1.5),
        (metrics.perplexity, math.exp(1.5)),
        (metrics.accuracy, 0.4),
        (metrics.bits_per_byte, 12 / math.log(2) / 40),
        (metrics.bits_per_character, 12 / math.log(2) / 36),
        (metrics.word_perplexity, math.exp(2)),
        (metrics.separator_loss, 1.5),
    ],
)
def test_measures_by_hand(measure, value):
    assert measure(SUMS) == pytest.approx(value, rel=1e-15)


def test_measures_beyond_float64_are_infinite():
    sums = Sums(nll=1e6, tokens=1, words=1, bytes=1)
    assert metrics.perplexity(sums) == metrics.word_perplexity(sums) == math.inf


def test_text_without_words_has_no_word_perplexity():
    assert math.isnan(metrics.word_perplexity(Sums(nll=1, tokens=1, bytes=3)))
    assert math.isnan(metrics.bits_per_character(Sums(nll=1, tokens=1)))
    assert math.isnan(metrics.separator_loss(Sums(nll=1, tokens=1)))


def columns(sums):
    return {item.name: [getattr(sums, item.name)] for item in fields(Sums)}


def test_the_metric_adds_batches_before_it_divides():
    metric = LanguageModeling()
    other = Sums(nll=1.0, tokens=2, separator_nll=0.5, separators=1, correct=1, bytes=5, characters=4, words=1)
    metric.add_batch(**columns(SUMS))
    metric.add_batch(**columns(other))
    result = metric.compute()
    assert {name: result[name] for name in metrics.FORMULAS} == {
        name: measure(SUMS + other) for name, measure in metrics.FORMULAS.items()
    }
    assert [result[name] for name in ("tokens", "words", "bytes", "characters")] == [13, 7, 45, 40]


def test_the_metric_combines_with_others_and_needs_no_network(monkeypatch):
    import evaluate

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the metric reached for the network"))
    combined = evaluate.combine({"lm": LanguageModeling()})
    combined.add_batch(**columns(SUMS))
    assert metrics.loss(SUMS) in combined.compute().values()
