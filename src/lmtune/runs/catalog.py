"""The runs below a folder, from their small files alone: for `lmtune runs`, and to look up `ckpt=last`."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from lmtune.errors import CheckpointError
from lmtune.runs.entry import Entry, load_entry
from lmtune.runs.folder import Run
from lmtune.runs.mark import MARK
from lmtune.runs.search import SWEEP_MARK
from lmtune.storage import CHECKSUM, load_json

DEPTH = 3
"""Levels of folders that are searched for runs: <name>/<date>, sweeps/<date>/<job>."""
LEFTOVERS = frozenset(["config.yaml", "results.json"])
"""Records that identify a run folder whose run.json is gone."""


@dataclass(slots=True)
class Survey:
    """The folders found below a root."""

    runs: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """Folders without any run, such as exports and tokenizers."""
    barred: dict[Path, str] = field(default_factory=dict)
    """Folders that cannot be read, with the reason."""


def survey(root: Path) -> Survey:
    """The run folders below `root`, which may be one itself, and the other folders there. Never raises."""
    found = Survey()
    if not _look_through(root, DEPTH, found):
        found.others.append(root)
    return found


def load_entries(root: Path) -> tuple[list[Entry], Survey]:
    """(runs, survey): an entry for each run below `root`, the most recent first.

    The order is that of the numbers in run.json, which are independent of clocks; copies of runs from elsewhere come last.
    """
    found = survey(root)
    entries = sorted((load_entry(Run(folder)) for folder in found.runs), key=lambda each: each.order, reverse=True)
    return entries, found


def find_sweep(folder: Path) -> Path | None:
    """The folder of the sweep that a run folder is a job of; None for any other run."""
    return folder.parent if (folder.parent / SWEEP_MARK).is_file() else None


def _look_through(folder: Path, depth: int, found: Survey) -> bool:
    """True if there is a run in `folder` or below, or if that cannot be determined."""
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        found.barred[folder] = str(error.strerror)
        return True
    if _is_run(folder, {entry.name for entry in entries}):
        found.runs.append(folder)
        return True
    folders = [entry for entry in entries if not entry.name.startswith(".") and _is_folder(entry)] if depth else []
    holds = [_look_through(Path(entry.path), depth - 1, found) for entry in folders]
    if any(holds):
        found.others += [Path(entry.path) for entry, held in zip(folders, holds, strict=True) if not held]
    return any(holds)


def _is_run(folder: Path, names: set[str]) -> bool:
    """True for a folder with run.json, or with the other records of a run: not for files of another program with these names."""
    if MARK in names:
        return _may_hold(folder / MARK, CHECKSUM)
    return names >= LEFTOVERS and _may_hold(folder / "results.json", "status")


def _may_hold(file: Path, key: str) -> bool:
    """True for a JSON object with a key, and for a file that does not read: it may have been damaged."""
    try:
        return key in load_json(file)
    except (OSError, CheckpointError):
        return True


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a cycle of links
        return False
