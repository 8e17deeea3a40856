"""Creating run folders, and finding them again."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from lmtune.errors import CheckpointError
from lmtune.paths import GivenPath, describe, show
from lmtune.runs.files import START_NAMES, step_of
from lmtune.runs.folder import Run, remove_empty
from lmtune.runs.mark import MARK, find_mark, new_mark, place_mark
from lmtune.runs.unfinished import is_abandoned, remove_abandoned
from lmtune.storage import number_names

OUTPUTS = Path("outputs")
SWEEP_MARK = "sweep.json"
"""A file that marks the folder of a sweep, which holds the folders of its jobs."""
SHOWN_NAMES = 3


def begin_below(root: Path, name: str, now: datetime) -> Run:
    """Start a run at root/name/<date>; a taken name gets -2, -3. Two processes never get the same folder."""
    number = count_runs(root)
    made = make_dated(root / name, now)
    with _explained(f"{made[0]}", "Stand elsewhere, or give output=."):
        return _mark(made[0], number, made)


def begin_at(given: GivenPath, root: Path) -> Run:
    """Start a run in a given folder, which must be new or empty.

    Raises CheckpointError for a folder that cannot be created or is not empty.
    """
    made = make_given(given)
    with _explained(str(given), "Give another."):
        return _mark(given.anchor(), count_runs(root), made)


@contextmanager
def new_folder(output: str | None, name: str) -> Iterator[Path]:
    """A folder for the output of a command: that of output=, else a new one below outputs/<name>/.

    It is created before the work, which would otherwise be lost if it cannot be created; if the work fails, it is removed
    unless something was written. What killed processes have left unfinished in it, or below outputs/<name>/, is removed.
    Raises CheckpointError for one that cannot be created or is not empty.
    """
    given = None if output is None else GivenPath("output", output, CheckpointError)
    if given is None:
        _remove_abandoned_below(OUTPUTS / name)
        made = make_dated(OUTPUTS / name, datetime.now())
    else:
        made = make_given(given)
    try:
        yield made[0] if given is None else given.anchor()
    except BaseException:
        remove_empty(made)
        raise


def make_dated(parent: Path, now: datetime) -> list[Path]:
    """Create parent/<date>; a taken name gets -2, -3. Return it, and the folders that had to be created above it."""
    parent = parent.absolute()
    with _explained(str(parent), "Stand elsewhere, or give output=."):
        above = make_folders(parent)
        for candidate in number_names(now.strftime("%Y-%m-%d_%H-%M-%S")):
            try:
                (parent / candidate).mkdir()
            except FileExistsError:
                continue
            return [parent / candidate, *above]
    raise AssertionError("unreachable: candidates do not end")


def make_given(given: GivenPath) -> list[Path]:
    """Create a given folder, unless it exists and is empty; return the folders that had to be created, the innermost first.

    What killed processes have left unfinished in it is removed.
    """
    check_creatable(given)
    with _explained(str(given), "Give another."):
        made = make_folders(given.anchor())
    remove_abandoned(given.anchor())
    return made


def _remove_abandoned_below(folder: Path) -> None:
    """Remove the dated folders in `folder` that hold nothing but what a killed process has left unfinished."""
    if folder.is_dir():
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and remove_abandoned(inner):
                remove_empty([inner])


@contextmanager
def _explained(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{what}: expected a folder that can be made, found: {error.strerror}. {remedy}"
        ) from error


def check_creatable(given: GivenPath) -> None:
    """Raise CheckpointError for a folder that could not be created or is not empty. Creates nothing."""
    folder = given.anchor()
    given.check_can_make(folder)
    if given.is_folder(folder):
        check_empty(given, folder)


def check_empty(given: GivenPath, folder: Path) -> None:
    """Raise CheckpointError for a folder that is not empty; its content stays untouched."""
    names = [entry.name for entry in given.list_folder(folder) if not is_abandoned(folder / entry.name)]
    if MARK in names and find_mark(folder) is not None:
        raise CheckpointError(
            f"{folder} already holds a run. Give another {given.key}=, or go on with it: resume={folder}."
        )
    if names:
        shown = ", ".join(map(show, names[:SHOWN_NAMES])) + (", ..." if len(names) > SHOWN_NAMES else "")
        raise given.refuse(
            "a new folder or an empty one",
            f"{len(names):,} {'thing' if len(names) == 1 else 'things'} in it ({shown}). Nothing of it was touched",
            f"Give a folder of its own, such as {given.key}={show(folder / 'run')}.",
        )


def make_folders(folder: Path) -> list[Path]:
    """Create a folder with its parents; return those that did not exist, the innermost first."""
    made = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def count_runs(root: Path) -> int:
    """The highest number of a run below `root`, plus one."""
    return 1 + max((mark.number for run in find_runs(root) if (mark := find_mark(run.folder))), default=0)


def find_runs(root: Path) -> Iterator[Run]:
    """Marked folders below `root`, as deep as lmtune creates any: <name>/<date>, sweeps/<date>/<job>."""
    return (Run(file.parent) for depth in ("", "*/", "*/*/", "*/*/*/") for file in root.glob(f"{depth}{MARK}"))


def find_newest(root: Path, is_sought: Callable[[Run], bool]) -> Run | None:
    """The most recent run below `root` for which `is_sought` is true; of copies, the one in its original place."""
    found = [
        (mark.number, mark.began, Path(mark.folder) == run.folder.absolute(), str(run.folder), run)
        for run in find_runs(root)
        if (mark := find_mark(run.folder)) and is_sought(run)
    ]
    return max(found, key=lambda each: each[:-1])[-1] if found else None


def find_resumed(typed: str) -> Run:
    """The run named by resume=; raise CheckpointError, which says what to type, for anything else."""
    given = GivenPath("resume", typed, CheckpointError)
    folder = given.anchor()
    is_folder = given.is_folder(folder)
    run = Run(folder)
    if given.is_file(folder / MARK) or any("mark" in manifest for _, manifest in run.manifests()):
        return run
    inside = "checkpoint" if step_of(folder) >= 0 else "finished model" if folder.name == "model" else None
    if inside and given.is_file(folder.parent / MARK):
        newest, _ = Run(folder.parent).find_checkpoint()
        where = f", {newest.name}" if newest else ""
        raise CheckpointError(
            f"resume={typed} is a {inside} of a run; expected the run itself. Give resume={folder.parent}, which goes on from its "
            f"newest whole checkpoint{where}; to begin a new run from these weights: model.path={typed}."
        )
    found = f"no {MARK} in it" if is_folder else "no such folder" if describe(folder) == "nothing" else describe(folder)
    raise given.refuse(
        "a run folder of lmtune train", found, "Give a folder such as outputs/<name>/<date>, or resume=auto."
    )


def _mark(folder: Path, number: int, made_folders: list[Path]) -> Run:
    try:
        place_mark(folder, new_mark(folder, number, made_folders, START_NAMES))
    except BaseException:
        remove_empty(made_folders)
        raise
    return Run(folder)
