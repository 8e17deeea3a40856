"""`audit=`: what is planted before a training, and what `lmtune audit` looks for afterwards."""

from dataclasses import dataclass

from lmtune.config.checks import CommandConfig, check_given, require
from lmtune.config.commands import OutputFormat
from lmtune.config.keys import DEVICES, count, key, number
from lmtune.config.pages import PageConfig
from lmtune.config.ranges import check_ranges

REPEATS = (1, 4, 16, 64)
"""How often canaries are planted unless audit.repeats= says otherwise."""
USUAL_TOKENS = 50
"""Tokens of either part of a passage, as in arXiv:2202.07646, in rows that are long enough."""


@dataclass(kw_only=True, slots=True)
class CanaryConfig:
    """What is planted in the training text, for `lmtune audit` to look for."""

    canaries: int | None = count(None, least=1, most=10_000)
    """Canaries to plant for each number in `audit.repeats`: short texts with random digits, drawn by `data.seed` and planted as
    separate documents in the training text, never in held-out text. Off by default."""
    repeats: list[int] | None = count(None, least=1, most=100_000)
    """How often each canary of a group is planted, one group per number; by default `[1,4,16,64]`, which makes four times as many
    canaries as `audit.canaries`."""

    def __post_init__(self) -> None:
        check_ranges(self, "audit.")
        given = self.repeats
        require(given is None or bool(given), "audit.repeats", given, "one number or more, such as [1,4,16,64]")
        require(len(set(given or ())) == len(given or ()), "audit.repeats", given, "each number once")

    @property
    def groups(self) -> list[int]:
        """The repeats of each group of canaries; [] if none are planted."""
        return [] if self.canaries is None else list(REPEATS if self.repeats is None else self.repeats)


@dataclass(kw_only=True, slots=True)
class AuditConfig:
    """How much `lmtune audit` examines."""

    candidates: int = count(1000, zero="off", largest=1_000_000)
    """Texts of the form of a canary that were never planted, among which each canary is ranked; with 0, none are looked for."""
    controls: int = count(200, least=20, most=1_000_000)
    """Additional texts that were never planted, ranked like canaries, to measure how often such a text is found."""
    false_alarms: float = number(0.01, above=0, below=1)
    """Share of never planted texts that may be taken for canaries: a canary is found if its rank is within this share."""
    passages: int = count(500, zero="off", largest=1_000_000)
    """Passages of the training text, and as many of held-out text, that the model is asked to continue; 0 for none."""
    prefix: int | None = count(None, least=1, unit="tokens")
    """Tokens of a passage, or before an identifier, that the model is given. By default 50, or half a row of the run if its rows
    have fewer than 100."""
    continuation: int | None = count(None, least=1, unit="tokens")
    """Tokens of a passage that have to come back, all of them. By default 50, or what `audit.prefix` leaves of a row of the run."""
    tries: int = count(100, least=1)
    """Texts in a series drawn from one prefix. What would come back in at least half of all such series comes back by
    likelihood."""
    identifiers: int = count(200, zero="off", largest=1_000_000)
    """Personal identifiers of the training text, and as many of held-out text, to ask for; 0 for none. Needs the extra `audit`."""
    scan_bytes: int = count(20_000_000, zero="all", largest=2**53)
    """Bytes of the training text to search for identifiers, from its start."""
    base: bool = True
    """Also ask the weights that the run began with, to tell what training added from what was known before."""
    show: int = count(3)
    """Passages that came back to show in the page, with digits and addresses masked; none for a private run."""
    batch_size: int = count(16, least=1)
    """Rows per batch."""

    def __post_init__(self) -> None:
        check_ranges(self, "audit.")
        require(
            not self.candidates or self.false_alarms * (self.candidates + 1) >= 1,
            "audit.candidates",
            self.candidates,
            f"{round(1 / self.false_alarms) - 1:,} or more, since the best rank among fewer is no rarer than "
            f"audit.false_alarms={self.false_alarms:g}",
        )

    @property
    def given(self) -> int:
        """Tokens that the model is given."""
        return USUAL_TOKENS if self.prefix is None else self.prefix

    @property
    def asked(self) -> int:
        """Tokens that have to come back."""
        return USUAL_TOKENS if self.continuation is None else self.continuation

    @property
    def reads_text(self) -> bool:
        """True if the text of the run is needed."""
        return bool(self.passages or self.identifiers)


@dataclass(kw_only=True, slots=True)
class AuditCommandConfig(CommandConfig):
    """`lmtune audit`."""

    ckpt: str | None = key(None, literal=True, names_run="model")
    """Model to audit: a run (its folder, `last` or part of its name) or one of its checkpoints."""
    output: str | None = key(None, literal=True, one_per_job=True)
    """Folder for audit.json and audit.html, instead of `outputs/<name>-audit/<date>`."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    device: str = key("auto", words=DEVICES)
    """Device to run on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""
    private: bool = False
    """Show no text of the corpus; implied by a run that was trained with `private=true`."""
    changed_text: bool = False
    """Use the text of the run even if it has changed since training."""
    report: PageConfig = key(PageConfig)
    audit: AuditConfig = key(AuditConfig)

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_given(self.ckpt, "lmtune audit", "a run folder (outputs/...) or one of its checkpoints")
        budgets = self.audit
        require(
            bool(budgets.candidates or budgets.reads_text),
            "audit.candidates, audit.passages, audit.identifiers",
            "0, 0, 0",
            "one of them above 0, since nothing would be looked for",
        )
