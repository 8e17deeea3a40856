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
from lmtune.paths import GivenPath, Kind, describe, shorten
from lmtune.reporting.comparison import build_comparison
from lmtune.reporting.comparison_page import render_comparison_page
from lmtune.reporting.comparison_tables import RENDERERS
from lmtune.reporting.language import LANGUAGES
from lmtune.reporting.pages import is_own_page
from lmtune.reporting.record import load_record
from lmtune.runs.catalog import survey
from lmtune.storage import write_text

logger = logging.getLogger(__name__)


def run(config: CompareConfig) -> Result:
    """Compare runs. Raises ConfigError unless there are two or more."""
    folders = find_folders(config.runs)
    if len(folders) < 2:
        raise ConfigError(
            f"lmtune compare: expected two runs or more, found {len(folders)} in {', '.join(config.runs)}. lmtune runs lists those "
            "there are."
        )
    if config.output is not None:
        check_page(config.output)
    result = compare(folders, config.format)
    if config.output is not None:
        write_page(config, result)
    return result


def compare(folders: list[Path], form: ComparisonFormat) -> Result:
    """The comparison of run folders, as values and in one of its forms."""
    values = build_comparison(load_runs(folders))
    return Result(values, lambda: RENDERERS[form](values))


def check_page(output: str) -> None:
    """Raise ConfigError, before anything is compared, for a file that could not be written, or is not a page of lmtune's."""
    given = GivenPath("output", output)
    file = given.anchor()
    given.check_can_make(file.parent)
    kind = given.find_kind(file)
    if kind is Kind.NOTHING:
        return
    if kind is not Kind.FILE or not is_own_page(file):
        raise given.refuse("a new file, or a page of lmtune's to replace", describe(file), "Give another output=.")


def write_page(config: CompareConfig, result: Result) -> None:
    """The page of a comparison; English, unless report.language= says otherwise."""
    assert isinstance(result.values, dict)
    given = GivenPath("output", str(config.output))
    language = LANGUAGES["en" if config.report.language is None else config.report.language.value]
    records = {run["run"]: load_record(Path(run["folder"])) for run in result.values["runs"]}
    given.make_folder(given.anchor().parent)
    try:
        write_text(given.anchor(), render_comparison_page(result.values, records, language))
    except OSError as fault:
        raise given.refuse("a file to write", str(fault.strerror), "Give another output=.") from fault
    logger.info("page: %s", shorten(given.anchor()))


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
