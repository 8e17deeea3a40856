"""Which text is held out. Pure functions of the text, the fractions and the seed."""

import random
import re
from collections.abc import Sequence

import xxhash

from lmtune.config import SplitRule
from lmtune.errors import DataError

MIN_DOCUMENTS = 20
"""Below, a held-out document or two would not stand for the rest."""
MAX_SHARE = 0.25
"""A document with more of the text than this cannot be held out or kept whole."""
STRETCH_CHARS = 32_768
"""Least length of a held-out stretch: long enough to have a beginning, a middle and long-range context."""
MAX_STRETCHES = 64

Sides = dict[str, list[str]]


def choose_rule(texts: Sequence[str], rule: SplitRule | None) -> SplitRule:
    """`hash`, or `stretches` for few documents or one that dwarfs the others; a rule that was asked for stands."""
    if rule is not None:
        return rule
    sizes = [len(text) for text in texts]
    few = len(sizes) < MIN_DOCUMENTS or max(sizes) > MAX_SHARE * sum(sizes)
    return SplitRule.stretches if few else SplitRule.hash


def split_documents(
    texts: Sequence[str], rule: SplitRule | None, validation: float, test: float, seed: int
) -> tuple[Sides, SplitRule]:
    """Deal documents out to train, validation and test; return the sides and the rule they were dealt by.

    Without a rule, one is chosen, and stretches take the place of a hash that leaves a side empty, as it may with some
    dozens of documents. Raises DataError if a side that was asked for, or the training side, is empty all the same.
    """
    chosen = choose_rule(texts, rule)
    sides = _split(texts, chosen, validation, test, seed)
    if rule is None and chosen is SplitRule.hash and _find_empty(sides, validation, test):
        chosen = SplitRule.stretches
        sides = _split(texts, chosen, validation, test, seed)
    found = f"{len(texts):,} documents of {sum(map(len, texts)):,} characters"
    empty = _find_empty(sides, validation, test)
    if empty == "train":
        raise DataError(f"Nothing is left to train on: {found}. Give more text, or hold out less.")
    if empty is not None:
        share = {"validation": validation, "test": test}[empty]
        raise DataError(
            f"The {empty} side is empty: {found}, of which a share of {share:.3g} was asked for. "
            f"Raise data.{empty}_fraction, give data.validation_files=, or give more text."
        )
    return sides, chosen


def place_of(text: str, seed: int) -> float:
    """A document's place in [0, 1): a seeded hash of its text, so equal texts fall together and others do not move it."""
    return hash_of(text, seed) / 2**64


def hash_of(text: str, seed: int) -> int:
    """xxh3-64 of the UTF-8 text."""
    return xxhash.xxh3_64_intdigest(text.encode(), seed=seed)


def _split(texts: Sequence[str], rule: SplitRule, validation: float, test: float, seed: int) -> Sides:
    split = _split_by_hash if rule is SplitRule.hash else _split_by_stretches
    return split(texts, validation, test, seed)


def _find_empty(sides: Sides, validation: float, test: float) -> str | None:
    """The first side that was asked for and holds no text."""
    asked = {"validation": validation, "test": test, "train": 1.0}
    return next((side for side, share in asked.items() if share > 0 and not any(map(str.strip, sides[side]))), None)


def _split_by_hash(texts: Sequence[str], validation: float, test: float, seed: int) -> Sides:
    sides: Sides = {"train": [], "validation": [], "test": []}
    for text in texts:
        place = place_of(text, seed)
        sides["validation" if place < validation else "test" if place < validation + test else "train"].append(text)
    return sides


def _split_by_stretches(texts: Sequence[str], validation: float, test: float, seed: int) -> Sides:
    """Cut seeded, contiguous stretches out of the documents at line ends; what is left between them is trained on.

    Pieces of a document follow each other without a gap: each keeps the line end it was cut behind.
    """
    total = sum(map(len, texts))
    held = _draw_stretches(total, {"validation": validation, "test": test}, random.Random(f"stretches-{seed}"))
    sides: Sides = {"train": [], "validation": [], "test": []}
    offset = 0
    for text in texts:
        local = [
            (start - offset, end - offset, side)
            for start, end, side in held
            if start < offset + len(text) and end > offset
        ]
        if local and len(texts) >= MIN_DOCUMENTS and len(text) <= STRETCH_CHARS:
            sides[local[0][2]].append(text)  # among many, a document this short stays whole
        else:
            for side, piece in _cut(text, local):
                sides[side].append(piece)
        offset += len(text)
    return sides


def _draw_stretches(total: int, fractions: dict[str, float], draw: random.Random) -> list[tuple[int, int, str]]:
    """(start, end, side) on the line of all characters, sorted, not touching: one stretch in each of equal segments."""
    plan = []
    for side, fraction in fractions.items():
        wanted = round(total * fraction)
        if wanted:
            count = max(1, min(MAX_STRETCHES, wanted // STRETCH_CHARS))
            plan += [(side, wanted // count)] * count
    draw.shuffle(plan)
    stretches = []
    segment = total / max(1, len(plan))
    for number, (side, length) in enumerate(plan):
        room = max(0, int(segment) - length)
        start = int(number * segment) + draw.randint(0, room)
        stretches.append((start, min(start + length, int((number + 1) * segment)), side))
    return stretches


def _cut(text: str, held: list[tuple[int, int, str]]) -> list[tuple[str, str]]:
    """(side, piece) in the order of the text; pieces join to the text exactly."""
    pieces, done = [], 0
    for start, end, side in held:
        first = max(done, _line_end(text, start))
        last = _line_end(text, max(end, first + 1))  # one line at least, however short the stretch was meant to be
        pieces += [("train", text[done:first]), (side, text[first:last])]
        done = last
    pieces.append(("train", text[done:]))
    return [(side, piece) for side, piece in pieces if piece]


def _line_end(text: str, position: int) -> int:
    """The nearest place at or after `position` behind a line end; behind white space where lines are enormous.

    Right there where there is no white space either, as in Chinese.
    """
    if position <= 0:
        return 0
    if position >= len(text):
        return len(text)
    found = text.find("\n", position - 1, position + STRETCH_CHARS)
    if found >= 0:
        return found + 1
    space = re.compile(r"\s").search(text, position - 1)
    return space.end() if space else position
