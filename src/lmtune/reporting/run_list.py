"""The list of runs, as values and as a table for a terminal."""

from datetime import datetime
from itertools import groupby
from pathlib import Path

from lmtune.paths import shorten, show
from lmtune.reporting.columns import align
from lmtune.reporting.settings import hide_override, list_own, tells
from lmtune.runs import Run
from lmtune.runs.catalog import Survey, find_sweep
from lmtune.runs.entry import Entry, load_overrides
from lmtune.storage import Record, render_number

SHOWN_OTHERS = 3
"""Folders without a run that are named; more are counted."""
TEXT_CHARS = 6
"""Characters of the hash that identifies a held-out text."""


def build_list(root: Path, entries: list[Entry], survey: Survey, limit: int) -> Record:
    """The values that format=json prints. entries: the most recent first; limit: how many are listed, 0 for all."""
    listed = entries[:limit] if limit else entries
    labels = label_jobs(listed)
    return {
        "root": str(root),
        "runs": [{**entry.as_dict(), "overrides": labels.get(entry.run.folder, [])} for entry in listed],
        "found": len(entries),
        "others": [str(path) for path in survey.others],
        "unreadable": {str(path): reason for path, reason in survey.barred.items()},
    }


def label_jobs(entries: list[Entry]) -> dict[Path, list[str]]:
    """Overrides of each job of a sweep, by folder, without those shared by all listed jobs of that sweep."""
    found: dict[Path, list[str]] = {}
    sweeps = [(sweep, entry) for entry in entries if (sweep := find_sweep(entry.run.folder)) is not None]
    for _, jobs in groupby(sorted(sweeps, key=lambda pair: str(pair[0])), key=lambda pair: pair[0]):
        typed = {entry.run.folder: load_overrides(entry.run) for _, entry in jobs}
        found |= dict(zip(typed, list_own(list(typed.values())), strict=True))
    return {folder: _hide(Run(folder), texts) for folder, texts in found.items()}


def _hide(run: Run, typed: list[str]) -> list[str]:
    """Overrides as they may be shown. A run whose settings are lost counts as private."""
    if not any(tells(each.partition("=")[0]) for each in typed):
        return typed
    private = (run.find_config() or {"private": True}).get("private")
    return [hide_override(each) for each in typed] if private else typed


def render_list(values: Record) -> list[str]:
    """Results of `lmtune runs`: a line per run, then what else is in the folder."""
    root = Path(values["root"])
    rows: list[tuple[str, ...]] = [("run", "begun", "steps", "bits per byte", "held out", "status")]
    rows += [_render_row(row, root) for row in values["runs"]]
    table = align(rows, right=[2]) if values["runs"] else [f"no runs below {show(root)}"]
    return [*table, *_render_rest(values)]


def _render_row(row: Record, root: Path) -> tuple[str, ...]:
    folder = Path(row["folder"])
    name = folder.relative_to(root.absolute()).as_posix()
    bits = render_number(row["bits_per_byte"])
    at = f" at step {row['scored_at']:,}" if row["scored_at"] is not None else ""
    text = f"{row['set'] or ''} {(row['text'] or '')[:TEXT_CHARS]}".strip()
    steps = "-" if row["steps"] is None else f"{row['steps']:,}"
    status = ", ".join(filter(None, [row["status"], row["fault"], " ".join(row["overrides"])]))
    return (
        show(name if name != "." else folder.name),
        _render_date(row["began"]),
        steps,
        bits + at,
        text,
        show(status),
    )


def _render_date(began: str | None) -> str:
    return "-" if began is None else f"{datetime.fromisoformat(began):%Y-%m-%d %H:%M}"


def _render_rest(values: Record) -> list[str]:
    lines = []
    more = values["found"] - len(values["runs"])
    if more:
        lines.append(f"{more:,} more: limit=0 lists all {values['found']:,}")
    others = [show(shorten(Path(each).absolute())) for each in values["others"]]
    if others and others != [show(shorten(Path(values["root"]).absolute()))]:
        names = ", ".join(others[:SHOWN_OTHERS]) + (", ..." if len(others) > SHOWN_OTHERS else "")
        lines.append(f"{len(others):,} other folder{'' if len(others) == 1 else 's'} without a run: {names}")
    return lines + [f"{show(path)} cannot be read: {reason}" for path, reason in values["unreadable"].items()]
