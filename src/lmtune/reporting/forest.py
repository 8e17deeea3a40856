"""A forest plot: one row a run, its number as a point and its interval as a line, all on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmtune.reporting import svg
from lmtune.reporting.language import Language
from lmtune.reporting.learning import FRAMES, NARROW, Frame
from lmtune.reporting.svg import Scale

ROW = 26
"""Pixels of a row; on a narrow page the label stands above its line."""
LABEL = 330
"""Pixels of the column of labels on a wide page."""
CHARS = {False: 46, True: 50}
"""Characters of a label, on a wide and on a narrow page."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    kind: str = "main"
    """Class of its colour in the style sheet."""


def render_forest(rows: Sequence[Row], told: str, language: Language, decimals: int = 4) -> str:
    """The two <svg> elements, for wide and for narrow pages. told: what they show, in words; decimals: of the numbers beside."""
    return "".join(_draw(rows, told, frame, language, decimals) for frame in FRAMES)


def _draw(rows: Sequence[Row], told: str, frame: Frame, language: Language, decimals: int) -> str:
    narrow = frame is NARROW
    height = ROW * (2 if narrow else 1)
    values = [value for row in rows for value in (row.value, *(row.interval or ()))]
    margin = 0.05 * (max(values) - min(values)) or 0.01 * abs(max(values)) or 1.0
    left, right = (12.0, frame.width - 74) if narrow else (float(LABEL), frame.width - 90)
    x = Scale(min(values) - margin, max(values) + margin, left, right)
    bottom = frame.top + height * len(rows)
    parts = [_draw_grid(x, frame.top, bottom, 3 if narrow else 7, language)]
    for place, row in enumerate(rows):
        middle = frame.top + height * place + height * (0.72 if narrow else 0.5)
        label = (
            row.label if len(row.label) <= CHARS[narrow] else row.label[: CHARS[narrow] - 1] + "\N{HORIZONTAL ELLIPSIS}"
        )
        parts += [
            svg.text(0, middle - (16 if narrow else -4), label),
            *(
                [svg.line((x(row.interval[0]), middle), (x(row.interval[1]), middle), f"curve {row.kind}")]
                if row.interval
                else []
            ),
            svg.element("circle", cx=x(row.value), cy=middle, r=4.5, class_=f"dot {row.kind}"),
            svg.text(right + 8, middle + 4, language.number(row.value, decimals), f"end {row.kind}"),
        ]
    return svg.figure(frame.width, bottom + 24, "".join(parts), told, f"figure {frame.kind}")


def _draw_grid(x: Scale, top: float, bottom: float, most: int, language: Language) -> str:
    ticks = svg.choose_ticks(x.low, x.high, most)
    decimals = svg.count_decimals(ticks)
    return "".join(
        svg.line((x(tick), top), (x(tick), bottom), "grid")
        + svg.text(x(tick), bottom + 16, language.number(tick, decimals), "soft", "middle")
        for tick in ticks
    )
