"""Which text is held out. Pure functions of the text, the shares and the seed."""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lmtune.config import SplitRule
from lmtune.data.columns import Texts, build_texts, count_chars, hash_texts, sum_bytes
from lmtune.data.ledger import SPLITS, Ledger
from lmtune.data.past import Past
from lmtune.errors import DataError
from lmtune.units import render_count

MIN_DOCUMENTS = 20
"""With fewer, one or two held-out documents would not represent the rest."""
MAX_SHARE = 0.25
"""A document with more of the text than this cannot be held out or kept whole."""
STRETCH_CHARS = 32_768
"""Minimum characters of a held-out stretch: long enough for long-range context."""
MAX_STRETCHES = 64

HELD_OUT = ("validation", "test")

Parts = dict[str, Texts]
"""The documents of one batch by split, for splits that get any."""


class Shares(NamedTuple):
    """Shares of the text to hold out, each at least 0, together below 1."""

    validation: float
    test: float


def choose_rule(chars: np.ndarray, rule: SplitRule | None) -> SplitRule:
    """`hash`, or `stretches` for few documents or one that dwarfs the others; a rule that was asked for is kept.

    chars: [documents] characters of each.
    """
    if rule is not None:
        return rule
    few = len(chars) < MIN_DOCUMENTS or chars.max() > MAX_SHARE * chars.sum()
    return SplitRule.stretches if few else SplitRule.hash


def assign_by_hash(texts: Texts, shares: Shares, seed: int) -> Parts:
    """Each document to the split that a seeded hash of its text chooses: equal texts stay together, others do not move it."""
    place = hash_texts(texts, seed) / 2.0**64
    held = {
        "validation": place < shares.validation,
        "test": (place >= shares.validation) & (place < sum(shares)),
        "train": place >= sum(shares),
    }
    return {split: texts.filter(pa.array(held[split])) for split in SPLITS if held[split].any()}


def assign_by_stretches(batches: Iterable[Texts], chars: np.ndarray, shares: Shares, seed: int) -> Iterator[Parts]:
    """Cut seeded, contiguous stretches out of the documents at line ends; what is left between them is trained on.

    Pieces of a document follow each other without a gap: each keeps the line end it was cut behind.
    chars: [documents] characters of each, over all batches.
    """
    held = _draw_stretches(int(chars.sum()), shares, random.Random(f"stretches-{seed}"))
    offset = 0
    for batch in batches:
        sizes = count_chars(batch)
        end = offset + int(sizes.sum())
        near = [stretch for stretch in held if stretch.start < end and stretch.end > offset]
        yield _cut_batch(batch, offset, near, many=len(chars) >= MIN_DOCUMENTS) if near else {"train": batch}
        offset = end


class Assigned(NamedTuple):
    """The documents of one batch by split, and how many changed their split for what the model knows."""

    parts: Parts
    learned: int = 0
    """Would have been held out; the model has learned them."""
    held_again: int = 0
    """Would have been trained on; they were held out from the model."""
    withheld: int = 0
    """Were held out from the model, and are in no split: other text is held out here."""
    withheld_bytes: int = 0
    copied_bytes: int = 0
    """Bytes of passages in training documents that were held out from the model; they are cut out."""


def move_documents(parts: Parts, past: Past, shares: Shares, withholds: bool = False) -> Assigned:
    """Whole documents: what the model knows goes to the training split, what was held out from it to validation.

    Passages that were held out from it are cut out of the documents that are trained on, and those that it knows out of the
    documents that are held out again. withholds: what was held out is not trained on even if no validation split is drawn.
    """
    training = parts.get("train", build_texts([]))
    asked = bool(shares.validation) or withholds
    again = past.mark_held(training) if asked else np.zeros(len(training), bool)
    moved = {"train": [training.filter(pa.array(~again))], **{split: [] for split in HELD_OUT}}
    learned = 0
    for split in HELD_OUT:
        texts = parts.get(split, build_texts([]))
        knows = past.mark_learned(texts)
        learned += int(knows.sum())
        moved[split].append(texts.filter(pa.array(~knows)))
        moved["train"].append(texts.filter(pa.array(knows)))
    held, cut = training.filter(pa.array(again)), build_texts([])
    if shares.validation:
        rest, known = past.cut_learned(held)
        moved["validation"].append(rest)
        moved["train"].append(known)
    if asked:
        rest, cut = past.cut_held(pa.concat_arrays(moved["train"]))
        moved["train"] = [rest]
    withheld = build_texts([]) if shares.validation else held
    return Assigned(
        _join(moved), learned, len(held) - len(withheld), len(withheld), sum_bytes(withheld), sum_bytes(cut)
    )


def move_passages(parts: Parts, past: Past, shares: Shares, withholds: bool = False) -> Assigned:
    """As move_documents, of stretches: they are cut where what the model knows starts and ends."""
    moved: dict[str, list[Texts]] = {split: [] for split in SPLITS}
    learned = held_again = copied = 0
    for split, texts in parts.items():
        if split != "train":
            rest, moves = past.cut_learned(texts)
            learned += len(moves)
        elif shares.validation or withholds:
            rest, moves = past.cut_held(texts)
        else:
            rest, moves = texts, build_texts([])
        moved[split].append(rest)
        if split != "train":
            moved["train"].append(moves)
        elif shares.validation:
            held_again += len(moves)
            moved["validation"].append(moves)
        else:
            copied += sum_bytes(moves)
    return Assigned(_join(moved), learned, held_again, copied_bytes=copied)


def _join(texts_of: dict[str, list[Texts]]) -> Parts:
    joined = {split: pa.concat_arrays(texts) for split, texts in texts_of.items() if texts}
    return {split: texts for split, texts in joined.items() if len(texts)}


class Assigner(NamedTuple):
    """Assigns documents of the training split to splits; none that the model knows is held out.

    past: what the model has learned before, and what was held out from it, which still is; None for a model without one.
    withholds: what was held out from it is not trained on where no validation split is drawn, since other text is held out.
    """

    shares: Shares
    seed: int
    past: Past | None = None
    withholds: bool = False

    def assign_by_hash(self, texts: Texts) -> Assigned:
        """Whole documents, each by its own text alone."""
        parts = assign_by_hash(texts, self.shares, self.seed)
        return Assigned(parts) if self.past is None else move_documents(parts, self.past, self.shares, self.withholds)

    def assign_by_stretches(self, batches: Iterable[Texts], chars: np.ndarray) -> Iterator[Assigned]:
        """Stretches of the text as a whole. chars: [documents] characters of each, over all batches."""
        for parts in assign_by_stretches(batches, chars, self.shares, self.seed):
            known = self.past
            yield Assigned(parts) if known is None else move_passages(parts, known, self.shares, self.withholds)


def count_withheld(batches: Iterable[Assigned], ledger: Ledger) -> Iterator[Parts]:
    """The parts of each batch; what is in none of them, since it was held out from the model, is counted in the ledger."""
    for each in batches:
        ledger.documents_held_elsewhere += each.withheld
        ledger.withdraw("held_elsewhere", each.withheld, each.withheld_bytes)
        ledger.bytes_copied += each.copied_bytes
        ledger.withdraw("copied", 0, each.copied_bytes)
        yield each.parts


@dataclass(slots=True)
class Drawn:
    """What is held out by one way of assigning documents."""

    held_out: dict[str, list[Texts]] = field(default_factory=lambda: {split: [] for split in HELD_OUT})
    documents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Number of documents with text in each split."""
    learned: int = 0
    held_again: int = 0
    """See Assigned."""

    def add(self, assigned: Assigned, count: Callable[[Texts], int] = len) -> None:
        """Take in the next batch. count: of the documents with text in a part of it."""
        self.learned += assigned.learned
        self.held_again += assigned.held_again
        for split, texts in assigned.parts.items():
            self.documents[split] += count(texts)
            if split in self.held_out:
                self.held_out[split].append(texts)


@dataclass(frozen=True, slots=True)
class Split:
    """How a text was split."""

    rule: SplitRule
    """How documents of the training split are assigned; `given` where none of them is held out."""
    held_out: dict[str, list[Texts]]
    """The documents of `validation` and `test`, where there are any."""
    note: str
    """For records: how the validation split was chosen, and for a stream among how many documents."""
    ledger: Ledger
    """The ledger of the text that was read for it."""


def check_splits(documents: dict[str, int], chars: np.ndarray, shares: Shares, knows: int = 0) -> None:
    """Raise DataError if a split that was asked for, or the training split, got no document with text.

    knows: documents that are not held out, since the model has learned them.
    """
    empty = find_empty(documents, shares)
    found = f"{render_count(len(chars), 'document')} of {render_count(int(chars.sum()), 'character')}"
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
    """The first split that was asked for and has no document."""
    asked = {**shares._asdict(), "train": 1.0}
    return next((split for split, share in asked.items() if share > 0 and not documents.get(split)), None)


class _Stretch(NamedTuple):
    """A held-out part of the line of all characters."""

    start: int
    end: int
    split: str


def _cut_batch(batch: Texts, offset: int, held: list[_Stretch], many: bool) -> Parts:
    """The documents of a batch that starts `offset` characters into the text, cut where stretches meet them."""
    pieces: dict[str, list[str]] = {split: [] for split in SPLITS}
    for text in batch.to_pylist():
        near = [
            _Stretch(stretch.start - offset, stretch.end - offset, stretch.split)
            for stretch in held
            if stretch.start < offset + len(text) and stretch.end > offset
        ]
        if near and many and len(text) <= STRETCH_CHARS:
            pieces[near[0].split].append(text)  # among many, a document this short stays whole
        else:
            for split, piece in _cut_text(text, near):
                pieces[split].append(piece)
        offset += len(text)
    return {split: build_texts(texts) for split, texts in pieces.items() if texts}


def _draw_stretches(total: int, shares: Shares, draw: random.Random) -> list[_Stretch]:
    """On the line of all characters, sorted, not touching: one stretch in each of equal segments."""
    plan = []
    for split, share in shares._asdict().items():
        wanted = round(total * share)
        if wanted:
            count = max(1, min(MAX_STRETCHES, wanted // STRETCH_CHARS))
            plan += [(split, wanted // count)] * count
    draw.shuffle(plan)
    stretches = []
    segment = total / max(1, len(plan))
    for number, (split, length) in enumerate(plan):
        slack = max(0, int(segment) - length)
        start = int(number * segment) + draw.randint(0, slack)
        stretches.append(_Stretch(start, min(start + length, int((number + 1) * segment)), split))
    return stretches


def _cut_text(text: str, held: list[_Stretch]) -> list[tuple[str, str]]:
    """(split, piece) in the order of the text; pieces join to the text exactly."""
    pieces, done = [], 0
    for start, end, split in held:
        first = max(done, _line_end(text, start))
        last = _line_end(text, max(end, first + 1))  # one line at least, however short the stretch was meant to be
        pieces += [("train", text[done:first]), (split, text[first:last])]
        done = last
    pieces.append(("train", text[done:]))
    return [(split, piece) for split, piece in pieces if piece]


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
