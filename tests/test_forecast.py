"""The end of a training from its beginning: arithmetic on curves whose law is known."""

import math
import random

import numpy as np
import pytest

from lmtune.config import FORECAST_SHARES
from lmtune.training.forecast import (
    Ended,
    Planned,
    find_law,
    find_outside,
    fit_law,
    foretell,
    list_bounded,
    list_quantities,
    load_calibration,
    place_marks,
)


def planned(steps=400, rate=1e-3, decays=True, epochs=1.0, parameters=100_000):
    factors = tuple(1 - step / steps if decays else 1.0 for step in range(steps))
    return Planned(parameters, 512, 2.0, epochs, rate, factors)


def curve(run, share, floor=2.0, fall=0.4):
    """Scores at the marks of a probe and at the end, of a loss that falls with a power of the sum of the rates."""

    def score(step):
        return floor * (1000 * run.learning_rate * sum(run.factors[:step])) ** -fall

    return {mark: score(mark) for mark in place_marks(run.steps, share)}, score(run.steps)


def ended(run, scores, last, text):
    return Ended(text, list_quantities(run, scores), math.log(last / scores[max(scores)]))


def test_a_power_law_of_the_summed_rates_comes_back():
    draw = random.Random(0)
    runs = [planned(draw.randrange(200, 900), draw.uniform(1e-3, 8e-3), draw.random() < 0.5) for _ in range(60)]
    law = fit_law([ended(run, *curve(run, 0.12), text=str(number % 5)) for number, run in enumerate(runs[:40])])
    for run in runs[40:]:
        scores, last = curve(run, 0.12)
        found = foretell(law, run, scores)
        assert found.bits_per_byte == pytest.approx(last, rel=0.01)
        assert found.low < found.bits_per_byte < found.high


def test_nine_of_ten_lie_in_the_interval_of_noisy_curves():
    draw = np.random.default_rng(0)
    runs = [planned(int(draw.integers(200, 900)), draw.uniform(1e-3, 8e-3), draw.random() < 0.5) for _ in range(400)]
    measured = []
    for run in runs:
        scores, last = curve(run, 0.12)
        measured.append((scores, last * math.exp(draw.normal(0, 0.03))))
    law = fit_law([ended(run, *measured[place], text=str(place % 5)) for place, run in enumerate(runs[:100])])
    found = [foretell(law, run, scores) for run, (scores, _) in zip(runs[100:], measured[100:], strict=True)]
    inside = [each.low <= last <= each.high for each, (_, last) in zip(found, measured[100:], strict=True)]
    assert 0.84 <= np.mean(inside) <= 0.96


RANGES = {name: [value / 2, value * 2] for name, value in list_bounded(planned()).items()}


def test_beyond_four_epochs_nothing_is_foretold():
    run = planned(epochs=4.01)
    assert "2305.16264" in find_outside(RANGES, run, place_marks(run.steps, 0.03))
    assert find_outside(RANGES, planned(epochs=4.0), place_marks(400, 0.03)) is None


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (planned(parameters=134_515_008), "200,000 parameters, and this one has 134,515,008"),
        (planned(steps=4000), "800 steps, and this one has 4,000"),
        (planned(rate=1.0), "learning rate, and this one has 1"),
    ],
)
def test_outside_of_the_calibration_nothing_is_foretold(run, words):
    assert words in find_outside(RANGES, run, place_marks(run.steps, 0.03))


def test_a_probe_of_two_steps_shows_nothing():
    run = planned(steps=210)
    assert "too short" in find_outside(RANGES, run, place_marks(run.steps, 0.01))


def test_the_rate_of_a_run_changes_alone():
    run = planned(rate=2e-3)
    assert run.with_factor(0.5) == planned(rate=1e-3)


def test_a_share_whose_interval_did_not_hold_has_no_law():
    law = {"weights": {"one": -0.1}, "half_width": 0.1}
    calibration = {"ranges": {}, "laws": {"scratch": {"0.12": law, "0.24": law}, "continued": {}}}
    assert find_law(calibration, "scratch", 0.12) == law
    assert find_law(calibration, "scratch", 0.03) == (
        "no interval for a probe of 3% held on the runs (scratch) that it was judged on; "
        "check.forecast_share=0.12 or 0.24 has one"
    )
    assert find_law(calibration, "continued", 0.03).endswith("no other share has one")


def test_the_shipped_calibration_has_a_law_for_each_probe():
    calibration = load_calibration()
    for kind in ("scratch", "continued"):
        assert set(calibration["laws"][kind]) <= {f"{share:g}" for share in FORECAST_SHARES}
        assert set(calibration["ranges"][kind]) == set(list_bounded(planned()))
        scores, _ = curve(planned(), 0.12)
        for law in calibration["laws"][kind].values():
            assert set(law["weights"]) <= set(list_quantities(planned(), scores))
            assert law["half_width"] > 0
