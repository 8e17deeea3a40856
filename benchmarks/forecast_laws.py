"""What benchmarks/forecast.py makes of its curves: the fit, the judgement, and other ways to tell the end from the beginning."""

import itertools
import json
import math
import statistics

import numpy as np

from lmtune.config import FORECAST_SHARES
from lmtune.evaluation.metrics import exp
from lmtune.training.forecast import (
    MOST_EPOCHS,
    Ended,
    Planned,
    find_outside,
    fit_law,
    foretell,
    list_bounded,
    list_quantities,
    place_marks,
)

KINDS = ["scratch", "continued"]
COVERED = 0.85
"""Of the judged runs, at least; a law whose interval holds less often does not ship."""
LEAST = 9
"""Fitted runs: of fewer, the largest error is less than a 90 % interval."""


class Example:
    """One run as a probe of one share sees it."""

    def __init__(self, run, share):
        factors = tuple(rate / run["rate"] for rate in run["rates"])
        sizes = run["parameters"], run["tokens_per_step"], run["bytes_per_token"], run["epochs"]
        self.run, self.planned = run, Planned(*sizes, run["rate"], factors)
        self.marks = place_marks(run["steps"], share)
        self.scores = {mark: run["scores"][str(mark)] for mark in self.marks}
        self.score, self.last = self.scores[self.marks[-1]], run["scores"][str(run["steps"])]
        self.target = math.log(self.last / self.score)

    @property
    def shows_something(self):
        return find_outside(bounds_of([self.run]), self.planned, self.marks) is None

    @property
    def ended(self):
        return Ended(self.run["text"], self.quantities, self.target)

    @property
    def quantities(self):
        return list_quantities(self.planned, self.scores)


def bounds_of(runs):
    """(least, most) of each bounded quantity over runs; of many, one at each end is left out, as one run backs nothing."""
    found = [list_bounded(Planned(run["parameters"], run["tokens_per_step"], run["bytes_per_token"], run["epochs"],
                                  run["rate"], (1.0,) * run["steps"])) for run in runs]  # fmt: skip
    cut = int(len(runs) >= LEAST)
    ordered = {name: sorted(each[name] for each in found) for name in found[0]}
    return {name: [values[cut], values[-1 - cut]] for name, values in ordered.items()}


def by_ridge(fitted, example):
    """The law that ships."""
    law = fit_law([each.ended for each in fitted])
    return foretell(law, example.planned, example.scores).bits_per_byte


def by_median(fitted, example):
    """It falls as far as the median of the fitted runs."""
    return example.score * math.exp(statistics.median(each.target for each in fitted))


def by_nearest(fitted, example):
    """It falls as far as the three fitted runs with the nearest quantities, each in units of its spread."""
    names = [name for name in example.quantities if name != "one"]
    found = np.array([[each.quantities[name] for name in names] for each in fitted])
    asked = np.array([example.quantities[name] for name in names])
    distances = (((found - asked) / (found.std(0) + 1e-9)) ** 2).sum(1)
    return example.score * math.exp(np.mean([fitted[place].target for place in np.argsort(distances)[:3]]))


def by_slope(fitted, example):
    """A power of the summed rates through the last two marks of the probe, nothing fitted to other runs."""
    sums = np.cumsum(example.planned.factors)
    (early, before), (late, score) = list(example.scores.items())[-2:]
    fall = math.log(before / score) / math.log(sums[late - 1] / sums[early - 1])
    return example.score * math.exp(-max(0.0, fall) * math.log(sums[-1] / sums[late - 1]))


def measure_drop(rates, steps, scale=2.0, power=0.5, exponent=0.5):
    """The Multi-Power Law's sum over falls of the rate up to a step, without its factor B."""
    rates = np.asarray(rates[:steps])
    falls = np.maximum(0.0, rates[:-1] - rates[1:])
    since = np.cumsum(rates[::-1])[::-1][1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = 1 - (scale * since * rates[1:] ** -exponent + 1) ** -power
    return float(np.nansum(np.where(rates[1:] > 0, falls * gains, 0.0)))


def by_multi_power(fitted, example):
    """L0 + A S^-alpha - B (sum over falls): alpha, B and L0's share of the score are shared, A goes through the probe's end."""
    best = min(MULTI_POWER, key=lambda shared: statistics.median(
        abs(math.log(apply_multi_power(each, *shared) / each.last)) for each in fitted))  # fmt: skip
    return apply_multi_power(example, *best)


MULTI_POWER = list(
    itertools.product([0.1, 0.2, 0.35, 0.5, 0.8], [0.0, 0.3, 0.5, 0.65, 0.8, 0.9], [0, 30, 100, 300, 1000])
)


def apply_multi_power(example, alpha, share, factor):
    if not hasattr(example, "sums"):
        rates, taken = example.run["rates"], example.marks[-1]
        drops = measure_drop(rates, taken), measure_drop(rates, len(rates))
        example.sums = sum(rates[:taken]), sum(rates), *drops
    begun, whole, dropped, in_all = example.sums
    floor = share * example.score
    return max(0.1, floor + (example.score + factor * dropped - floor) * (whole / begun) ** -alpha - factor * in_all)


WAYS = {
    "as the median fitted run": by_median,
    "three nearest runs": by_nearest,
    "power law through the probe": by_slope,
    "Multi-Power Law, shared constants": by_multi_power,
    "ridge (ships)": by_ridge,
}


def split(runs, kind, share):
    """(fitted, judged) examples of a kind whose probe shows something."""
    examples = [Example(run, share) for run in runs if run["kind"] == kind and run["epochs"] <= MOST_EPOCHS]
    shown = [each for each in examples if each.shows_something]
    return tuple([each for each in shown if each.run["side"] == side] for side in ("fitted", "judged"))


def judge(law, judged):
    """Coverage, error and width of a law on runs that it has not seen."""
    found = [foretell(law, each.planned, each.scores) for each in judged]
    inside = [each.low <= example.last <= each.high for each, example in zip(found, judged, strict=True)]
    errors = [abs(each.bits_per_byte / example.last - 1) for each, example in zip(found, judged, strict=True)]
    return {
        "runs": len(judged),
        "inside": sum(inside),
        "error": statistics.median(errors),
        "largest": max(errors),
        "found": found,
    }


def render_calibration(runs, place):
    """Fit and judge, write forecast.json and forecast.svg where `place` says; return the tables as Markdown."""
    laws, lines = {kind: {} for kind in KINDS}, []
    lines += [
        "| run | probe | judged | inside | coverage | median error | largest | half-width |",
        "|---|" + "---:|" * 7,
    ]
    panels = []
    for kind, share in itertools.product(KINDS, FORECAST_SHARES):
        fitted, judged = split(runs, kind, share)
        law = fit_law([each.ended for each in fitted])
        verdict = judge(law, judged)
        if len(fitted) >= LEAST and verdict["inside"] >= COVERED * len(judged):
            laws[kind][f"{share:g}"] = law
        panels.append((kind, share, judged, verdict["found"]))
        lines.append(
            f"| {kind} | {share:.0%} | {verdict['runs']} | {verdict['inside']} | {verdict['inside'] / verdict['runs']:.0%} | "
            f"{verdict['error']:.1%} | {verdict['largest']:.1%} | {exp(law['half_width']) - 1:.1%} |"
        )
    ranges = {kind: bounds_of([run for run in runs if run["kind"] == kind]) for kind in KINDS}
    place("forecast.json").write_text(json.dumps({"ranges": ranges, "laws": laws}, indent=1) + "\n", "utf-8")
    draw(panels, place("forecast.svg"))
    return "\n".join([*lines, "", *compare(runs)])


def compare(runs):
    """Median errors of each way on the judged runs."""
    lines = ["| way, median error | " + " | ".join(f"{kind[:4]} {share:.0%}" for kind, share in
             itertools.product(KINDS, FORECAST_SHARES)) + " |", "|---|" + "---:|" * 2 * len(FORECAST_SHARES)]  # fmt: skip
    parts = [split(runs, kind, share) for kind, share in itertools.product(KINDS, FORECAST_SHARES)]
    for name, way in WAYS.items():
        errors = [
            statistics.median(abs(way(fitted, each) / each.last - 1) for each in judged) for fitted, judged in parts
        ]
        lines.append(f"| {name} | " + " | ".join(f"{error:.1%}" for error in errors) + " |")
    return lines


def draw(panels, file):
    """What was foretold against what came, with the intervals."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 * len(FORECAST_SHARES), 6.2), layout="constrained")
    FigureCanvasSVG(figure)
    grid = figure.subplots(len(KINDS), len(FORECAST_SHARES), sharex="row", sharey="row", squeeze=False)
    for axes, (kind, share, judged, found) in zip(grid.flat, panels, strict=True):
        came, told = [each.last for each in judged], [each.bits_per_byte for each in found]
        widths = [[each.bits_per_byte - each.low for each in found], [each.high - each.bits_per_byte for each in found]]
        axes.errorbar(came, told, widths, fmt="o", markersize=3, linewidth=0.8, color="#1f6feb", ecolor="#9aa4b2")
        axes.plot([min(came), max(came)], [min(came), max(came)], color="#444444", linewidth=0.8)
        axes.set_title(f"{kind}, probe of {share:.0%}", fontsize=9)
        axes.tick_params(labelsize=8)
    figure.supxlabel("bits per byte measured at the end of judged runs", fontsize=9)
    figure.supylabel("foretold, with the 90 % interval", fontsize=9)
    figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None})
