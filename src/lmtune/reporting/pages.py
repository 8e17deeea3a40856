"""What all pages share: the style sheet and the templates. A page is one file that fetches nothing when it is opened."""

from functools import cache
from typing import TYPE_CHECKING

from lmtune import __version__
from lmtune.reporting.language import Language

if TYPE_CHECKING:
    from jinja2 import Template

REFRESH = 20
"""Seconds after which the page of a run that goes on is loaded anew."""


def render_page(template: str, language: Language, title: str, *, runs: bool = False, **values: object) -> str:
    """A page as HTML. template: a file here that extends base.html.j2; runs: it is loaded anew, as it is being rewritten.

    Text in `values` is escaped, markup of figures excepted, which templates mark as safe.
    """
    refresh = REFRESH if runs else None
    return _load_template(template).render(
        language=language, say=language.say, title=title, refresh=refresh, version=__version__, **values
    )


def build_span(before: float | None, after: float, low: float, high: float) -> dict[str, float]:
    """Where two values stand on a track from low to high, in percent; of one value alone, where that stands."""
    width = (high - low) or 1.0
    places = [100 * (value - low) / width for value in (after if before is None else before, after)]
    return {"from": places[0], "to": places[1], "start": min(places), "width": abs(places[1] - places[0])}


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
