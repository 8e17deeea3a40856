"""`lmtune runs`: the runs there are, those begun last first.

lmtune runs
lmtune runs outputs/sweeps limit=0
"""

from pathlib import Path

from lmtune.commands.result import Result
from lmtune.config import RunsConfig
from lmtune.paths import GivenPath, describe
from lmtune.reporting.run_list import build_list, render_list
from lmtune.runs.catalog import load_entries
from lmtune.runs.search import OUTPUTS


def run(config: RunsConfig) -> Result:
    """List the runs below a folder. Raises ConfigError for one that was named and is not there."""
    root = resolve_root(config.folder)
    entries, survey = load_entries(root)
    values = build_list(root, entries, survey, config.limit)
    return Result(values, lambda: render_list(values))


def resolve_root(folder: str | None) -> Path:
    """The folder that is looked through; the usual one need not be there yet."""
    if folder is None:
        return OUTPUTS
    given = GivenPath("folder", folder)
    root = given.expand()
    if not given.is_folder(root):
        raise given.refuse("a folder with runs", describe(root), "Check the path.")
    return root
