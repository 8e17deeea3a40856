"""Runs side by side: what differed in their settings and texts, and how they did where they were scored alike.

Numbers are of one text and one protocol, or they are not put beside each other: scores are grouped by both first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lmtune.config.train import FOLLOWERS, list_keys
from lmtune.measures import BITS_PER_BYTE
from lmtune.runs import Run
from lmtune.runs.entry import load_results
from lmtune.runs.settings import flatten, is_below, leave_out
from lmtune.storage import Record, render_json

SCORED_ALIKE = ("text", "windows", "context", "stride", "dtype", "detokenizer", "changed_text")
"""Parts of the protocol that two numbers have to share."""
IN_PROTOCOL = ("eval.final_max_tokens", "eval.batch_size", "eval.split", "eval.per_document", "eval.max_lost")
"""Settings of the final evaluation, of which the protocol tells what there is to tell."""
PLACES = ("name", "output", "job_folder", "format", "resume", "resume_force", "groups", "sweep")
"""Settings that tell runs apart and say nothing about them; the choices of groups are told as such."""
CHOSEN = "chosen"
"""Training arguments that were settled for the device: settings like those that were given."""
SEEDS = ("seed",)
"""Settings by which runs may differ whose mean and deviation are taken."""
TEXT = "training text"
"""Beside the settings: which text was learned."""


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run with what is compared of it."""

    label: str
    run: Run
    results: Record
    settings: Record
    """Settings by dotted key, without the place of the run; TEXT among them."""
    choices: Record
    """Group to its choice."""
    damage: str | None = None
    """What is wrong with its records."""

    @property
    def private(self) -> bool:
        return bool(self.settings.get("private"))

    @property
    def fault(self) -> str | None:
        """Why it has no number that could be compared; None where it has."""
        status = self.results.get("status")
        if status not in (None, "completed"):
            steps = max((line["step"] for line in self.run.load_metrics()), default=0)
            return f"{status} after step {steps:,}, so it has no final score"
        return None if self.results.get("eval") else self.damage or "nothing was held out"


class Score(NamedTuple):
    """The final numbers of a run on one of its held-out sets."""

    run: ComparedRun
    set: str
    measures: Record

    @property
    def bits(self) -> float:
        """Bits per byte, infinite where they are not finite."""
        bits = self.measures.get(BITS_PER_BYTE.name)
        return math.inf if bits is None else float(bits)


class Family(NamedTuple):
    """Runs of one group that differ in their seed alone."""

    scores: list[Score]
    """One for each seed."""
    repeated: int
    """Further runs of a seed that is there already."""

    def mean(self, measure: str) -> float:
        return float(np.mean(self._list(measure)))

    def deviation(self, measure: str) -> float | None:
        """Sample standard deviation, with n-1; None for one seed."""
        values = self._list(measure)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def _list(self, measure: str) -> list[float]:
        """One for each seed; nan for a number that is not finite, for which results.json has null."""
        values = (score.measures[measure] for score in self.scores)
        return [math.nan if value is None else value for value in values]


def load_compared(folder: Path, label: str) -> ComparedRun:
    """A run for a comparison; raise CheckpointError where its settings are lost."""
    run = Run(folder)
    told = run.load_config()
    _, results, damage = load_results(run)
    settings = leave_out(told, [*PLACES, CHOSEN, *FOLLOWERS.values()])
    settings |= flatten({"training": told.get(CHOSEN) or {}})
    corpus = results.get("text", {}).get("corpus")
    return ComparedRun(label, run, results, settings | {TEXT: corpus}, dict(told.get("groups") or {}), damage)


def find_differences(runs: list[ComparedRun]) -> dict[str, list[Any]]:
    """Key to its value in each run, for keys that differ, choices of groups first; None where a run does not have it.

    Where a group was chosen differently, what is below it differs for that reason, and is listed only where it also differs between
    runs of the same choice.
    """
    choices = _differ([run.choices for run in runs])
    settings = _differ([run.settings for run in runs])
    return {**choices, **{key: values for key, values in settings.items() if not _follow(key, values, choices)}}


def _follow(key: str, values: list[Any], choices: dict[str, list[Any]]) -> bool:
    """True where a setting is below a group whose choice alone decides it in these runs."""
    made = [every for group, every in choices.items() if is_below(key, [group])]
    if not made:
        return False
    chosen = [render_json(list(of_run)) for of_run in zip(*made, strict=True)]
    return len(set(zip(chosen, map(render_json, values), strict=True))) == len(set(chosen))


def list_idle(keys: Iterable[str]) -> list[str]:
    """The keys among these that change neither weights nor scores."""
    idle = {*list_keys(lambda facts: not facts.weights), *IN_PROTOCOL} - {"model.save_dtype"}
    return [key for key in keys if is_below(key, idle)]


def _differ(records: list[Record]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for record in records for key in record)
    found = {key: [record.get(key) for record in records] for key in keys}
    return {key: values for key, values in found.items() if len(set(map(render_json, values))) > 1}


def group_scores(runs: list[ComparedRun]) -> list[list[Score]]:
    """Scores that compare, the best first; the largest groups first. A run with several held-out sets is in several."""
    groups: dict[str, list[Score]] = {}
    for run in runs:
        sets = {} if run.fault else run.results["eval"]
        for name, measures in sets.items():
            protocol = measures["protocol"]
            alike = render_json([protocol.get(each) for each in SCORED_ALIKE])
            groups.setdefault(alike, []).append(Score(run, name, measures))
    ranked = [sorted(scores, key=lambda score: score.bits) for scores in groups.values()]
    return sorted(ranked, key=len, reverse=True)


def find_families(scores: list[Score]) -> list[Family]:
    """Scores of one group by all settings but the seed, the best mean first."""
    found: dict[str, dict[str, list[Score]]] = {}
    for score in scores:
        settings = {**score.run.settings, **{f"group {name}": each for name, each in score.run.choices.items()}}
        seed = render_json([settings.pop(name, None) for name in SEEDS])
        idle = set(list_idle(settings))
        kept = render_json(sorted((key, each) for key, each in settings.items() if key not in idle))
        found.setdefault(kept, {}).setdefault(seed, []).append(score)
    families = [
        Family([runs[0] for runs in seeds.values()], sum(len(runs) - 1 for runs in seeds.values()))
        for seeds in found.values()
    ]
    return sorted(families, key=lambda family: float(np.mean([score.bits for score in family.scores])))


def label_runs(folders: list[Path]) -> list[str]:
    """Short labels: the part of each path below the folder that all of them share."""
    paths = [folder.absolute() for folder in folders]
    shared = Path(*_find_shared([path.parent.parts for path in paths]))
    return [path.relative_to(shared).as_posix() for path in paths]


def _find_shared(rows: list[tuple[str, ...]]) -> list[str]:
    shared = []
    for parts in zip(*rows, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared
