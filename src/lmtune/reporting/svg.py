"""Building blocks of figures, all pure: SVG elements as text, scales, ticks, and labels that do not overlap.

Colours come from classes in the style sheet of base.html.j2, so that a figure follows light and dark. Lengths are pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    """Pixels of `low`."""
    end: float
    """Pixels of `high`."""

    def __call__(self, value: float) -> float:
        width = self.high - self.low
        part = (value - self.low) / width if width else 0.5
        return self.start + part * (self.end - self.start)


def element(name: str, content: str = "", **attributes: object) -> str:
    """`<name ...>content</name>`. `class_` is class, and `_` in other names is `-`; content is markup already."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_render_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Words at a place; anchor: start, middle or end."""
    return element("text", escape(words), x=x, y=y, class_=kind or None, text_anchor=anchor)


def line(start: Point, end: Point, kind: str) -> str:
    """A straight line."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=kind)


def polyline(points: Sequence[Point], kind: str) -> str:
    """Lines from point to point."""
    return element("polyline", points=_render_points(points), class_=kind)


def area(points: Sequence[Point], floor: float, kind: str) -> str:
    """The area between points and a horizontal line below them."""
    edge = [(points[0][0], floor), *points, (points[-1][0], floor)]
    return element("polygon", points=_render_points(edge), class_=kind)


def figure(width: float, height: float, body: str, told: str, kind: str) -> str:
    """The <svg> element. told: what it shows, in words, for those who cannot see it."""
    return element("svg", body, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=told, class_=kind)


def choose_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round values in [low, high]: 1, 2 or 5 times a power of ten apart."""
    width = high - low
    if width <= 0 or most < 1:
        return [low]
    size = 10 ** math.floor(math.log10(width / most))
    step = next(size * factor for factor in (1, 2, 5, 10, 20) if width / (size * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)][:most]


def count_decimals(ticks: Sequence[float]) -> int:
    """Decimals needed to tell ticks apart."""
    step = min((after - before for before, after in pairwise(ticks)), default=1.0)
    return max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0


def spread_labels(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels, at least `gap` apart and in their order, as near to those wanted as low and high allow."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    found: list[float] = []
    for number in order:
        found.append(max(places[number], low, *(place + gap for place in found[-1:])))
    above = high
    for place in range(len(found) - 1, -1, -1):
        found[place] = min(found[place], above)
        above = found[place] - gap
    settled = dict(zip(order, found, strict=True))
    return [settled[number] for number in range(len(places))]


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` points: of each run of neighbours the lowest and the highest, the first and the last always."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most / 2))
    kept = [points[0]]
    for start in range(0, len(points), size):
        piece = points[start : start + size]
        ends = {min(piece, key=lambda point: point[1]), max(piece, key=lambda point: point[1])}
        kept += [point for point in piece if point in ends and point != kept[-1]]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _render_points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _render_attribute(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
