"""Which canaries a model knows: the rank of each among texts of the same form that were never planted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtune.data.canaries import Canary, draw_candidates
from lmtune.evaluation.audit.rows import Row, RowScores
from lmtune.evaluation.audit.shares import CONFIDENCE, Exposure, count_true, rank_among
from lmtune.vocabulary import encode_opening, encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmtune.config import AuditConfig
    from lmtune.storage import Record

SEED = 0
RESAMPLES = 2000


class CanaryTexts(NamedTuple):
    """What is scored: the planted texts, those that they are ranked among, and those that measure false alarms."""

    planted: list[Canary]
    candidates: list[str]
    controls: list[str]

    def build_rows(self, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
        """Each text as a document of its own, in that order."""
        opening = list(encode_opening(tokenizer)) or [tokenizer.eos_token_id]
        texts = [*(canary.text for canary in self.planted), *self.candidates, *self.controls]
        return [Row([*opening, *ids], len(opening)) for ids in encode_plain(tokenizer, texts)]


def draw_texts(planted: Sequence[Canary], config: AuditConfig) -> CanaryTexts:
    """The canaries of a run with the texts that they are measured by."""
    drawn = draw_candidates(config.candidates + config.controls, planted, SEED)
    return CanaryTexts(list(planted), drawn[: config.candidates], drawn[config.candidates :])


def measure_canaries(texts: CanaryTexts, scores: RowScores, false_alarms: float) -> Record:
    """Exposure and detection by repeats, and how often a text that was never planted is taken for a canary."""
    first, second = len(texts.planted), len(texts.planted) + len(texts.candidates)
    others = scores.nll[first:second]
    exposures, controls = rank_among(scores.nll[:first], others), rank_among(scores.nll[second:], others)
    repeats = np.array([canary.repeats for canary in texts.planted])
    groups = [
        _measure_group(int(each), [exposures[number] for number in np.flatnonzero(repeats == each)], false_alarms)
        for each in np.unique(repeats)
    ]
    return {
        "candidates": len(texts.candidates),
        "most_bits": Exposure(0, len(texts.candidates)).bits,
        "false_alarms_allowed": false_alarms,
        "false_alarms": count_true(np.array([each.p <= false_alarms for each in controls])).as_dict(),
        "groups": groups,
        "canaries": [
            {
                "repeats": canary.repeats,
                "exposure": each.bits,
                **dict(zip(("low", "high"), each.bound(), strict=True)),
                "p": each.p,
                "found": each.p <= false_alarms,
            }
            for canary, each in zip(texts.planted, exposures, strict=True)
        ],
    }


def _measure_group(repeats: int, exposures: Sequence[Exposure], false_alarms: float) -> Record:
    """Canaries planted equally often: their mean exposure with a bootstrap interval over them, and how many are found."""
    bits = np.array([each.bits for each in exposures])
    low, high = _bound_mean(bits)
    found = count_true(np.array([each.p <= false_alarms for each in exposures]))
    return {"repeats": repeats, "exposure": float(bits.mean()), "low": low, "high": high, "found": found.as_dict()}


def _bound_mean(values: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """A percentile interval of the mean, over values drawn with replacement; none for a single one."""
    if len(values) < 2:
        return None, None
    drawn = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)
