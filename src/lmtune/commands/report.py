"""`lmtune report`: the page of a run or of a sweep, written anew from its folder alone.

lmtune report outputs/<name>/<date>
lmtune report outputs/sweeps/<date> report.language=pt
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from lmtune.commands.result import Result
from lmtune.config import ReportCommandConfig
from lmtune.errors import CheckpointError
from lmtune.paths import GivenPath, describe, shorten
from lmtune.reporting.language import LANGUAGES
from lmtune.reporting.page import render_report
from lmtune.reporting.pages import is_own_page
from lmtune.reporting.record import RunRecord, load_record
from lmtune.reporting.sweep_page import load_jobs, render_sweep
from lmtune.runs import MARK, Run
from lmtune.runs.search import SWEEP_MARK
from lmtune.storage import write_text

logger = logging.getLogger(__name__)


def run(config: ReportCommandConfig) -> Result:
    """Write report.html into the folder; return where it is and of how many runs it tells."""
    given = GivenPath("run", str(config.run), CheckpointError)
    folder = given.anchor()
    language = None if config.report.language is None else LANGUAGES[config.report.language.value]
    if given.is_file(folder / MARK):
        record = load_record(folder)
        warn_of_faults([record])
        page, count = render_report(record, language), 1
        Run(folder).claim(Run(folder).report_file.name)
    elif given.is_file(folder / SWEEP_MARK):
        jobs = load_jobs(folder)
        warn_of_faults(job.record for job in jobs)
        page, count = render_sweep(folder, jobs, language), len(jobs)
        check_own_page(folder / "report.html")
    else:
        found = f"no {MARK} in it" if given.is_folder(folder) else describe(folder)
        raise given.refuse("a run folder, or that of a sweep", found, "Give a folder such as outputs/<name>/<date>.")
    file = write_page(given, folder, page)
    values = {"report": str(file), "runs": count, "bytes": len(page.encode())}
    return Result(values, lambda: [f"report: {shorten(file)}"])


def warn_of_faults(records: Iterable[RunRecord]) -> None:
    """Say which files are not as a run writes them, and are missing from the page."""
    for record in records:
        for fault in record.faults:
            logger.warning("%s: %s; the page does without it", shorten(record.folder), fault)


def check_own_page(file: Path) -> None:
    """Raise CheckpointError for a file in the folder of a sweep that is no page of lmtune's."""
    if file.exists() and not is_own_page(file):
        raise CheckpointError(f"{file} is not a page of lmtune's and would have to be replaced. Move it elsewhere.")


def write_page(given: GivenPath, folder: Path, page: str) -> Path:
    """report.html in a folder; raise CheckpointError where it cannot be written."""
    file = folder / "report.html"
    try:
        write_text(file, page)
    except OSError as fault:
        raise given.refuse("a folder to write in", str(fault.strerror), "Change that, or copy the run.") from fault
    return file
