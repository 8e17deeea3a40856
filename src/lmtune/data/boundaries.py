"""Where one document of a text ends and the next starts, by the rule of data.documents."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from lmtune.config import DocumentRule
from lmtune.data.columns import count_utf8

WIKITEXT_TITLE = re.compile(r"^ = [^=\n](?:[^\n]*[^=\n])? = *$", re.MULTILINE)
BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")


def split_text(pieces: Iterable[str], rule: DocumentRule, left: Counter[str] | None = None) -> Iterator[str]:
    """Documents of a text that comes in pieces, by rule; line ends around each are not part of it.

    left: counts the bytes of those line ends, and of blank lines.
    """
    left = Counter() if left is None else left
    if rule is DocumentRule.file:
        text = "".join(pieces)
        yield from _count_edges(text, [text.strip("\n")], left, is_last=True)
        return
    rest = ""
    for piece in pieces:
        rest += piece
        edge = _find_last_edge(rest, rule)
        if edge is not None:
            yield from _count_edges(rest[: edge[1]], _split(rest[: edge[0]], rule), left)
            rest = rest[edge[1] :]
    yield from _count_edges(rest, _split(rest, rule), left, is_last=True)


def _count_edges(text: str, documents: list[str], left: Counter[str], is_last: bool = False) -> list[str]:
    """The documents; counts what of the text is in none of them: a line end behind each, the last perhaps without, and blanks."""
    line_ends = sum(map(bool, documents))
    if is_last and documents and documents[-1] and not text.endswith("\n"):
        line_ends -= 1
    around = len(text) - sum(map(len, documents))
    if around > line_ends and not text.isascii():  # blank lines before the first article may hold any white space
        around = count_utf8(text) - sum(map(count_utf8, documents))
    left["line_ends"] += line_ends
    left["blank_lines"] += around - line_ends
    return documents


def _find_last_edge(text: str, rule: DocumentRule) -> tuple[int, int] | None:
    """(end, start) of the last two documents that are separate whatever text follows; None where there are none."""
    if rule is DocumentRule.blank_line:
        apart = [match.span() for match in BLANK_LINES.finditer(text) if match.end() < len(text)]
    elif rule is DocumentRule.wikitext:
        titles = [match for match in WIKITEXT_TITLE.finditer(text) if match.start() > 0 and match.end() < len(text)]
        apart = [(match.start(), match.start()) for match in titles]
    else:
        apart = [(end, end + 1) for end in [text.rfind("\n")] if end >= 0]
    return apart[-1] if apart else None


def _split(text: str, rule: DocumentRule) -> list[str]:
    if rule is DocumentRule.blank_line:
        pieces = BLANK_LINES.split(text)
    elif rule is DocumentRule.wikitext:
        edges = [0, *(match.start() for match in WIKITEXT_TITLE.finditer(text)), len(text)]
        pieces = [text[start:end] for start, end in pairwise(edges)]
        pieces = pieces if pieces[0].strip() else pieces[1:]
    else:
        pieces = text.split("\n")
    return [piece.strip("\n") for piece in pieces]
