"""What all pages share: the style sheet and the templates. A page is one file that fetches nothing when it is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune import __version__
from lmtune.reporting.language import Language

if TYPE_CHECKING:
    from jinja2 import Template

GENERATOR = '<meta name="generator" content="lmtune">'
"""Near the beginning of each page; identifies it as lmtune's."""
REFRESH = 20
"""Seconds after which the page of an unfinished run reloads."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline number with its notes."""

    label: str
    value: str
    before: str = ""
    change: str = ""
    better: bool = True
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A row with one value, or with an earlier and a later one, on the scale of its table."""

    name: str
    after: str
    before: str = ""
    note: str = ""
    change: str = ""
    rose: bool = False
    places: tuple[float, float] = (0.0, 0.0)
    """Places of both values, in percent of the track."""


def is_own_page(file: Path) -> bool:
    """True for a file that is a page of lmtune's, which a new one may replace."""
    return GENERATOR in file.read_text(encoding="utf-8", errors="replace")[:1000]


def render_page(template: str, language: Language, title: str, *, runs: bool = False, **values: object) -> str:
    """A page as HTML. template: a file here that extends base.html.j2; runs: the page reloads, as it is being rewritten.

    Text in `values` is escaped, except for the markup of figures, which templates mark as safe.
    """
    refresh = REFRESH if runs else None
    return _load_template(template).render(
        language=language, say=language.say, title=title, refresh=refresh, version=__version__, **values
    )


def build_spans(
    rows: Sequence[tuple[str, str, float | None, float]], language: Language, decimals: int = 3
) -> list[Span]:
    """Rows of (name, note, value before or None, value after) on one scale."""
    values = [value for _, _, before, after in rows for value in (before, after) if value is not None]
    margin = 0.05 * (max(values) - min(values)) or 0.1
    low, width = min(values) - margin, max(values) - min(values) + 2 * margin

    def place(value: float) -> float:
        return 100 * (value - low) / width

    return [
        Span(
            name,
            note=note,
            after=language.number(after, decimals),
            before="" if before is None else language.number(before, decimals),
            change="" if before is None else language.change(before, after),
            rose=before is not None and after > before,
            places=(place(after if before is None else before), place(after)),
        )
        for name, note, before, after in rows
    ]


@cache
def _load_template(name: str) -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lmtune.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
