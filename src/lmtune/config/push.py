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
    """Folder of a completed run; its model is pushed, with its card and its numbers."""
    repo: str | None = key(None, literal=True)
    """Repository to push to: `owner/name`, or a `name` of your own."""
    branch: str = key("main", literal=True)
    """Branch to push to, created if it does not exist."""
    public: bool = False
    """Make a new repository public; an existing one stays as it is."""
    dry_run: bool = False
    """List what would be pushed and what would not, with reasons; the Hub is not asked, and nothing is sent."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document, with the card in it."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""
    card: CardConfig = key(CardConfig)
    """Fields of the card; those not given are as recorded with the run."""

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_given(self.ckpt, "lmtune push")
        if not self.repo:
            raise ConfigError("lmtune push needs repo=, found none. Give owner/name, or a name of your own.")
        self.card.check_license()
