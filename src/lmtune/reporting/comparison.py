"""Results of `lmtune compare` as values, from which its tables, page and files are made."""

from typing import Any

import numpy as np

from lmtune.evaluation.comparison import DocumentBits, bound_bits, compare_documents
from lmtune.evaluation.document_scores import find_scores
from lmtune.evaluation.documents import have_same_vocabulary
from lmtune.evaluation.gain import bound_runs, compare_runs
from lmtune.evaluation.side_by_side import (
    TEXT,
    ComparedRun,
    Family,
    Score,
    find_differences,
    find_families,
    group_scores,
    list_idle,
)
from lmtune.measures import AMOUNTS, SHOWN, Measure
from lmtune.reporting.settings import hide_value
from lmtune.storage import Record

PROTOCOL = ("text", "documents", "windows", "context", "stride", "dtype")


def build_comparison(runs: list[ComparedRun]) -> Record:
    """The values that format=json prints.

    groups: the runs that were scored alike, the best first; numbers are not comparable between groups.
    """
    differences = find_differences(runs)
    idle = [key for key in list_idle(differences) if all(key in run.settings for run in runs)]
    groups = group_scores(runs)
    return {
        "runs": [_describe_run(run, differences, place) for place, run in enumerate(runs)],
        "differences": [key for key in differences if key not in list_idle(differences)],
        "idle_differences": idle,
        "groups": [_describe_group(scores) for scores in groups],
        "not_ranked": {run.label: run.fault for run in runs if run.fault is not None},
    }


def list_measures(group: Record) -> list[Measure]:
    """Measures that are comparable within a group: none per token if vocabularies differ."""
    return [measure for measure in SHOWN if group["same_vocabulary"] or not measure.per_token]


def _describe_run(run: ComparedRun, differences: dict[str, list[Any]], place: int) -> Record:
    train = run.results.get("train", {})
    return {
        "run": run.label,
        "folder": str(run.run.folder.absolute()),
        "status": run.results.get("status"),
        "steps": train.get("steps"),
        "tokens": train.get("tokens"),
        "seconds": train.get("seconds"),
        "training_text": run.settings[TEXT],
        "settings": {key: _show(run, key, values[place]) for key, values in differences.items()},
    }


def _show(run: ComparedRun, key: str, value: Any) -> Any:
    """A setting as it may be shown; comparisons use its true value."""
    return hide_value(key, value) if run.private else value


def _describe_group(scores: list[Score]) -> Record:
    first = scores[0].measures
    found = find_differences([score.run for score in scores])
    idle = list_idle(found)
    differences = [key for key in found if key not in idle]
    measures = {score.run.label: score.measures for score in scores}
    group: Record = {
        "sets": list(dict.fromkeys(score.set for score in scores)),
        "protocol": {name: first["protocol"].get(name) for name in PROTOCOL},
        **{amount: first[amount] for amount in AMOUNTS},
        "same_vocabulary": have_same_vocabulary(measures),
        "versions": _collect_versions(scores),
        "differences": differences,
    }
    compared = list_measures(group)
    families = find_families(scores)
    documents = {id(score): find_scores(score.run.run.scores_file, score.measures) for score in scores}
    return {
        **group,
        "rows": [
            {
                **_describe_score(score, scores[0], compared),
                **_describe_documents(documents[id(score)], documents[id(scores[0])], score is scores[0]),
            }
            for score in scores
        ],
        "families": [
            {
                **_describe_family(family, compared, differences),
                **_describe_runs(*([documents[id(score)] for score in each.scores] for each in (family, families[0]))),
            }
            for family in families
        ],
        "over_seeds": any(len(family.scores) > 1 for family in families),
    }


def _describe_score(score: Score, best: Score, compared: list[Measure]) -> Record:
    return {
        "run": score.run.label,
        "set": score.set,
        **{measure.name: score.measures[measure.name] for measure in compared},
        "behind_best": score.bits - best.bits,
    }


def _describe_documents(own: DocumentBits | None, best: DocumentBits | None, is_best: bool) -> Record:
    """Intervals over documents: of the bits per byte, and of the difference from the best run on the same documents."""
    interval = None if own is None else bound_bits(own)
    paired = not is_best and own is not None and best is not None and np.array_equal(own.sizes, best.sizes)
    return {
        "interval": interval,
        "difference": compare_documents(own, best).as_dict()
        if paired and own is not None and best is not None
        else None,
    }


def _describe_runs(own: list[DocumentBits | None], best: list[DocumentBits | None]) -> Record:
    """Intervals over runs and documents: of the mean over seeds, and of the difference from the best mean.

    None for a single run, whose intervals are over documents, and if the scores of a run were not kept.
    """
    ours, theirs = ([each for each in side if each is not None] for side in (own, best))
    alike = all(np.array_equal(each.sizes, theirs[0].sizes) for each in [*ours, *theirs]) if theirs else False
    known = len(ours) == len(own) and len(theirs) == len(best) and alike
    return {
        "interval": bound_runs(ours) if known and len(ours) > 1 else None,
        "difference": compare_runs(ours, theirs).as_dict()
        if known and ours[0] is not theirs[0] and len(ours) + len(theirs) > 2
        else None,
    }


def _describe_family(family: Family, compared: list[Measure], differences: list[str]) -> Record:
    first = family.scores[0].run
    told = {**first.choices, **first.settings}
    return {
        "runs": [score.run.label for score in family.scores],
        "seeds": [score.run.settings.get("seed") for score in family.scores],
        "repeated": family.repeated,
        "settings": {key: _show(first, key, told.get(key)) for key in differences if key != "seed"},
        "mean": {measure.name: family.mean(measure.name) for measure in compared},
        "deviation": {measure.name: family.deviation(measure.name) for measure in compared},
    }


def _collect_versions(scores: list[Score]) -> dict[str, list[str]]:
    """Libraries whose versions differ between the runs, with those versions."""
    found: dict[str, dict[str, None]] = {}
    for score in scores:
        for name, version in score.measures["protocol"].get("versions", {}).items():
            found.setdefault(name, {})[version] = None
    return {name: list(versions) for name, versions in found.items() if len(versions) > 1}
