"""Progress as text: bars, sparklines, amounts, and lines that fit a width."""

import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Glyphs(NamedTuple):
    """Characters to draw with."""

    done: str
    rest: str
    levels: str
    """Signs for levels, from low to high."""


HARMLESS: dict[int, str | int | None] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys([*range(0x80, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "·"),
    **dict.fromkeys([*range(0xD800, 0xE000), 0xFFFD], "·"),
}
"""Replacements for control characters, marks that change the direction of writing, lone surrogates, and U+FFFD."""

FINE = Glyphs("━", "╌", "▁▂▃▄▅▆▇█")
ASCII = Glyphs("#", "-", "_.-~=+*#")
"""Glyphs for a terminal whose encoding lacks the others."""


class Unit(NamedTuple):
    """A unit of what is counted."""

    name: str
    size: float = 1.0
    """The amount that makes one unit."""
    digits: int = 0

    def render(self, amount: float) -> str:
        """`1,234` or `5.6`."""
        return f"{amount / self.size:,.{self.digits}f}"

    def render_part(self, done: float, total: float | None) -> str:
        """`68.0 of 110.0 MB`, or `68.0 MB` if the total is not known."""
        whole = f" of {self.render(total)}" if total else ""
        return f"{self.render(done)}{whole} {self.name}"


MEGABYTES = Unit("MB", 1e6, 1)
TOKENS = Unit("tokens")


def choose_glyphs(encoding: str) -> Glyphs:
    """The glyphs that an encoding can represent."""
    try:
        "".join(FINE).encode(encoding)
    except (UnicodeError, LookupError):
        return ASCII
    return FINE


def render_bar(share: float, width: int, glyphs: Glyphs = FINE) -> str:
    """A bar of `width` characters. share: from 0 to 1."""
    full = int(min(1.0, max(0.0, share)) * width)
    return glyphs.done * full + glyphs.rest * (width - full)


def render_moving_bar(seconds: float, width: int, glyphs: Glyphs = FINE) -> str:
    """A bar for work of unknown length: a block that moves to and fro, four characters per second."""
    block = max(1, width // 4)
    way = width - block
    place = int(seconds * 4) % (2 * way) if way else 0
    start = min(place, 2 * way - place)
    return glyphs.rest * start + glyphs.done * block + glyphs.rest * (way - start)


def render_curve(values: Sequence[float], width: int, glyphs: Glyphs = FINE) -> str:
    """A sparkline of at most `width` characters, each the mean of an equal share of the values, scaled from lowest to highest."""
    if not values:
        return ""
    count = min(width, len(values))
    bounds = [round(place * len(values) / count) for place in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds)]
    low, high = min(means), max(means)
    top = len(glyphs.levels) - 1
    return "".join(glyphs.levels[round(top * (mean - low) / (high - low)) if high > low else 0] for mean in means)


def render_clock(seconds: float) -> str:
    """`0:07`, `12:34`, `3:05:06`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def join_fitting(parts: Iterable[str], width: int) -> str:
    """Join the parts that fit into `width` columns by two spaces; earlier parts take precedence."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line and part else line + part
        if measure_width(longer) <= width:
            line = longer
    return line


def measure_width(text: str) -> int:
    """Terminal columns of a text: two for a wide (East Asian) character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def cut_to(text: str, width: int) -> str:
    """The beginning of a text that fits into `width` columns."""
    while measure_width(text) > width:
        text = text[:-1]
    return text


def make_harmless(text: str) -> str:
    """Make untrusted text, such as a model's, safe to show in a terminal."""
    return text.translate(HARMLESS)
