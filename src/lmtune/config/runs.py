"""Configuration of the commands that look at runs: `lmtune runs` and `lmtune compare`."""

from dataclasses import dataclass
from enum import Enum

from lmtune.config.checks import CommandConfig
from lmtune.config.commands import OutputFormat
from lmtune.config.keys import count, key
from lmtune.config.pages import PageConfig
from lmtune.config.ranges import check_ranges
from lmtune.errors import ConfigError


class ComparisonFormat(Enum):
    """The form of a comparison on stdout."""

    table = "table"
    json = "json"
    csv = "csv"
    """One line a run, for spreadsheets and scripts."""
    markdown = "markdown"
    latex = "latex"
    """A tabular with the rules of the package booktabs."""


@dataclass(kw_only=True, slots=True)
class RunsConfig(CommandConfig):
    """`lmtune runs`."""

    folder: str | None = key(None, literal=True)
    """Runs below this folder, `outputs` by default."""
    limit: int = count(50, zero="all")
    """List no more than this many, those begun last."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is looked at."""
        check_ranges(self, "")


@dataclass(kw_only=True, slots=True)
class CompareConfig(CommandConfig):
    """`lmtune compare`."""

    runs: list[str] = key(list, literal=True, several=True, names_run="folder")
    """Runs, sweeps or folders with runs below them; the words behind `lmtune compare`."""
    output: str | None = key(None, literal=True, one_per_job=True)
    """File of the page with curves and intervals, such as `comparison.html`; none is written without."""
    format: ComparisonFormat = ComparisonFormat.table
    """What is written to stdout."""
    report: PageConfig = key(PageConfig)

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is looked at."""
        if not self.runs:
            raise ConfigError(
                "lmtune compare needs runs, found none. Name them, a sweep or a folder: lmtune compare outputs/sweeps/<date>."
            )
