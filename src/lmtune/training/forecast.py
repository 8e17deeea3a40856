"""The end of a training from its beginning: arithmetic alone, with constants that benchmarks/forecast.py has fitted.

The logarithm of (last score / score at the end of the probe) is taken to be linear in what laws of whole loss curves are made of:
the sum of the learning rates, of the run and of the probe, and how far the rate falls in the end (Multi-Power Law, Luo et al. 2025,
arXiv:2503.12811), how far the score has fallen, size and tokens. Ridge regression over small runs gives the weights, for models
from scratch and for continued ones by themselves, since those come from another curve (Wang et al. 2025, arXiv:2505.07796); the
errors on texts that a fit left out give the interval.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import NamedTuple, TypedDict

import numpy as np

from lmtune.evaluation.metrics import exp

MOST_EPOCHS = 4.0
"""Beyond, text that is read again teaches less and less (Muennighoff et al. 2023, arXiv:2305.16264)."""
PARTS = (0.5, 1.0)
"""Fractions of a probe after which the held-out text is scored."""
LEAST_STEPS = 3
"""Steps before the first score of a probe, at least."""
ENDING = 10
"""The end of a run is its last 1/ENDING."""
COVERAGE = 0.9
"""Coverage of the interval."""
RIDGE = 1.0
"""Weight of the L2 penalty, for standardised quantities."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The quantities of a run that are known before it starts."""

    parameters: int
    tokens_per_step: int
    bytes_per_token: float
    """Bytes per token of the held-out text."""
    epochs: float
    learning_rate: float
    factors: tuple[float, ...]
    """[steps] of the learning rate, over the whole run."""

    @property
    def steps(self) -> int:
        return len(self.factors)

    def with_factor(self, factor: float) -> "Planned":
        """The same run with another learning rate."""
        return replace(self, learning_rate=factor * self.learning_rate)


class Forecast(NamedTuple):
    """Held-out bits per byte at the end of a run."""

    bits_per_byte: float
    low: float
    """The true value lies between low and high in 9 of 10 runs like those of the calibration."""
    high: float


class Law(TypedDict):
    """Fitted constants for probes of one share."""

    weights: dict[str, float]
    """Coefficients by quantity; `one` is the constant term."""
    half_width: float
    """Half the width of the 90 % interval, in the logarithm."""


class Calibration(TypedDict):
    """forecast.json: what was fitted, and between which bounds."""

    ranges: dict[str, dict[str, list[float]]]
    """Kind of run (scratch, continued) to quantity to (least, most) over the runs."""
    laws: dict[str, dict[str, Law]]
    """Kind of run to share of the steps that a probe takes, where the interval held on the judged runs."""


def load_calibration() -> Calibration:
    """The constants that are shipped."""
    text = files("lmtune.training").joinpath("forecast.json").read_text("utf-8")
    return json.loads(text)


def find_law(calibration: Calibration, kind: str, share: float) -> Law | str:
    """The law of a kind of run and a share of its steps, or why there is none."""
    laws = calibration["laws"][kind]
    if f"{share:g}" in laws:
        return laws[f"{share:g}"]
    known = f"check.forecast_share={' or '.join(laws)} has" if laws else "no other share has"
    return f"no interval for a probe of {share:.0%} held on the runs ({kind}) that it was judged on; {known} one"


def place_marks(steps: int, share: float) -> list[int]:
    """[PARTS] the steps of a probe after which the held-out text is scored; the last one is the probe's length."""
    return [max(1, round(part * share * steps)) for part in PARTS]


def list_quantities(planned: Planned, scores: Mapping[int, float]) -> dict[str, float]:
    """What the law is linear in. scores: bits per byte after each of `place_marks`."""
    (_, middle), (taken, score) = sorted(scores.items())
    factors, ending = planned.factors, max(1, planned.steps // ENDING)
    return {
        "one": 1.0,
        "rates to come": math.log(sum(factors) / sum(factors[:taken])),
        "rates": math.log(planned.learning_rate * sum(factors)),
        "annealed": 1 - sum(factors[-ending:]) / ending / max(factors),
        "fall": math.log(middle / score),
        "score": math.log(score),
        "parameters": math.log(planned.parameters),
        "tokens": math.log(planned.steps * planned.tokens_per_step),
        "bytes per token": math.log(planned.bytes_per_token),
    }


def foretell(law: Law, planned: Planned, scores: Mapping[int, float]) -> Forecast:
    """The last score of a run, from those of its probe."""
    quantities, last = list_quantities(planned, scores), scores[max(scores)]
    middle = math.log(last) + sum(weight * quantities[name] for name, weight in law["weights"].items())
    return Forecast(*(exp(middle + side * law["half_width"]) for side in (0, -1, 1)))


class Ended(NamedTuple):
    """A run that has come to its end, for a fit."""

    text: str
    """Its name."""
    quantities: Mapping[str, float]
    fall: float
    """Logarithm of the last score over that of the probe."""


def fit_law(runs: Sequence[Ended]) -> Law:
    """The constants of runs that have ended.

    The interval is as wide as the errors on each text of a fit to the runs on all others: that of which 9 of 10 are less, counted
    as if one more run had the largest (jackknife, Barber et al. 2021, arXiv:1905.02928).
    """
    names = [name for name in runs[0].quantities if name != "one"]
    found = np.array([[run.quantities[name] for name in names] for run in runs])
    falls, texts = np.array([run.fall for run in runs]), np.array([run.text for run in runs])
    errors: list[float] = []
    for text in dict.fromkeys(texts.tolist()):
        weights = _solve(found[texts != text], falls[texts != text])
        errors += np.abs(falls[texts == text] - weights[0] - found[texts == text] @ weights[1:]).tolist()
    place = min(len(errors), math.ceil(COVERAGE * (len(errors) + 1)))
    weights = _solve(found, falls)
    return {
        "weights": dict(zip(["one", *names], weights.tolist(), strict=True)),
        "half_width": sorted(errors)[place - 1],
    }


def _solve(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[1 + quantities] weights of a ridge regression, the constant term first and not penalised. found: [runs, quantities]."""
    mean, spread = found.mean(0), found.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    units = (found - mean) / spread
    slopes = (
        np.linalg.solve(units.T @ units + RIDGE * np.eye(units.shape[1]), units.T @ (wanted - wanted.mean())) / spread
    )
    return np.concatenate([[wanted.mean() - mean @ slopes], slopes])


def list_bounded(planned: Planned) -> dict[str, float]:
    """The quantities whose range a calibration records, by the names that messages use."""
    return {
        "parameters": planned.parameters,
        "steps": planned.steps,
        "tokens per step": planned.tokens_per_step,
        "learning rate": planned.learning_rate,
        "bytes per token": planned.bytes_per_token,
    }


def find_outside(ranges: Mapping[str, Sequence[float]], planned: Planned, marks: Sequence[int]) -> str | None:
    """Why this run is outside of what was calibrated; None if it is inside."""
    if planned.epochs > MOST_EPOCHS:
        return (
            f"{planned.epochs:.3g} epochs are planned: text that is read more than {MOST_EPOCHS:.0f} times teaches less each time "
            "(arXiv:2305.16264), which the first steps do not show"
        )
    for name, value in list_bounded(planned).items():
        least, most = ranges[name]
        if not least <= value <= most:
            between = f"{_render(least)} to {_render(most)}"
            return f"it is calibrated on runs of {between} {name}, and this one has {_render(value)}"
    if marks[0] < LEAST_STEPS or not sum(planned.factors[: marks[0]]):
        return f"a probe of {marks[-1]} of {planned.steps:,} steps is too short to show how fast the loss falls"
    return None


def _render(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
