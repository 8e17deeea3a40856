"""Passages of the training text that come back from their beginning, against held-out ones and against the weights of the start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtune.data.blocks import Blocks
from lmtune.evaluation.audit.rows import Row, RowScores
from lmtune.evaluation.audit.shares import comes_back, compare_shares, count_true
from lmtune.vocabulary import encode_document_opening

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmtune.config import AuditConfig
    from lmtune.storage import Record
    from lmtune.token_stream import TokenStream

SEED = 0
ROWS_AT_ONCE = 4096
WAYS = ("greedy", "likely")
"""How a passage comes back: by greedy decoding, or among sampled texts."""


class Sides(NamedTuple):
    """Rows of the training text, and rows of what is held out."""

    training: list[Row]
    held_out: list[Row]


def draw_passages(
    rows: Blocks, held_out: TokenStream | None, tokenizer: PreTrainedTokenizerBase, config: AuditConfig
) -> Sides:
    """Passages drawn from both sides, audit.passages= of each at most, none across two documents and no two that overlap.

    rows: of the training text.
    """
    size = config.given + config.asked
    structural = [tokenizer.eos_token_id, *encode_document_opening(tokenizer)]
    draw = np.random.default_rng(SEED)
    pieces = _load_some(rows, config.passages, draw)
    sides = [_cut(each, size, structural, draw) for each in (pieces, [] if held_out is None else [held_out.ids])]
    return Sides(*(_choose(side, config, draw) for side in sides))


def _load_some(rows: Blocks, passages: int, draw: np.random.Generator) -> list[np.ndarray]:
    """[rows] of ids: enough rows of the training text, drawn from all over it, for as many passages and more."""
    count = len(rows.rows)
    numbers = np.sort(draw.choice(count, size=min(count, max(ROWS_AT_ONCE, 4 * passages)), replace=False))
    parts = [numbers[start : start + ROWS_AT_ONCE] for start in range(0, len(numbers), ROWS_AT_ONCE)]
    return [ids for part in parts for ids in np.asarray(rows.rows[part]["ids"])]


def _cut(pieces: Iterable[np.ndarray], size: int, structural: Sequence[int], draw: np.random.Generator) -> np.ndarray:
    """[passages, size]: consecutive ids of each piece, from a place drawn for it on; none with an id of `structural`."""
    found = [np.empty((0, size), np.int64)]
    for ids in pieces:
        start = int(draw.integers(min(size, max(1, len(ids) - size + 1))))
        count = (len(ids) - start) // size
        found.append(ids[start : start + count * size].reshape(count, size).astype(np.int64))
    passages = np.concatenate(found)
    return passages[~np.isin(passages, structural).any(axis=1)]


def _choose(passages: np.ndarray, config: AuditConfig, draw: np.random.Generator) -> list[Row]:
    """Draw up to audit.passages= different passages."""
    different = np.unique(passages, axis=0)
    chosen = draw.permutation(len(different))[: config.passages]
    return [Row(different[number].tolist(), config.given) for number in chosen]


class Outcomes(NamedTuple):
    """Which rows come back, of one side; [rows] bool each."""

    greedy: np.ndarray
    likely: np.ndarray

    @property
    def either(self) -> np.ndarray:
        return self.greedy | self.likely


def judge(scores: RowScores, tries: int) -> Outcomes:
    """Which rows come back by greedy decoding, and which among `tries` samples."""
    return Outcomes(scores.greedy, comes_back(scores.nll, tries))


class Asked(NamedTuple):
    """What the model and the weights of its start, if they were asked, give back of one side."""

    model: Outcomes
    base: Outcomes | None

    @property
    def added(self) -> np.ndarray:
        """[rows] bool: what comes back from the model in either way, and from the start in none."""
        return self.model.either if self.base is None else self.model.either & ~self.base.either


def compare_sides(training: Asked, held_out: Asked) -> Record:
    """Counts of both sides with their intervals, and the excess of the training side, which is what was memorised."""
    sides = {"training": training, "held_out": held_out}
    return {
        "sides": {name: _count(side) for name, side in sides.items()},
        "memorised": _compare(training.added, held_out.added),
    }


def _count(side: Asked) -> Record:
    found = {"model": side.model, "base": side.base}
    counted = {
        name: {way: count_true(getattr(each, way)).as_dict() for way in (*WAYS, "either")}
        for name, each in found.items()
        if each is not None
    }
    return {**counted, "added": count_true(side.added).as_dict()}


def _compare(training: np.ndarray, held_out: np.ndarray) -> Record | None:
    excess = compare_shares(count_true(training), count_true(held_out))
    return None if excess is None else excess._asdict()


def list_shown(rows: Sequence[Row], added: np.ndarray, most: int) -> list[Row]:
    """The first passages that tuning has added."""
    return [rows[number] for number in np.flatnonzero(added)[:most].tolist()]
