"""The evaluations of a run, and the flat names under which Trainer and metrics.jsonl keep them.

    {"bio": {"loss": 2.1, ...}, "wiki": {"loss": 3.0, ...}}   a set of measures for each held-out text, the run's own first
    {"eval_loss": 2.1, ..., "eval_wiki_loss": 3.0, ...}       the same in Trainer's history, trackers and metrics.jsonl

This module alone writes and reads those names.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lmtune.errors import ConfigError
from lmtune.measures import AMOUNTS, BY_EVALUATION, MEASURES
from lmtune.storage import Record

Measures = Record
"""The numbers of one held-out set, by the names of measures."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation while training measured."""

    step: int
    epoch: float
    train_seconds: float
    """Seconds of training up to it, over all starts of the run."""
    sets: dict[str, Measures]


def flatten_measures(sets: dict[str, Measures], prefix: str = "eval") -> dict[str, float]:
    """The numbers of several held-out sets under the names that Trainer knows."""
    starts = _name_sets(list(sets), prefix)
    return {
        starts[name] + key: value
        for name, measures in sets.items()
        for key, value in measures.items()
        if isinstance(value, (int, float))
    }


def read_evaluations(history: list[Record], names: Iterable[str]) -> list[Evaluation]:
    """The evaluations in Trainer's history or in the lines of metrics.jsonl, in their order. names: of the held-out sets."""
    starts = _name_sets(list(names), "eval")
    return [
        Evaluation(
            step=line["step"],
            epoch=line.get("epoch", 0.0),
            train_seconds=line["train_seconds"],
            sets={
                name: {key: line[start + key] for key in (*MEASURES, *AMOUNTS) if start + key in line}
                for name, start in starts.items()
            },
        )
        for line in history
        if "eval_loss" in line
    ]


def find_evaluation(evaluations: list[Evaluation], step: int) -> Evaluation | None:
    """The evaluation at a step, the last one if there were several."""
    return next((evaluation for evaluation in reversed(evaluations) if evaluation.step == step), None)


def build_epochs(evaluations: list[Evaluation]) -> list[Record]:
    """A row of results.json for each evaluation; what was measured on sets besides the first stands under `sets`."""
    rows: list[Record] = []
    before = 0.0
    for evaluation in evaluations:
        chosen = [{each.name: measures[each.name] for each in BY_EVALUATION} for measures in evaluation.sets.values()]
        others = dict(zip(list(evaluation.sets)[1:], chosen[1:], strict=True))
        rows.append(
            {
                "epoch": evaluation.epoch,
                "step": evaluation.step,
                **chosen[0],
                **({"sets": others} if others else {}),
                "seconds": evaluation.train_seconds - before,
                "cumulative_seconds": evaluation.train_seconds,
            }
        )
        before = evaluation.train_seconds
    return rows


def check_set_names(names: list[str]) -> None:
    """Raise ConfigError for a set whose flat names would also be those of another set's measures: `word` and `separator`."""
    starts = _name_sets(names, "eval")
    used = Counter(start + key for start in starts.values() for key in (*MEASURES, *AMOUNTS))
    for name in reversed(names[1:]):
        twice = next((starts[name] + key for key in MEASURES if used[starts[name] + key] > 1), None)
        if twice is not None:
            raise ConfigError(
                f"eval_data={name}: its measure would be logged as {twice}, as one of another set would. "
                f"Give conf/data/{name}.yaml another name."
            )


def _name_sets(names: list[str], prefix: str) -> dict[str, str]:
    """What the names of a set's numbers start with: the first set's `eval_`, those of others `eval_<set>_`."""
    return {name: f"{prefix}_" if number == 0 else f"{prefix}_{name}_" for number, name in enumerate(names)}
