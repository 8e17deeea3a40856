"""All measures as a local `evaluate.Metric`."""

import math
import tempfile
from dataclasses import fields
from typing import Any

import datasets
import evaluate

from lmtune.evaluation import metrics
from lmtune.evaluation.metrics import Sums, measures_of


class LanguageModeling(evaluate.Metric):
    """All measures: add_batch takes sums of batches, compute gives the measures of their total.

        metric = LanguageModeling()
        batch = {"nll": [12.5], "tokens": [8], "separator_nll": [0.7], "separators": [1], "correct": [3]}
        metric.add_batch(**batch, bytes=[31], characters=[30], words=[6])
        metric.compute()

    Nothing is downloaded and no file is kept.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"keep_in_memory": True, "cache_dir": tempfile.gettempdir(), **settings})

    def _info(self) -> evaluate.MetricInfo:
        columns = {item.name: datasets.Value("float64") for item in fields(Sums)}
        return evaluate.MetricInfo(
            description=str(metrics.__doc__),
            citation="",
            inputs_description=str(Sums.__doc__),
            features=datasets.Features(columns),
        )

    def _compute(self, **columns: list[float]) -> dict[str, float]:
        return measures_of(Sums(**{name: math.fsum(values) for name, values in columns.items()}))
