"""The figure of a training: held-out and training text in bits per byte over the steps, the learning rate below.

Every figure is drawn twice, for wide and for narrow pages, and the style sheet shows one of them, so that text keeps its size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lmtune.reporting import svg
from lmtune.reporting.language import Language
from lmtune.reporting.svg import Point, Scale


@dataclass(frozen=True, slots=True)
class Frame:
    """Positions of the parts of a figure, in pixels."""

    kind: str
    """Class of the <svg> element."""
    width: float
    left: float
    right: float
    """Right edge of the plot; labels are to the right of it."""
    top: float
    bottom: float
    ticks: int
    """Ticks on the axis of steps, at most."""


WIDE = Frame("wide", 960, 42, 812, 12, 262, 8)
NARROW = Frame("narrow", 358, 32, 246, 12, 212, 3)
FRAMES = (WIDE, NARROW)
LABEL, STRIP = 15, 34
"""Height in pixels of a label's line, and of the strip of a learning rate."""
POINTS = 400
"""Points of a line, at most; a longer one keeps the highest and the lowest of neighbours."""
SMOOTHED = 80
"""Points above which the training loss is drawn with its moving average."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a figure with the label at its end."""

    points: Sequence[Point]
    """(step, value)."""
    label: str
    kind: str
    """Class in the style sheet."""


@dataclass(frozen=True, slots=True)
class Learning:
    """The data of the figure of a training."""

    curves: list[Curve]
    """The last one is drawn on top."""
    steps: int
    """The right end of the figure: steps of the whole run."""
    levels: dict[str, float] = field(default_factory=dict)
    """Dotted lines by label, such as that of a unigram model."""
    ring: Point | None = None
    resumes: Sequence[int] = ()
    rate: Sequence[Point] = ()
    """Points of the strip below."""
    strip: str = ""
    """Label of the strip, if it shows no learning rate."""
    told: str = ""
    """The figure in words."""


def render_learning(shown: Learning, language: Language) -> str:
    """The two <svg> elements, one after the other."""
    return "".join(_draw(shown, frame, language) for frame in FRAMES)


def is_beyond(level: float, curves: Sequence[Curve]) -> bool:
    """True for a level so far from the curves that showing it would flatten them."""
    values = [value for curve in curves for _, value in curve.points]
    margin = 0.6 * (max(values) - min(values)) + 0.02 * max(values)
    return not min(values) - margin <= level <= max(values) + margin


def average(points: Sequence[Point], width: int) -> list[Point]:
    """The centred moving average over up to `width` points on each side; the window shrinks towards both ends."""
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    found = []
    for place, (step, _) in enumerate(points):
        half = min(width, place, len(points) - 1 - place)
        found.append((step, (sums[place + half + 1] - sums[place - half]) / (2 * half + 1)))
    return found


def _draw(shown: Learning, frame: Frame, language: Language) -> str:
    values = [value for curve in shown.curves for _, value in curve.points] + list(shown.levels.values())
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    x = Scale(0, max(1, shown.steps), frame.left, frame.right)
    y = Scale(low - margin, high + margin, frame.bottom, frame.top)
    parts = [
        _draw_grid(y, frame, language),
        *(_draw_resume(x(step), frame, language) for step in shown.resumes),
        *(svg.line((frame.left, y(value)), (frame.right, y(value)), "level") for value in shown.levels.values()),
        *(_draw_curve(curve, x, y) for curve in shown.curves),
        _draw_ring(shown.ring, x, y),
        _draw_labels(shown, y, frame),
    ]
    height = frame.bottom
    if shown.rate:
        parts.append(_draw_rate(shown.rate, shown.strip, x, frame, language))
        height += 14 + STRIP
    parts.append(_draw_steps(x, height + 18, frame, language))
    return svg.figure(frame.width, height + 26, "".join(parts), shown.told, f"figure {frame.kind}")


def _draw_grid(y: Scale, frame: Frame, language: Language) -> str:
    ticks = svg.choose_ticks(y.low, y.high, 6)
    decimals = svg.count_decimals(ticks)
    return "".join(
        svg.line((frame.left, y(tick)), (frame.right, y(tick)), "grid")
        + svg.text(frame.left - 6, y(tick) + 4, language.number(tick, decimals), "soft", "end")
        for tick in ticks
    )


def _draw_steps(x: Scale, below: float, frame: Frame, language: Language) -> str:
    ticks = svg.choose_ticks(0, x.high, frame.ticks)
    ticks = [tick for tick in ticks if (tick == int(tick) and x(x.high) - x(tick) > 40) or tick == 0]
    numbers = [*dict.fromkeys([*ticks, x.high])]
    return "".join(
        svg.text(
            x(tick),
            below,
            f"{language.say('step')} 0" if tick == 0 else language.number(tick),
            "soft",
            "middle" if tick else "start",
        )
        for tick in numbers
    )


def _draw_curve(curve: Curve, x: Scale, y: Scale) -> str:
    places = [(x(step), y(value)) for step, value in svg.thin(curve.points, POINTS)]
    drawn = svg.polyline(places, f"curve {curve.kind}")
    if len(places) == 1:
        drawn = ""
    dots = places if (len(places) <= 30 and curve.kind == "main") or len(places) == 1 else []
    return drawn + "".join(svg.element("circle", cx=px, cy=py, r=2.5, class_=f"dot {curve.kind}") for px, py in dots)


def _draw_ring(place: Point | None, x: Scale, y: Scale) -> str:
    return "" if place is None else svg.element("circle", cx=x(place[0]), cy=y(place[1]), r=6, class_="ring")


def _draw_resume(place: float, frame: Frame, language: Language) -> str:
    label = svg.text(place + 4, frame.top + 8, language.say("resumed"), "soft")
    return svg.line((place, frame.top), (place, frame.bottom), "resume") + label


def _draw_labels(shown: Learning, y: Scale, frame: Frame) -> str:
    wanted = [(curve.points[-1][1], curve.label, f"end {curve.kind}") for curve in shown.curves if curve.label]
    wanted += [(value, label, "end soft") for label, value in shown.levels.items()]
    places = svg.spread_labels([y(value) for value, _, _ in wanted], LABEL, frame.top, frame.bottom)
    return "".join(
        svg.text(frame.right + 8, place + 4, label, kind)
        for place, (_, label, kind) in zip(places, wanted, strict=True)
    )


def _draw_rate(rate: Sequence[Point], title: str, x: Scale, frame: Frame, language: Language) -> str:
    top = frame.bottom + 14
    peak = max(value for _, value in rate) or 1.0
    y = Scale(0, peak, top + STRIP, top)
    title = title or language.say("rate", rate=language.rate(peak))
    label = svg.text(frame.right + 8, top + STRIP - 4, title, "end soft")
    return svg.area([(x(step), y(value)) for step, value in svg.thin(rate, POINTS)], top + STRIP, "rate") + label


def render_rates(groups: Sequence[Sequence[Point]], steps: int, language: Language) -> str:
    """A strip for each layer group, the lowest at the bottom, each scaled to its own peak: rates may differ a thousandfold."""
    peaks = [max(value for _, value in group) for group in groups]
    told = language.say("rates_told", n=len(groups), steps=steps, peaks=", ".join(map(language.rate, peaks)))
    return "".join(_draw_rates(groups, peaks, steps, told, frame, language) for frame in FRAMES)


def _draw_rates(
    groups: Sequence[Sequence[Point]], peaks: list[float], steps: int, told: str, frame: Frame, language: Language
) -> str:
    height, gap = 30, 8
    x = Scale(0, max(1, steps), frame.left, frame.right)
    parts = []
    for row, number in enumerate(reversed(range(len(groups)))):
        floor = frame.top + (row + 1) * height + row * gap
        y = Scale(0, peaks[number] or 1.0, floor, floor - height)
        places = [(x(step), y(value)) for step, value in svg.thin(groups[number], POINTS)]
        label = language.say("group", number=number + 1, rate=language.rate(peaks[number]))
        parts += [
            svg.line((frame.left, floor), (frame.right, floor), "grid"),
            svg.area(places, floor, "rate"),
            svg.text(frame.right + 8, floor - 4, label, "end soft"),
        ]
    bottom = frame.top + len(groups) * (height + gap)
    parts.append(_draw_steps(x, bottom + 12, frame, language))
    return svg.figure(frame.width, bottom + 20, "".join(parts), told, f"figure {frame.kind}")


def render_histogram(edges: Sequence[float], counts: Sequence[int], told: str, language: Language) -> str:
    """Bars between edges, with a line at 0 if that lies among them."""
    return "".join(_draw_histogram(edges, counts, told, frame, language) for frame in FRAMES)


def _draw_histogram(edges: Sequence[float], counts: Sequence[int], told: str, frame: Frame, language: Language) -> str:
    floor = 110.0
    x = Scale(edges[0], edges[-1], frame.left, frame.right)
    y = Scale(0, max(counts), floor, 18)
    parts = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if count:
            kind = "bar worse" if (low >= 0 and edges[0] < 0) or edges[0] >= 0 else "bar"
            width = max(1.0, x(high) - x(low) - 1)
            parts.append(svg.element("rect", x=x(low), y=y(count), width=width, height=floor - y(count), class_=kind))
            parts.append(svg.text((x(low) + x(high)) / 2, y(count) - 4, language.number(count), "soft", "middle"))
    if edges[0] < 0 < edges[-1]:
        parts.append(svg.line((x(0), 10), (x(0), floor), "resume"))
    ticks = svg.choose_ticks(edges[0], edges[-1], 3 if frame is NARROW else 7)
    decimals = svg.count_decimals(ticks)
    parts += [svg.text(x(tick), floor + 16, language.number(tick, decimals), "soft", "middle") for tick in ticks]
    parts.append(svg.line((frame.left, floor), (frame.right, floor), "grid"))
    return svg.figure(frame.width, floor + 24, "".join(parts), told, f"figure {frame.kind}")


def tokens_to_bits(points: Sequence[Point], tokens_per_byte: float) -> list[Point]:
    """From (step, nats per token) to (step, bits per byte)."""
    return [(step, loss / math.log(2) * tokens_per_byte) for step, loss in points]
