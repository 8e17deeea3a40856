"""report.html: one self-contained page for a run."""

from pathlib import Path
from typing import Any

from lmtune.reporting.columns import list_columns, render_evaluated, render_seen, render_texts
from lmtune.reporting.figures import render_curve
from lmtune.storage import render_number

CURVES = {"loss": "training loss", "eval_loss": "held-out loss", "eval_bits_per_byte": "held-out bits per byte"}


def render_report(
    run: str,
    results: dict[str, Any],
    ledger: dict[str, Any],
    metrics: list[dict[str, Any]],
    samples: list[dict[str, str]],
    config: str,
) -> str:
    """The page as HTML. Text from files and models is escaped; nothing is fetched when it is opened."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters |= {
        "number": render_number,
        "columns": list_columns,
        "texts": render_texts,
        "evaluated": render_evaluated,
        "seen": render_seen,
    }
    return pages.get_template("report.html.j2").render(
        run=run,
        results=results,
        ledger=ledger,
        samples=samples,
        config=config,
        figures=_render_figures(metrics, _say_text(results)),
    )


def _say_text(results: dict[str, Any]) -> str:
    """Behind the title of a held-out curve: how much text its points are of."""
    measures = next(iter(results["eval"].values()), None)
    return "" if measures is None else f" ({render_evaluated(measures)})"


def _render_figures(metrics: list[dict[str, Any]], text: str) -> list[str]:
    figures = []
    for key, title in CURVES.items():
        points = [(line["step"], line[key]) for line in metrics if key in line]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            whole = title + text if key.startswith("eval_") else title
            figures.append(render_curve(steps, values, whole, identity=key))
    return figures
