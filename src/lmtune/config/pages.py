"""The page of a run or a sweep: whether it is written, and how."""

from dataclasses import dataclass
from enum import Enum

from lmtune.config.checks import CommandConfig
from lmtune.config.commands import OutputFormat
from lmtune.config.keys import key
from lmtune.errors import ConfigError


class ReportLanguage(Enum):
    """The language of pages."""

    en = "en"
    pt = "pt"


@dataclass(kw_only=True, slots=True)
class ReportConfig:
    """report.html, the page of a run."""

    enabled: bool = True
    """Write report.html, anew at each evaluation, so that the run can be watched."""
    language: ReportLanguage = ReportLanguage.en
    """Language of the page's texts, numbers and dates."""


@dataclass(kw_only=True, slots=True)
class PageConfig:
    """How a page is written."""

    language: ReportLanguage | None = None
    """Language of the page's texts, numbers and dates; by default that of the run."""


@dataclass(kw_only=True, slots=True)
class ReportCommandConfig(CommandConfig):
    """`lmtune report`."""

    run: str | None = key(None, literal=True, names_run="folder")
    """Run (its folder, `last` or part of its name) or the folder of a sweep; `lmtune report RUN` sets it too."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    report: PageConfig = key(PageConfig)

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before anything is loaded."""
        if not self.run:
            raise ConfigError(
                "lmtune report needs a run, found none. Name its folder: lmtune report outputs/<name>/<date>."
            )
