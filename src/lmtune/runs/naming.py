"""Finding runs by name: `last`, or any part of a name and date that is unique to one run."""

from pathlib import Path

from lmtune.errors import CheckpointError
from lmtune.paths import shorten, show
from lmtune.runs.catalog import load_entries
from lmtune.runs.entry import Entry
from lmtune.runs.search import SWEEP_MARK

LAST = "last"
SHOWN = 8
"""Candidates named in a message."""


def find_named(key: str, text: str, root: Path) -> Path | None:
    """The folder of the run below `root` that a text names; None if it names none.

    `last` is the most recent run, `NAME/last` the most recent one of that name or below that folder. Any other text is
    looked for in the folders of the runs, relative to `root`, and in their names: whole parts of them win over substrings.
    Raises CheckpointError, which names `key`, if several runs match.
    """
    wanted = text.rstrip("/").replace(" ", "_").replace(":", "-")
    entries = load_entries(root)[0] if root.is_dir() else []
    above, _, end = wanted.rpartition("/")
    if end == LAST:
        of_name = [each for each in entries if not above or above in _list_parts(each, root)]
        return of_name[0].run.folder if of_name else None
    whole = [each for each in entries if wanted in _list_parts(each, root)]
    found = whole or [each for each in entries if any(wanted in label for label in _list_labels(each, root))]
    if len(found) > 1:
        raise _refuse(key, text, found, f"{text.rstrip('/')}/{LAST}" if whole else LAST)
    return found[0].run.folder if found else None


def _list_labels(entry: Entry, root: Path) -> tuple[str, str]:
    return entry.run.folder.relative_to(root).as_posix(), entry.name


def _list_parts(entry: Entry, root: Path) -> set[str]:
    """Whole parts of a run's folder, single or consecutive, and its name."""
    names = entry.run.folder.relative_to(root).parts
    rows = ("/".join(names[start:end]) for start in range(len(names)) for end in range(start + 1, len(names) + 1))
    return {*rows, entry.name}


def _refuse(key: str, text: str, found: list[Entry], last: str) -> CheckpointError:
    shown = ", ".join(show(shorten(each.run.folder.absolute())) for each in found[:SHOWN])
    more = f", and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    above, *others = {each.run.folder.absolute().parent for each in found}
    # lmtune compare takes any folder with runs in it, lmtune report that of a sweep.
    is_taken = not others and (key == "runs" or (key == "run" and (above / SWEEP_MARK).is_file()))
    together = f", or {key}={show(shorten(above))} for all of them" if is_taken else ""
    return CheckpointError(
        f"{key}={show(text)}: expected what one run alone has in its name or date, found {len(found):,}: {shown}{more}. Give more "
        f"of it, or {key}={show(last)} for the one that was begun last{together}."
    )
