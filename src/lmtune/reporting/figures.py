"""Curves as self-contained SVG text for a page, in the colour of the text around it."""

import io
import re
from collections.abc import Sequence

INK = "#010203"
"""Drawn in a colour no one else uses, then replaced by the page's own, so that dark pages work."""


def render_curve(
    steps: Sequence[float],
    values: Sequence[float],
    title: str,
    identity: str,
    below: str = "step",
    scale: str = "linear",
) -> str:
    """One curve over steps as an <svg> element; `identity` keeps its ids apart from those of other figures.

    below: what the horizontal axis counts; scale: linear or log.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.plot(list(steps), list(values), color=INK, linewidth=1.6, marker="o" if len(steps) < 30 else "", markersize=3)
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xscale(scale)
    axes.set_xlabel(below, fontsize=9, color=INK)
    axes.tick_params(colors=INK, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _embed(buffer.getvalue(), identity)


def _embed(svg: str, identity: str) -> str:
    body = svg[svg.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r'id="([^"]+)"', rf'id="{identity}-\1"', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{identity}-", body)
    return re.sub(r'width="[^"]+pt" height="[^"]+pt"', 'role="img"', body, count=1)
