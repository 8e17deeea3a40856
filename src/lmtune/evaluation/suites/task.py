"""One set of the zero-shot table, and how it is run."""

from collections.abc import Callable
from dataclasses import dataclass, field

from lmtune.errors import DataError
from lmtune.evaluation.protocol import collect_versions
from lmtune.evaluation.suites.detokenizers import Detokenizer
from lmtune.evaluation.suites.sources import HubSplit, load_rows
from lmtune.evaluation.suites.subject import Subject
from lmtune.storage import Record


@dataclass(slots=True)
class Outcome:
    """The result of one task."""

    values: dict[str, float]
    """Values by the name of the column, without that of the task."""
    counts: dict[str, int]
    """The denominators of the values."""
    protocol: Record = field(default_factory=dict)
    """How they were measured, beyond what run_task says of every task."""


Rows = list[Record]
"""Examples of a data set, by column."""
Procedure = Callable[["Task", Rows, Subject], Outcome]


@dataclass(frozen=True, slots=True)
class Task:
    """One set of the table: where it comes from, and how each profile measures it."""

    name: str
    source: HubSplit
    procedures: dict[str, Procedure]
    """How the set is scored, by profile; a profile that is not here does not know this set."""
    column: str = "text"
    """The column that holds the text."""
    detokenizer: Detokenizer | None = None
    sources: dict[str, HubSplit] = field(default_factory=dict)
    """Sources for profiles that take the set from elsewhere."""

    def read_texts(self, rows: Rows) -> list[str]:
        """The text of each row, without its line end."""
        column = self.column if self.column in rows[0] else "text"
        if column not in rows[0]:
            raise DataError(f"expected a column {self.column!r}, found {', '.join(rows[0])}")
        return [str(row[column]).removesuffix("\n") for row in rows]

    def source_of(self, profile: str) -> HubSplit:
        """The data set that a profile measures."""
        return self.sources.get(profile, self.source)


def run_task(task: Task, profile: str, subject: Subject, file: str | None, limit: int | None) -> Record:
    """The values of one set with counts and protocol, or the reason why there are none under `missing`."""
    if profile not in task.procedures:
        return {"missing": f"profile {profile} does not define it"}
    source = task.source_of(profile)
    try:
        whole = load_rows(source, file)
        rows = whole[:limit]
        if not rows:
            raise DataError(f"{file or source} is empty")
        outcome = task.procedures[profile](task, rows, subject)
    except DataError as error:
        return {"missing": str(error)}
    protocol = {
        "profile": profile,
        "source": file or str(source),
        "split": "file" if file else source.split,
        "context": subject.context,
        "dtype": subject.dtype,
        "limit": limit,
        "limited": {"examples": len(rows), "of_examples": len(whole)} if len(rows) < len(whole) else None,
        "opening": list(subject.opening),
        **outcome.protocol,
        "versions": collect_versions(),
    }
    return {**outcome.values, **outcome.counts, "protocol": protocol}
