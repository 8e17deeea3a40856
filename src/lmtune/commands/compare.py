"""`lmtune compare`: runs side by side; what differed, and which is best on the same text.

lmtune compare outputs/*
lmtune compare outputs/sweeps/<date> format=latex
lmtune compare mine theirs output=comparison.html
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from lmtune.commands.result import Result
from lmtune.config import CompareConfig, ComparisonFormat
from lmtune.errors import CheckpointError, ConfigError
from lmtune.evaluation.side_by_side import ComparedRun, label_runs, load_compared
from lmtune.paths import GivenPath, describe, shorten
from lmtune.reporting.comparison import build_comparison
from lmtune.reporting.comparison_tables import RENDERERS
from lmtune.runs.catalog import survey

logger = logging.getLogger(__name__)


def run(config: CompareConfig) -> Result:
    """Compare runs. Raises ConfigError unless there are two or more."""
    folders = find_folders(config.runs)
    if len(folders) < 2:
        raise ConfigError(
            f"lmtune compare: expected two runs or more, found {len(folders)} in {', '.join(config.runs)}. lmtune runs lists those "
            "there are."
        )
    return compare(folders, config.format)


def compare(folders: list[Path], form: ComparisonFormat) -> Result:
    """The comparison of run folders, as values and in one of its forms."""
    values = build_comparison(load_runs(folders))
    return Result(values, lambda: RENDERERS[form](values))


def load_runs(folders: list[Path]) -> list[ComparedRun]:
    """Runs with their labels; one whose settings are lost is named and left out."""
    runs = []
    for folder, label in zip(folders, label_runs(folders), strict=True):
        try:
            runs.append(load_compared(folder, label))
        except CheckpointError as error:
            logger.warning("left out: %s", error)
    return runs


def find_folders(named: Iterable[str]) -> list[Path]:
    """The run folders that are named or lie below a folder that is named, each once; what holds none is said.

    Raises ConfigError for a name of nothing.
    """
    found: dict[Path, Path] = {}
    for name in named:
        given = GivenPath("runs", name)
        folder = given.expand()
        if not given.is_folder(folder):
            if given.is_file(folder):
                logger.info("%s is a file, and no run", shorten(folder))
                continue
            raise given.refuse("a run or a folder with runs", describe(folder), "lmtune runs lists those there are.")
        below = survey(folder).runs
        if not below:
            logger.info("%s holds no run", shorten(folder))
        found |= {given.resolve(each): each for each in sorted(below)}
    return list(found.values())
