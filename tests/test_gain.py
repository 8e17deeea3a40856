"""The comparison of two ways of training keeps its promises on scores whose spread is known."""

import math

import numpy as np
import pytest

from lmtune.evaluation.comparison import DocumentBits, bound_bits
from lmtune.evaluation.gain import Spread, bound_runs, compare_runs, count_seeds, plan_seeds
from lmtune.evaluation.intervals import find_quantile, find_share
from lmtune.reporting.tables import render_gain, render_over_runs

DOCUMENTS, BITS = 40, 1.0
RUN, PER_DOCUMENT = 0.004, 0.01
"""Standard deviations in bits per byte: of a run, and of a run on one document."""


def draw_side(draw, texts, runs, gain=0.0, *, run=RUN, per_document=PER_DOCUMENT):
    """Runs of one way of training on documents of `texts` [documents] bits per byte."""
    sizes = np.full(len(texts), 1_000)
    bits = texts - gain + draw.normal(0, run, (runs, 1)) + draw.normal(0, per_document, (runs, len(texts)))
    return [DocumentBits(row * math.log(2) * sizes, sizes) for row in bits]


def compare_drawn(seed, gain=0.0, runs=3, **spread):
    draw = np.random.default_rng(seed)
    texts = draw.normal(BITS, 0.2, DOCUMENTS)
    return compare_runs(draw_side(draw, texts, runs, gain, **spread), draw_side(draw, texts, runs, **spread))


def count_shown(pairs, **how):
    found = [compare_drawn(seed, **how) for seed in range(pairs)]
    assert all((each.p < 0.05) == (not each.low <= 0 <= each.high) for each in found), "both say the same"
    return sum(each.p < 0.05 for each in found) / pairs


def test_of_200_pairs_that_are_alike_five_in_a_hundred_differ():
    assert count_shown(200) == pytest.approx(0.05, abs=0.03)


def test_runs_that_differ_by_document_alone_give_no_more_false_alarms():
    """What is in both levels is counted once: twice, there would be next to none."""
    assert 0.01 < count_shown(150, run=0.0, per_document=0.025) <= 0.08


def test_the_seeds_that_are_said_to_show_half_a_percent_show_it():
    needed = count_seeds(Spread(RUN**2 + PER_DOCUMENT**2 / DOCUMENTS, 4, 0.0, DOCUMENTS - 1.0), 0.005 * BITS)
    assert needed == 13
    assert plan_seeds(math.hypot(RUN, PER_DOCUMENT / math.sqrt(DOCUMENTS)), BITS) == needed
    assert count_shown(50, gain=0.005, runs=needed) == pytest.approx(0.8, abs=0.12)
    assert count_shown(50, gain=0.005, runs=2) < 0.4


def test_one_side_may_have_a_single_run():
    draw = np.random.default_rng(5)
    texts = draw.normal(BITS, 0.2, DOCUMENTS)
    few, many = draw_side(draw, texts, 1), draw_side(draw, texts, 4)
    found = compare_runs(few, many)
    bits = [float(each.bits_per_byte(np.arange(DOCUMENTS))) for each in many]
    assert found.runs == (1, 4)
    assert found.run_deviation == pytest.approx(np.std(bits, ddof=1))
    assert found.baseline == pytest.approx(np.mean(bits))
    assert found.low < found.difference < found.high


def test_a_gain_that_depends_on_the_document_is_less_sure():
    """Documents are a level of their own: what one side gains on some of them is not known to hold on others."""
    draw = np.random.default_rng(6)
    texts = draw.normal(BITS, 0.2, DOCUMENTS)
    gains = draw.normal(0.05, 0.1, DOCUMENTS)
    theirs = draw_side(draw, texts, 5)
    even, uneven = (
        compare_runs(draw_side(draw, texts, 5, 0.05), theirs),
        compare_runs(draw_side(draw, texts, 5, gains), theirs),
    )
    assert uneven.high - uneven.low > 3 * (even.high - even.low)
    assert uneven.document_error == pytest.approx(gains.std() / math.sqrt(DOCUMENTS), rel=0.15)
    assert "no number of seeds" in render_gain(uneven.as_dict())[1]


def test_the_interval_of_a_mean_is_over_runs_and_texts():
    draw = np.random.default_rng(7)
    runs = draw_side(draw, draw.normal(BITS, 0.2, DOCUMENTS), 4, run=0.1)
    low, high = bound_runs(runs)
    alone = bound_bits(runs[0])
    assert high - low > alone[1] - alone[0], (
        "runs that differ much make their mean less sure than one of them on its own"
    )
    assert bound_runs([DocumentBits(each.nll[:5], each.sizes[:5]) for each in runs]) is None


def test_too_few_documents_have_no_interval():
    draw = np.random.default_rng(8)
    texts = draw.normal(BITS, 0.2, 5)
    found = compare_runs(draw_side(draw, texts, 3), draw_side(draw, texts, 3)).as_dict()
    assert [found[name] for name in ("low", "high", "p", "document_error", "seeds_needed")] == [None] * 5
    assert render_gain(found) == []


def test_what_is_said_of_a_difference():
    comparison = {"runs": ["a1", "a2", "a3"], "against": ["b1", "b2", "b3"]}
    found = compare_drawn(1, gain=0.05).as_dict()
    first, second, third = render_over_runs({**comparison, "over_runs": {"text": found}})
    assert first.startswith("a1 and 2 more less b1 and 2 more: -0.05")
    assert "(3 runs against 3, paired bootstrap over 40 documents)" in first
    assert second.startswith("More than chance: of comparisons of equally good models, fewer than 1 in 1,000 would")
    assert f"about {found['seeds_needed']} seeds a side would show 0.5% of" in third
    equal = compare_drawn(2).as_dict()
    assert render_gain(equal)[0].startswith(
        f"May be chance: of comparisons of equally good models, {100 * equal['p']:.0f} in 100"
    )


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_student_is_as_in_the_tables(freedom, quantile):
    assert find_quantile(0.95, freedom) == pytest.approx(quantile, abs=5e-5)
    assert find_share(quantile, freedom) == pytest.approx(0.95, abs=1e-5)
