"""Which text is held out. Pure functions of the text, the shares and the seed."""

import random
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lmtune.config import SplitRule
from lmtune.data.columns import Texts, build_texts, count_chars, hash_texts
from lmtune.data.ledger import SIDES
from lmtune.data.past import Past
from lmtune.errors import DataError

MIN_DOCUMENTS = 20
"""Below, a held-out document or two would not stand for the rest."""
MAX_SHARE = 0.25
"""A document with more of the text than this cannot be held out or kept whole."""
STRETCH_CHARS = 32_768
"""Least length of a held-out stretch: long enough to have a beginning, a middle and long-range context."""
MAX_STRETCHES = 64

HELD_OUT = ("validation", "test")

Dealt = dict[str, Texts]
"""Of one batch of documents, those of each side that gets any."""


class Shares(NamedTuple):
    """Shares of the text to hold out, each at least 0, together below 1."""

    validation: float
    test: float


def choose_rule(chars: np.ndarray, rule: SplitRule | None) -> SplitRule:
    """`hash`, or `stretches` for few documents or one that dwarfs the others; a rule that was asked for stands.

    chars: [documents] characters of each.
    """
    if rule is not None:
        return rule
    few = len(chars) < MIN_DOCUMENTS or chars.max() > MAX_SHARE * chars.sum()
    return SplitRule.stretches if few else SplitRule.hash


def deal_by_hash(texts: Texts, shares: Shares, seed: int) -> Dealt:
    """Each document to the side that a seeded hash of its text falls on: equal texts fall together, others do not move it."""
    place = hash_texts(texts, seed) / 2.0**64
    held = {
        "validation": place < shares.validation,
        "test": (place >= shares.validation) & (place < sum(shares)),
        "train": place >= sum(shares),
    }
    return {side: texts.filter(pa.array(held[side])) for side in SIDES if held[side].any()}


def deal_by_stretches(batches: Iterable[Texts], chars: np.ndarray, shares: Shares, seed: int) -> Iterator[Dealt]:
    """Cut seeded, contiguous stretches out of the documents at line ends; what is left between them is trained on.

    Pieces of a document follow each other without a gap: each keeps the line end it was cut behind.
    chars: [documents] characters of each, over all batches.
    """
    held = _draw_stretches(int(chars.sum()), shares, random.Random(f"stretches-{seed}"))
    offset = 0
    for batch in batches:
        sizes = count_chars(batch)
        end = offset + int(sizes.sum())
        near = [stretch for stretch in held if stretch.begin < end and stretch.end > offset]
        yield _cut_batch(batch, offset, near, many=len(chars) >= MIN_DOCUMENTS) if near else {"train": batch}
        offset = end


class Moved(NamedTuple):
    """Documents dealt out, and how many of them changed their side for what the model knows."""

    dealt: Dealt
    learned: int = 0
    """Would have been held out; the model has learned them."""
    held_again: int = 0
    """Would have been trained on; they were held out from the model."""


def move_documents(dealt: Dealt, past: Past, shares: Shares) -> Moved:
    """Whole documents: what the model knows goes to the training side, what was held out from it to validation."""
    sides: dict[str, list[Texts]] = {side: [] for side in SIDES}
    learned = held_again = 0
    for side, texts in dealt.items():
        if side == "train":
            moves = past.find_held(texts) if shares.validation else np.zeros(len(texts), bool)
            held_again += int(moves.sum())
        else:
            moves = past.find_learned(texts)
            learned += int(moves.sum())
        sides[side].append(texts.filter(pa.array(~moves)))
        sides["validation" if side == "train" else "train"].append(texts.filter(pa.array(moves)))
    return Moved(_join(sides), learned, held_again)


def move_passages(dealt: Dealt, past: Past, shares: Shares) -> Moved:
    """As move_documents, of stretches: they are cut where what the model knows begins and ends."""
    sides: dict[str, list[Texts]] = {side: [] for side in SIDES}
    learned = held_again = 0
    for side, texts in dealt.items():
        if side != "train":
            rest, moved = past.cut_learned(texts)
            learned += len(moved)
        elif shares.validation:
            rest, moved = past.cut_held(texts)
            held_again += len(moved)
        else:
            rest, moved = texts, build_texts([])
        sides[side].append(rest)
        sides["validation" if side == "train" else "train"].append(moved)
    return Moved(_join(sides), learned, held_again)


def _join(sides: dict[str, list[Texts]]) -> Dealt:
    joined = {side: pa.concat_arrays(texts) for side, texts in sides.items() if texts}
    return {side: texts for side, texts in joined.items() if len(texts)}


def check_sides(documents: dict[str, int], chars: np.ndarray, shares: Shares, knows: int = 0) -> None:
    """Raise DataError if a side that was asked for, or the training side, got no document with text.

    knows: documents that are not held out, since the model has learned them.
    """
    empty = find_empty(documents, shares)
    found = f"{len(chars):,} documents of {int(chars.sum()):,} characters"
    if empty == "train":
        raise DataError(f"Nothing is left to train on: {found}. Give more text, or hold out less.")
    if empty is not None and knows:
        raise DataError(
            f"The {empty} side is empty: {found}, and the model has learned what could be held out of them ({knows:,}), in the run "
            "that it comes from. Give text that it does not know, such as data.validation_files=, or hold nothing out with "
            f"data.{empty}_fraction=0."
        )
    if empty is not None:
        raise DataError(
            f"The {empty} side is empty: {found}, of which a share of {getattr(shares, empty):.3g} was asked for. "
            f"Raise data.{empty}_fraction, give data.validation_files=, or give more text."
        )


def find_empty(documents: dict[str, int], shares: Shares) -> str | None:
    """The first side that was asked for and has no document."""
    asked = {**shares._asdict(), "train": 1.0}
    return next((side for side, share in asked.items() if share > 0 and not documents.get(side)), None)


class _Stretch(NamedTuple):
    """A held-out part of the line of all characters."""

    begin: int
    end: int
    side: str


def _cut_batch(batch: Texts, offset: int, held: list[_Stretch], many: bool) -> Dealt:
    """The documents of a batch that begins `offset` characters into the text, cut where stretches meet them."""
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for text in batch.to_pylist():
        near = [
            _Stretch(stretch.begin - offset, stretch.end - offset, stretch.side)
            for stretch in held
            if stretch.begin < offset + len(text) and stretch.end > offset
        ]
        if near and many and len(text) <= STRETCH_CHARS:
            sides[near[0].side].append(text)  # among many, a document this short stays whole
        else:
            for side, piece in _cut(text, near):
                sides[side].append(piece)
        offset += len(text)
    return {side: build_texts(texts) for side, texts in sides.items() if texts}


def _draw_stretches(total: int, shares: Shares, draw: random.Random) -> list[_Stretch]:
    """On the line of all characters, sorted, not touching: one stretch in each of equal segments."""
    plan = []
    for side, share in shares._asdict().items():
        wanted = round(total * share)
        if wanted:
            count = max(1, min(MAX_STRETCHES, wanted // STRETCH_CHARS))
            plan += [(side, wanted // count)] * count
    draw.shuffle(plan)
    stretches = []
    segment = total / max(1, len(plan))
    for number, (side, length) in enumerate(plan):
        room = max(0, int(segment) - length)
        begin = int(number * segment) + draw.randint(0, room)
        stretches.append(_Stretch(begin, min(begin + length, int((number + 1) * segment)), side))
    return stretches


def _cut(text: str, held: list[_Stretch]) -> list[tuple[str, str]]:
    """(side, piece) in the order of the text; pieces join to the text exactly."""
    pieces, done = [], 0
    for begin, end, side in held:
        first = max(done, _line_end(text, begin))
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
