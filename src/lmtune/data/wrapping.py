"""Text whose lines were broken at a fixed width, as in Project Gutenberg's files: a model learns to write such line breaks.

A line break is taken for one that a program has put in if the next word would not have fitted into the line any more, and the
sentence goes on in the next line. Lines of verse, code, tables and lists have room left or begin anew.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc

from lmtune.data.columns import Texts
from lmtune.storage import checksum_of

STARTS = (0, 20_000, 60_000)
"""Places in a document, in characters, that excerpts are taken from: a book opens with titles and contents."""
CHARS = 4_000
"""Characters of an excerpt."""
EXCERPTS = 64
"""Excerpts of a text, at most."""
DOCUMENTS = 64
"""Consecutive documents that excerpts are taken from, at most."""
PLACES = 4
"""Places in a batch of documents that are looked at, at most."""

SENTENCE_END = re.compile(r"[.!?:;\u2026\u3002][\"'\u2019\u201d\u00bb)\]]*$")
FEWEST_BREAKS = 20
"""Breaks between lines of text that an excerpt needs, to be judged."""
FEWEST_WORDS = 5
"""Words of a line, on average."""
WIDTHS = (45, 200)
"""Characters of a line that was broken by width; lines of verse are shorter, paragraphs longer."""
FULL = 80
"""Percentile of the lengths of lines that counts as their width: with letters of different widths no length is exact."""
BROKEN = 0.35
"""Share of such breaks from which on an excerpt counts. Of wrapped prose most excerpts had 0.4 to 0.85. Sentences, paragraphs and
tables had less than 0.2, and verse with lower-case openings at most 0.42, in lines shorter than WIDTHS."""
MOST = 0.5
"""Share of the excerpts' characters from which on a text counts."""


def take_excerpts(texts: Texts) -> list[str]:
    """Excerpts of consecutive documents at a few places of a batch."""
    step = max(DOCUMENTS, -(-len(texts) // PLACES))
    return [text for start in range(0, len(texts), step) for text in _take(texts.slice(start, DOCUMENTS))]


def _take(texts: Texts) -> list[str]:
    """Excerpts of all of these documents. Short ones are laid end to end, those of one line each as the lines of a text."""
    pieces = [pc.utf8_slice_codeunits(texts, start, start + CHARS).to_pylist() for start in STARTS]
    found, short = [], ""
    for opening in pieces[0]:
        short += opening + ("\n\n" if "\n" in opening else "\n")
        if len(short) >= CHARS:
            found.append(short)
            short = ""
    inner = [_cut_edges(piece) for later in pieces[1:] for piece in later if piece]
    return [*found, *([short] if short else []), *inner]


def keep_some(excerpts: Sequence[str]) -> list[str]:
    """At most EXCERPTS of them, drawn by their content."""
    return sorted(dict.fromkeys(excerpts), key=checksum_of)[:EXCERPTS]


def is_wrapped(excerpts: Sequence[str]) -> bool:
    """True if most of a text, which these are excerpts of, has lines that were broken at a fixed width."""
    size = sum(map(len, excerpts))
    return size > 0 and sum(len(text) for text in excerpts if _has_broken_lines(text)) >= MOST * size


def _has_broken_lines(text: str) -> bool:
    lines = [line.strip() for line in text.split("\n")]
    pairs = [(line, after) for line, after in pairwise(lines) if line and after]
    if len(pairs) < FEWEST_BREAKS or sum(len(line.split()) for line, _ in pairs) < FEWEST_WORDS * len(pairs):
        return False
    width = float(np.percentile([len(line) for line, _ in pairs], FULL))
    broken = sum(_is_broken(line, after, width) for line, after in pairs)
    return WIDTHS[0] <= width <= WIDTHS[1] and broken >= BROKEN * len(pairs)


def _is_broken(line: str, after: str, width: float) -> bool:
    """True if a sentence goes on in the next line, whose first word would not have fitted into this one."""
    goes_on = after[0].isalpha() and not after[0].isupper() and not SENTENCE_END.search(line)
    return goes_on and len(line) + 1 + len(after.split(maxsplit=1)[0]) > width


def _cut_edges(piece: str) -> str:
    """A piece from inside a document without its first and last line, which may be parts of lines."""
    return "\n".join(piece.split("\n")[1:-1])
