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
    """One line per run, for spreadsheets and scripts."""
    markdown = "markdown"
    latex = "latex"
    """A tabular with rules from the package booktabs."""


@dataclass(kw_only=True, slots=True)
class RunsConfig(CommandConfig):
    """`lmtune runs`."""

    folder: str | None = key(None, literal=True)
    """Folder to list the runs of, `outputs` by default."""
    limit: int = count(50, zero="all")
    """List at most this many runs, the most recently started."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before any run is read."""
        check_ranges(self, "")


@dataclass(kw_only=True, slots=True)
class CompareConfig(CommandConfig):
    """`lmtune compare`."""

    runs: list[str] = key(list, literal=True, several=True, names_run="folder")
    """Runs, sweeps or folders with runs below them; `lmtune compare RUN RUN` sets it too."""
    output: str | None = key(None, literal=True, one_per_job=True)
    """File for a page with curves and intervals, such as `comparison.html`; by default none is written."""
    format: ComparisonFormat = ComparisonFormat.table
    """What is written to stdout."""
    report: PageConfig = key(PageConfig)

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before any run is read."""
        if not self.runs:
            raise ConfigError(
                "lmtune compare needs runs, found none. Name them, a sweep or a folder: lmtune compare outputs/sweeps/<date>."
            )
