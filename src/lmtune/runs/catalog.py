"""The runs below a folder, from their small files alone: what `lmtune runs` lists, and where `ckpt=last` is looked up."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from lmtune.runs.entry import Entry, load_entry
from lmtune.runs.folder import Run
from lmtune.runs.mark import MARK
from lmtune.runs.search import SWEEP_MARK

DEPTH = 3
"""Folders below the one that is looked through in which a run may lie: <name>/<date>, sweeps/<date>/<job>."""
LEFTOVERS = frozenset(["config.yaml", "results.json"])
"""Records by which a run folder is known whose run.json is gone."""


@dataclass(slots=True)
class Survey:
    """The runs and other folders below a folder."""

    runs: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """Folders without any run, such as exports and tokenizers."""
    barred: dict[Path, str] = field(default_factory=dict)
    """Folders that cannot be read, with the reason."""


def survey(root: Path) -> Survey:
    """The run folders below `root`, which may be one itself, and what else is there. Never raises."""
    found = Survey()
    if not _look_through(root, DEPTH, found):
        found.others.append(root)
    return found


def load_entries(root: Path) -> tuple[list[Entry], Survey]:
    """(runs, survey): what is known of each run below `root`, those begun last first.

    The order is that of the numbers in run.json, which no clock decides; copies of runs that were begun elsewhere come last.
    """
    found = survey(root)
    entries = sorted((load_entry(Run(folder)) for folder in found.runs), key=lambda each: each.order, reverse=True)
    return entries, found


def find_sweep(folder: Path) -> Path | None:
    """The folder of the sweep that a run folder is a job of; None for any other run."""
    return folder.parent if (folder.parent / SWEEP_MARK).is_file() else None


def _look_through(folder: Path, depth: int, found: Survey) -> bool:
    """True where there is a run in `folder` or below, or where that cannot be known."""
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        found.barred[folder] = str(error.strerror)
        return True
    names = {entry.name for entry in entries}
    if MARK in names or names >= LEFTOVERS:
        found.runs.append(folder)
        return True
    folders = [entry for entry in entries if not entry.name.startswith(".") and _is_folder(entry)] if depth else []
    holds = [_look_through(Path(entry.path), depth - 1, found) for entry in folders]
    if any(holds):
        found.others += [Path(entry.path) for entry, held in zip(folders, holds, strict=True) if not held]
    return any(holds)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False
