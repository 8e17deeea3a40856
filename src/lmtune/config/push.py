"""`lmtune push`: what goes to the Hub, and where."""

from dataclasses import dataclass

from lmtune.config.card import CardConfig
from lmtune.config.checks import CommandConfig, check_given
from lmtune.config.commands import OutputFormat
from lmtune.config.keys import key
from lmtune.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class PushConfig(CommandConfig):
    """`lmtune push`."""

    ckpt: str | None = key(None, literal=True, names_run="model")
    """Run folder of a run that has completed; its model goes, with its card and its numbers."""
    repo: str | None = key(None, literal=True)
    """Where to: `owner/name`, or a `name` of your own."""
    branch: str = key("main", literal=True)
    """Made where there is none."""
    public: bool = False
    """Make a new repository public; one that is there stays what it is."""
    dry_run: bool = False
    """List what would go and what would stay, with the reasons; nobody is asked and nothing is sent."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document, with the card in it."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, hold others than its config describes, or are not as they were sealed."""
    card: CardConfig = key(CardConfig)
    """What was recorded with the run holds unless it is given anew."""

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_given(self.ckpt, "lmtune push")
        if not self.repo:
            raise ConfigError("lmtune push needs repo=, found none. Give owner/name, or a name of your own.")
        self.card.check_license()
