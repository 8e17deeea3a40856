"""`audit=`: what is planted before a training, and what `lmtune audit` looks for afterwards."""

from dataclasses import dataclass

from lmtune.config.checks import CommandConfig, check_given, require
from lmtune.config.commands import OutputFormat
from lmtune.config.keys import count, key, number
from lmtune.config.pages import PageConfig
from lmtune.config.ranges import check_ranges

REPEATS = (1, 4, 16, 64)
"""How often canaries are planted unless audit.repeats= says otherwise."""


@dataclass(kw_only=True, slots=True)
class CanaryConfig:
    """What is planted in the training text, for `lmtune audit` to look for."""

    canaries: int | None = count(None, least=1, most=10_000)
    """Canaries for each number of `audit.repeats`: short texts with random digits, drawn by `data.seed`, planted as documents of
    their own into the training text and never into what is held out; off by default."""
    repeats: list[int] | None = count(None, least=1, most=100_000)
    """How often each of them is planted; by default `[1,4,16,64]`, so that four times as many are planted as `audit.canaries`
    says."""

    def __post_init__(self) -> None:
        check_ranges(self, "audit.")
        given = self.repeats
        require(given is None or bool(given), "audit.repeats", given, "one number or more, such as [1,4,16,64]")
        require(len(set(given or ())) == len(given or ()), "audit.repeats", given, "each number once")

    @property
    def groups(self) -> list[int]:
        """The repeats of each group of canaries; [] where none is planted."""
        return [] if self.canaries is None else list(REPEATS if self.repeats is None else self.repeats)


@dataclass(kw_only=True, slots=True)
class AuditConfig:
    """How much `lmtune audit` looks at."""

    candidates: int = count(1000, zero="off", largest=1_000_000)
    """Texts of the form of a canary that were never planted, among which each canary is ranked; 0 looks for none."""
    controls: int = count(200, least=20, most=1_000_000)
    """Further such texts, ranked as if they were canaries: they measure how often one is found that was never planted."""
    false_alarms: float = number(0.01, above=0, below=1)
    """Share of never planted texts that may be taken for canaries: a canary is found where its rank is within this share."""
    passages: int = count(500, zero="off", largest=1_000_000)
    """Passages of the training text, and as many of what is held out, that the model is asked to go on with; 0 for none."""
    prefix: int = count(50, least=1, unit="tokens")
    """What of a passage, or before an identifier, the model is given."""
    continuation: int = count(50, least=1, unit="tokens")
    """What of a passage has to come back, all of it."""
    tries: int = count(100, least=1)
    """Texts drawn from one prefix: what comes back in at least half of such series comes back by likelihood."""
    identifiers: int = count(200, zero="off", largest=1_000_000)
    """Personal identifiers of the training text, and as many of what is held out, that are asked for; 0 for none. Needs the extra
    `audit`."""
    scan_bytes: int = count(20_000_000, zero="all", largest=2**53)
    """Bytes of the training text that are searched for identifiers, from its first on."""
    base: bool = True
    """Ask the weights that the run began with the same, to tell what tuning has added from what was known before."""
    show: int = count(3)
    """Passages that came back and stand in the page, their digits and addresses masked; none of a private run."""
    batch_size: int = count(16, least=1)
    """Rows scored at once."""

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
    def reads_text(self) -> bool:
        """True where the text of the run is needed."""
        return bool(self.passages or self.identifiers)


@dataclass(kw_only=True, slots=True)
class AuditCommandConfig(CommandConfig):
    """`lmtune audit`."""

    ckpt: str | None = key(None, literal=True, names_run="model")
    """Run (folder, `last` or part of its name) or one of its checkpoints."""
    output: str | None = key(None, literal=True, one_per_job=True)
    """Folder of audit.json and audit.html, instead of `outputs/<name>-audit/<date>`."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, hold others than its config describes, or are not as they were sealed."""
    private: bool = False
    """Show no text of the corpus, as for a run that was trained so."""
    changed_text: bool = False
    """Look at the text of the run although it has changed since the run was trained."""
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
