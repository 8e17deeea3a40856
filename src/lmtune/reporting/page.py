"""report.html: one self-contained page for a run."""

from functools import cache
from typing import TYPE_CHECKING

from lmtune.measures import BITS_PER_BYTE, BY_EVALUATION, LOSS, REPORTED
from lmtune.reporting.columns import list_columns, render_evaluated, render_seen, render_texts
from lmtune.reporting.figures import render_curve
from lmtune.storage import Record, render_number

if TYPE_CHECKING:
    from jinja2 import Template

CURVES = {
    LOSS.name: f"training {LOSS.label}",
    **{f"eval_{measure.name}": f"held-out {measure.label}" for measure in (LOSS, BITS_PER_BYTE)},
}
"""Titles by the keys of metrics.jsonl."""


def render_report(
    run: str,
    results: Record,
    ledger: Record,
    metrics: list[Record],
    samples: list[dict[str, str]],
    config: str,
) -> str:
    """The page as HTML. Text from files and models is escaped; nothing is fetched when it is opened."""
    return _load_template().render(
        run=run,
        results=results,
        ledger=ledger,
        samples=samples,
        config=config,
        figures=_render_figures(metrics, _say_text(results)),
    )


@cache
def _load_template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("lmtune.reporting", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters |= {
        "number": render_number,
        "columns": list_columns,
        "texts": render_texts,
        "evaluated": render_evaluated,
        "seen": render_seen,
    }
    pages.globals |= {"reported": REPORTED, "by_evaluation": BY_EVALUATION}
    return pages.get_template("report.html.j2")


def _say_text(results: Record) -> str:
    """Behind the title of a held-out curve: how much text its points are of."""
    measures = next(iter(results["eval"].values()), None)
    return "" if measures is None else f" ({render_evaluated(measures)})"


def _render_figures(metrics: list[Record], text: str) -> list[str]:
    figures = []
    for key, title in CURVES.items():
        points = [(line["step"], line[key]) for line in metrics if key in line]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            whole = title + text if key.startswith("eval_") else title
            figures.append(render_curve(steps, values, whole, identity=key))
    return figures
