"""The page of a sweep: its runs in one table, named by their own settings, and their curves in one figure."""

import logging
from pathlib import Path
from typing import NamedTuple

from lmtune.errors import CheckpointError
from lmtune.reporting.language import Language
from lmtune.reporting.learning import Curve, Learning, render_learning
from lmtune.reporting.page import choose_language
from lmtune.reporting.pages import render_page
from lmtune.reporting.record import BITS, RunRecord, load_record
from lmtune.reporting.settings import list_own, render_overrides, shorten_folder
from lmtune.runs.search import find_runs
from lmtune.storage import Record

logger = logging.getLogger(__name__)

COLOURS = 8
"""Curves that have a colour and a label of their own; the best runs get them."""


class Job(NamedTuple):
    """A run of a sweep."""

    label: str
    """Its overrides that not all runs share."""
    record: RunRecord

    @property
    def bits(self) -> float | None:
        """Bits per byte of the first held-out set, with the final weights or by the last evaluation."""
        found: float | None = self.record.find_after(self.record.sets[0]).get(BITS) if self.record.sets else None
        return found

    @property
    def text(self) -> str | None:
        """The checksum of the text that it was scored on."""
        known = self.record.results.get("text", {}).get("held_out", {}).get("validation", {})
        text: str | None = known.get("text")
        return text


def load_jobs(folder: Path) -> list[Job]:
    """The runs of a sweep in the order of their numbers; one whose settings are lost is named and left out.

    Raises CheckpointError for a sweep without any.
    """
    records = []
    for run in find_runs(folder):
        try:
            records.append(load_record(run.folder))
        except CheckpointError as error:
            logger.warning("left out: %s", error)
    if not records:
        raise CheckpointError(f"{folder}: expected the runs of a sweep, found none. It may not have started any.")
    records.sort(key=lambda record: (len(record.folder.name), record.folder.name))
    own = list_own([render_overrides(record) for record in records])
    return [Job(" ".join(words) or record.folder.name, record) for words, record in zip(own, records, strict=True)]


def render_sweep(folder: Path, jobs: list[Job], language: Language | None = None) -> str:
    """The page as HTML. Runs are ranked only if all were scored on the same text."""
    language = language or choose_language(jobs[0].record.config)
    ranks = len({job.text for job in jobs if job.bits is not None}) <= 1
    if ranks:
        jobs = sorted(jobs, key=lambda job: float("inf") if job.bits is None else job.bits)
    completed = sum(job.record.status == "completed" for job in jobs)
    key = "sweep_note" if ranks else "sweep_texts"
    return render_page(
        "sweep.html.j2",
        language,
        language.say("sweep", n=len(jobs)),
        runs=any(job.record.status == "running" for job in jobs),
        folder=shorten_folder(folder),
        note=language.say(key, n=len(jobs), completed=completed),
        rows=[_build_row(number, job, language) for number, job in enumerate(jobs, start=1)],
        figure=_render_curves(jobs, language),
    )


def _build_row(number: int, job: Job, language: Language) -> Record:
    record = job.record
    name = record.sets[0] if record.sets else ""
    before, after = record.find_before(name), record.find_after(name) if name else {}
    train = record.results.get("train", {})
    return {
        "label": job.label,
        "folder": record.folder.name,
        "page": f"{record.folder.name}/report.html" if (record.folder / "report.html").exists() else None,
        "colour": number if record.list_bits(name) and number <= COLOURS else None if not name else 0,
        "status": record.status if record.status in language.texts else "unknown",
        "cells": [
            language.number(before.get(BITS), 3),
            language.number(after.get(BITS), 3),
            language.short(after.get("perplexity")),
            language.number(record.steps),
            language.duration(train["seconds"]) if "seconds" in train else language.number(None),
        ],
    }


def _render_curves(jobs: list[Job], language: Language) -> str | None:
    curves = []
    for number, job in enumerate(jobs, start=1):
        points = job.record.list_bits(job.record.sets[0]) if job.record.sets else []
        if len(points) > 1:
            last = language.number(points[-1][1], 2)
            kind, label = (f"c{number}", f"{number}: {last}") if number <= COLOURS else ("faint", "")
            curves.append(Curve(points, label, kind))
    if not curves:
        return None
    ends = [curve.points[-1][1] for curve in curves]
    told = language.say(
        "sweep_told",
        n=len(curves),
        low=language.number(min(ends), 2),
        high=language.number(max(ends), 2),
        best=jobs[0].label,
    )
    steps = max(job.record.steps for job in jobs)
    return render_learning(Learning(curves[::-1], steps, told=told), language)
