"""Learning rates and momentum by phase, each a pure function of the step: nothing to save, nothing to go wrong on resume.

The one-cycle of fastai v2 (Smith 2018, arXiv:1803.09820; fastai/callback/schedule.py, `fit_one_cycle`): the rate rises from
peak / div to the peak in the first `pct_start` of a phase and falls to peak / div_final in the rest, both along a cosine;
momentum goes the other way.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from lmtune.config import FinetuneConfig, PhaseConfig

BETA = 0.9
"""Weight of the mean so far in a smoothed loss."""


class Phase(NamedTuple):
    """A stretch of steps in which the same parameters learn."""

    first: int
    """Its first step, counted from 0."""
    steps: int
    lowest_group: int
    """Layer groups from this one upwards learn."""
    peaks: tuple[float, ...]
    """[groups] highest learning rates, those of frozen groups among them."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All phases of a run, end to end."""

    phases: tuple[Phase, ...]
    pct_start: float
    div: float
    div_final: float
    momentum: tuple[float, float]
    """At the lowest rates, and at the highest."""

    @property
    def steps(self) -> int:
        return self.phases[-1].first + self.phases[-1].steps

    def phase_at(self, step: int) -> Phase:
        """The phase that `step` belongs to; beyond the end, the last one."""
        firsts = [phase.first for phase in self.phases]
        return self.phases[bisect.bisect_right(firsts, step) - 1]

    def rates(self, step: int) -> list[float]:
        """[groups] learning rates with which step number `step`, from 0, is taken; 0 for frozen groups."""
        phase = self.phase_at(step)
        part = _part(phase, step)
        return [
            two_cosines(part, self.pct_start, peak / self.div, peak, peak / self.div_final)
            if number >= phase.lowest_group
            else 0.0
            for number, peak in enumerate(phase.peaks)
        ]

    def momentum_at(self, step: int) -> float:
        """Adam's first beta at that step."""
        high, low = self.momentum
        return two_cosines(_part(self.phase_at(step), step), self.pct_start, high, low, high)

    def describe(self, step: int) -> dict[str, float]:
        """The rate of each group and the momentum at that step, as they are logged."""
        rates = {f"learning_rate_group_{number}": rate for number, rate in enumerate(self.rates(step))}
        return {**rates, "momentum": self.momentum_at(step)}


def build_timeline(config: FinetuneConfig, groups: int, steps_per_epoch: int) -> Timeline:
    """The timeline of finetune=gradual for a model with `groups` layer groups."""
    edges = [0, *(math.ceil(epochs * steps_per_epoch) for epochs in accumulate(p.epochs for p in config.phases))]
    phases = tuple(
        Phase(first, after - first, max(0, groups - phase.groups), spread(phase, groups))
        for phase, first, after in zip(config.phases, edges[:-1], edges[1:], strict=True)
        if after > first
    )
    return Timeline(phases, config.pct_start, config.div, config.div_final, (config.momentum[0], config.momentum[1]))


def spread(phase: PhaseConfig, groups: int) -> tuple[float, ...]:
    """[groups] peak rates, equal ratios from the lowest to the highest, as fastai's slice(lowest, highest)."""
    if phase.lowest_learning_rate is None or groups == 1:
        return (phase.learning_rate,) * groups
    ratio = (phase.learning_rate / phase.lowest_learning_rate) ** (1 / (groups - 1))
    return tuple(phase.lowest_learning_rate * ratio**number for number in range(groups))


def two_cosines(part: float, turn: float, start: float, middle: float, end: float) -> float:
    """From `start` to `middle` while part goes from 0 to `turn`, then to `end` at 1, each half a cosine."""
    if part < turn:
        return cosine(start, middle, part / turn)
    return cosine(middle, end, (part - turn) / (1 - turn)) if turn < 1 else middle


def cosine(start: float, end: float, part: float) -> float:
    """Half a cosine from `start` at 0 to `end` at 1."""
    return start + (1 - math.cos(math.pi * part)) / 2 * (end - start)


def exponential(step: int, steps: int, start: float, end: float) -> float:
    """Equal ratios from `start` at step 0 to `end` at the last of `steps`."""
    return start * (end / start) ** (step / max(1, steps - 1))


def smooth(losses: Sequence[float]) -> list[float]:
    """[steps] exponential mean, corrected for its start at 0 (Kingma, Ba 2014, arXiv:1412.6980, section 3)."""
    mean, smoothed = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = BETA * mean + (1 - BETA) * loss
        smoothed.append(mean / (1 - BETA**number))
    return smoothed


def suggest_rates(rates: Sequence[float], losses: Sequence[float]) -> dict[str, float]:
    """From an LR range test to rates worth trying (Smith 2017, arXiv:1506.01186; fastai's `lr_find`).

    losses: [steps] smoothed. steepest: where the loss falls fastest over the logarithm of the rate; minimum_tenth: a tenth of
    the rate at the lowest loss.
    """
    lowest = min(range(len(losses)), key=losses.__getitem__)
    slopes = [
        (losses[i + 1] - losses[i]) / (math.log(rates[i + 1]) - math.log(rates[i]))
        for i in range(max(1, min(lowest + 1, len(losses) - 1)))
    ]
    steepest = min(range(len(slopes)), key=slopes.__getitem__)
    return {"steepest": rates[steepest], "minimum_tenth": rates[lowest] / 10}


def _part(phase: Phase, step: int) -> float:
    return min(1.0, (step - phase.first) / phase.steps)
