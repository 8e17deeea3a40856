"""From scores to what an audit has found: one record, which the page, the table and audit.json are written from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtune.data.identifiers import mask
from lmtune.evaluation.audit.canaries import measure_canaries
from lmtune.evaluation.audit.identifiers import Prompts, count_kinds, list_drawn_out
from lmtune.evaluation.audit.passages import Asked, Sides, compare_sides, judge, list_shown
from lmtune.evaluation.audit.rows import Row, RowScores, score_rows
from lmtune.vocabulary import decode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lmtune.config import AuditConfig
    from lmtune.evaluation.audit.material import Material
    from lmtune.storage import Record

Scores = Mapping[str, RowScores]
"""Scores by what the rows belong to; see Material.build_rows."""


def score_all(model: PreTrainedModel, rows: Mapping[str, list[Row]], batch_size: int) -> Scores:
    """Score all rows in one pass; return their scores by name."""
    every = [row for each in rows.values() for row in each]
    scores = score_rows(model, every, batch_size)
    ends = np.cumsum([len(each) for each in rows.values()]).tolist()
    return {name: scores.take(end - len(rows[name]), end) for name, end in zip(rows, ends, strict=True)}


class Scored(NamedTuple):
    """Scores of all rows, under the model and under the weights of its start."""

    model: Scores
    base: Scores | None

    def ask(self, name: str, tries: int) -> Asked:
        """Which rows of one name come back."""
        base = None if self.base is None else judge(self.base[name], tries)
        return Asked(judge(self.model[name], tries), base)


def build_findings(
    material: Material,
    scored: Scored,
    tokenizer: PreTrainedTokenizerBase,
    config: AuditConfig,
    absent: Mapping[str, str],
    *,
    private: bool,
) -> Record:
    """canaries, passages and identifiers. absent: why one of them was not asked for. private: no text of the corpus is shown."""
    found: Record = {name: {"reason": reason} for name, reason in absent.items()}
    if material.canaries is not None:
        found["canaries"] = measure_canaries(material.canaries, scored.model["canaries"], config.false_alarms)
    if material.passages is not None:
        shown = 0 if private else config.show
        found["passages"] = _describe_passages(material.passages, scored, config, _build_shower(tokenizer), shown)
    if material.identifiers is not None:
        found["identifiers"] = _describe_identifiers(*material.identifiers, scored, config)
    return {name: found[name] for name in ("canaries", "passages", "identifiers") if name in found}


def _build_shower(tokenizer: PreTrainedTokenizerBase) -> Callable[[Row], Record]:
    """A function from a passage to its two halves as texts, masked."""

    def show(row: Row) -> Record:
        parts = (row.ids[: row.known], row.ids[row.known :])
        return dict(zip(("prefix", "continuation"), (mask(decode_plain(tokenizer, ids)) for ids in parts), strict=True))

    return show


def _describe_passages(
    sides: Sides, scored: Scored, config: AuditConfig, show: Callable[[Row], Record], shown: int
) -> Record:
    training, held_out = (scored.ask(name, config.tries) for name in Sides._fields)
    return {
        "prefix": config.given,
        "continuation": config.asked,
        "tries": config.tries,
        **compare_sides(training, held_out),
        "shown": [show(row) for row in list_shown(sides.training, training.added, shown)],
    }


def _describe_identifiers(training: Prompts, held_out: Prompts, scored: Scored, config: AuditConfig) -> Record:
    asked, others = (scored.ask(name, config.tries) for name in ("identifiers", "held_out_identifiers"))
    return {
        "prefix": config.given,
        "tries": config.tries,
        "searched_bytes": training.bytes,
        "different": training.different,
        "kinds": training.kinds,
        "given_away": training.given_away,
        **compare_sides(asked, others),
        "drawn_out_by_kind": count_kinds(training.places, asked.model.either),
        "drawn_out": list_drawn_out(training, asked),
    }
