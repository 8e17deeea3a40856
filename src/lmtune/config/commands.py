"""What each command is told: one class for each."""

from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from typing import Any

from omegaconf import MISSING

from lmtune.config.checks import INTERNAL, check_given, require
from lmtune.config.data import DataConfig
from lmtune.config.evaluation import EvalConfig, SuiteConfig
from lmtune.config.finetune import FinetuneConfig, FinetuneMethod
from lmtune.config.generation import check_generation
from lmtune.config.model import MOST_ENTRIES, ModelConfig
from lmtune.config.ranges import check_ranges, count, number, seed, within
from lmtune.config.training import (
    BatchConfig,
    EarlyStoppingConfig,
    SamplesConfig,
    TrackerConfig,
    check_best,
    check_training,
    settle_training,
)
from lmtune.errors import ConfigError


class OutputFormat(Enum):
    """What stands on stdout."""

    table = "table"
    json = "json"


class CacheAction(Enum):
    """What `lmtune data cache=` does with prepared text."""

    off = "off"
    list = "list"
    prune = "prune"


class TokenizerText(Enum):
    """What a vocabulary is learned from."""

    train = "train"
    """The training side alone: held-out text stays unseen."""
    all = "all"
    """Everything, held-out documents included, as GPorTuguese-2 did."""


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """`lmtune train`."""

    name: str | None = None
    """First folder under outputs/; by default <data>-<model>."""
    output: str | None = None
    """The run folder itself, instead of outputs/<name>/<date>."""
    seed: int = seed(42)
    resume: str = "off"
    """off, auto (the newest run of the same name and configuration, else a new one) or a run folder."""
    resume_force: bool = False
    """Resume although settings that change the result differ."""
    stop_on_failed_save: bool = False
    """End the run when a checkpoint cannot be saved; otherwise that is said aloud and the next save tries again."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, hold others than its config describes, or are not as they were sealed."""
    format: OutputFormat = OutputFormat.table
    objective: str = "bits_per_byte"
    """What a sweep minimises: a metric of the first evaluation set, or <set>.<metric>."""
    prompts: list[str] = field(default_factory=list)
    """Beginnings that the model continues while it learns; by default those of the data."""
    eval_data: list[str] = field(default_factory=list)
    """Further sets to watch, by the names of their groups: `eval_data=[pt-wiki,wikitext]`."""
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    finetune: FinetuneConfig = MISSING
    tracker: TrackerConfig = MISSING
    training: dict[str, Any] = field(default_factory=dict, metadata={"keys": "training"})
    generation: dict[str, Any] = field(default_factory=dict, metadata={"keys": "generation"})
    batch: BatchConfig = field(default_factory=BatchConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    eval_sets: dict[str, DataConfig] = field(default_factory=dict, metadata=INTERNAL)
    """What the names of eval_data stand for."""
    mixed_sets: dict[str, DataConfig] = field(default_factory=dict, metadata=INTERNAL)
    """What the names of data.mix stand for, `data=` itself left out."""
    groups: dict[str, str] = field(default_factory=dict, metadata=INTERNAL)
    """Group to the choice that was made of it."""
    job_folder: str | None = field(default=None, metadata=INTERNAL)
    """The run folder, where a sweep gives it."""

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        require(bool(self.resume), "resume", self.resume, "off, auto or a run folder")
        self.data.check_source()
        self.data.anchor()
        self.model.check_source()
        self.model.anchor()
        for other in (*self.eval_sets.values(), *self.mixed_sets.values()):
            other.seed = self.data.seed  # a run has one split, so that what one of its sets holds out is in no other
        self._check_streaming()
        self.finetune.rule(self.training)
        check_training(self.training)
        settle_training(self.training)
        check_generation(self.generation)
        _adopt_twins(self)
        check_ranges(self, "")
        check_best(self)
        if self.early_stopping.patience and (self.training.get("eval_strategy") == "no" or not self.evaluates):
            raise ConfigError(
                "early_stopping.patience needs evaluations, found training.eval_strategy=no or nothing held out. "
                "Choose one of the two."
            )

    @property
    def evaluates(self) -> bool:
        """True if there is held-out text to score while training."""
        return self.data.holds_out or bool(self.eval_data)

    def _check_streaming(self) -> None:
        if not self.data.streaming:
            return
        if self.finetune.method is FinetuneMethod.gradual:
            raise ConfigError(
                "data.streaming=true and finetune=gradual do not go together, found both: phases last epochs, and nobody knows how "
                "long a stream is. Choose one of the two."
            )
        if (self.training.get("max_steps") or -1) < 1:
            raise ConfigError(
                "data.streaming=true needs training.max_steps=, since nobody knows how long the text is. "
                "Say how many steps to train."
            )
        if self.training.get("dataloader_num_workers"):
            raise ConfigError(
                "training.dataloader_num_workers: expected 0 with data.streaming=true, which reads and encodes in the process that "
                "trains, so that its position can be saved. Leave it out."
            )


TWINS = {
    "seed": "seed",
    "resume_from_checkpoint": "resume",
    "report_to": "tracker.name",
    "run_name": "name",
    "output_dir": "output",
    "project": "tracker.project",
}
"""Keys of TrainingArguments that have their home elsewhere."""


def _adopt_twins(config: TrainConfig) -> None:
    """Move values of `training.*` that have a home elsewhere to that home; refuse two that differ."""
    untouched = TrainConfig(tracker=TrackerConfig())
    for twin, home in TWINS.items():
        value = config.training.pop(twin, None)
        if value is None:
            continue
        if isinstance(value, list):  # report_to takes one or several
            value = value[0] if len(value) == 1 else str(value)
        section, _, name = home.rpartition(".")
        ours, theirs = (getattr(each, section) if section else each for each in (config, untouched))
        current = getattr(ours, name)
        if current not in (getattr(theirs, name), value):
            key = home.removesuffix(".name")
            raise ConfigError(f"{key}={current} and training.{twin}={value} differ; they mean the same. Keep {key}=.")
        setattr(ours, name, value)


@dataclass(kw_only=True, slots=True)
class RangeConfig:
    """The LR range test (Smith 2017, arXiv:1506.01186)."""

    start: float = number(1e-7, least=1e-30)
    end: float = number(1.0, above=0, most=1e30)
    steps: int = count(100, least=10)
    """From start to end in equal ratios, or until the loss is four times the lowest."""
    phase: int = count(1, least=1)
    """With finetune=gradual: the phase whose layer groups learn, from 1."""

    def __post_init__(self) -> None:
        check_ranges(self, "range.")
        require(self.start < self.end, "range.start", self.start, f"less than range.end={self.end}")


@dataclass(kw_only=True, slots=True)
class LrFindConfig(TrainConfig):
    """`lmtune lr-find`: what `lmtune train` is told, and the range to try."""

    range: RangeConfig = field(default_factory=RangeConfig)

    def check(self) -> None:
        """As lmtune train does; raise ConfigError for a phase that there is not."""
        if self.data.streaming:
            self.training["max_steps"] = self.range.steps
        TrainConfig.check(self)
        phases = max(1, len(self.finetune.phases))
        require(self.range.phase <= phases, "range.phase", self.range.phase, f"at most {phases}, the last phase")


@dataclass(kw_only=True, slots=True)
class EvalCommandConfig:
    """`lmtune eval`."""

    ckpt: Any = None
    """Run folder, checkpoint-<step>, model folder or Hub id; several are compared with the first: `ckpt=[A,B]`."""
    output: str | None = None
    """Folder for a file of eval.per_document, with all documents; without it none is written."""
    format: OutputFormat = OutputFormat.table
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, hold others than its config describes, or are not as they were sealed."""
    data: DataConfig | None = None
    """By default the held-out text of the run that `ckpt` names."""
    changed_text: bool = False
    """Score the held-out text of the run although it has changed since the run was trained."""
    suite: SuiteConfig | None = None
    """Benchmarks instead of text."""
    eval: EvalConfig = field(default_factory=EvalConfig)

    @property
    def checkpoints(self) -> list[str]:
        """What `ckpt` names, one or several."""
        return [str(ckpt or "") for ckpt in (self.ckpt if isinstance(self.ckpt, list) else [self.ckpt])]

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        for ckpt in self.checkpoints or [""]:
            check_given("ckpt", ckpt, "lmtune eval")
        if len(set(self.checkpoints)) < len(self.checkpoints):
            raise ConfigError(f"ckpt=[{','.join(self.checkpoints)}]: expected each checkpoint once.")
        if self.suite is not None:
            self.suite.check()
            if self.data is not None:
                raise ConfigError("suite= brings its own text, and data= names another. Leave one of them out.")
        check_ranges(self, "")
        if self.data is not None:
            self.data.check_source()
            self.data.anchor()


@dataclass(kw_only=True, slots=True)
class GridConfig:
    """Values to try beside each other, every combination."""

    temperature: list[float] = field(default_factory=list, metadata=within(above=0))
    """`grid.temperature=[0.5,1.0]`"""
    top_k: list[int] = field(default_factory=list, metadata=within(least=0, whole=True, zero="off"))
    """`grid.top_k=[10,50]`"""

    def __post_init__(self) -> None:
        check_ranges(self, "grid.")

    def settings(self) -> list[dict[str, Any]]:
        """generation.* of each cell; one cell without settings where nothing is to be tried."""
        axes = {name: values for name, values in (("temperature", self.temperature), ("top_k", self.top_k)) if values}
        return [dict(zip(axes, cell, strict=True)) for cell in product(*axes.values())]


@dataclass(kw_only=True, slots=True)
class GenerateConfig:
    """`lmtune generate`."""

    ckpt: str | None = None
    """Run folder, checkpoint-<step>, model folder or Hub id."""
    prompt: str | None = None
    prompts: list[str] = field(default_factory=list)
    """Further prompts."""
    prompts_file: str | None = None
    """A text file with a prompt on each line; blank lines are left out."""
    top: int = count(0, zero="off")
    """Print so many likeliest next tokens with their probabilities, instead of a text."""
    grid: GridConfig = field(default_factory=GridConfig)
    seed: int = seed(42)
    """Each prompt begins with it, so its text depends on no other prompt."""
    format: OutputFormat = OutputFormat.table
    device: str = "auto"
    check_weights: bool = True
    """Refuse a model whose files lack weights, hold others than its config describes, or are not as they were sealed."""
    generation: dict[str, Any] = field(default_factory=dict, metadata={"keys": "generation"})

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_given("ckpt", self.ckpt, "lmtune generate")
        check_ranges(self, "")
        check_generation(self.generation)
        if not (self.prompt or self.prompts or self.prompts_file):
            raise ConfigError(
                'lmtune generate needs prompt=, found none. Give the beginning of a text: prompt="Era uma vez".'
            )


@dataclass(kw_only=True, slots=True)
class DataCommandConfig:
    """`lmtune data`."""

    format: OutputFormat = OutputFormat.table
    cache: CacheAction = CacheAction.off
    """list: what is kept of prepared text; prune: remove it."""
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    """Whose tokenizer counts."""
    mixed_sets: dict[str, DataConfig] = field(default_factory=dict, metadata=INTERNAL)
    """What the names of data.mix stand for, `data=` itself left out."""

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_ranges(self, "")
        self.data.check_source()
        self.data.anchor()
        self.model.check_source()
        self.model.anchor()


@dataclass(kw_only=True, slots=True)
class TokenizerConfig:
    """A byte-level BPE vocabulary to learn."""

    vocab_size: int = count(50257, least=257, largest=MOST_ENTRIES)
    """Entries: 256 bytes, the special tokens, and merges for the rest; GPT-2 has 50,257."""
    min_frequency: int = count(2, least=1)
    """Pairs seen less often than this are not merged, even if the vocabulary stays smaller for it."""
    special_tokens: list[str] = field(default_factory=lambda: ["<|endoftext|>"])
    """They get the first ids; the first of them stands between documents."""
    text: TokenizerText = TokenizerText.train
    """Learned from the training documents, or from all, as the original of GPorTuguese-2 did."""
    max_length: int = count(1024, least=2, unit="tokens")
    """Tokens that a model with this vocabulary will take (model_max_length)."""

    def __post_init__(self) -> None:
        check_ranges(self, "tokenizer.")
        self._check_special_tokens()
        least = 256 + len(self.special_tokens)
        require(
            self.vocab_size >= least,
            "tokenizer.vocab_size",
            self.vocab_size,
            f"{least} or more, one for each byte and special token",
        )

    def _check_special_tokens(self) -> None:
        tokens = self.special_tokens
        require(bool(tokens), "tokenizer.special_tokens", tokens, "one or more tokens")
        for token in tokens:
            require(
                len(token.strip()) >= 2 and token == token.strip(),
                "tokenizer.special_tokens",
                tokens,
                "tokens of two characters or more without blanks around them, since single characters stand for bytes",
            )
        require(len(set(tokens)) == len(tokens), "tokenizer.special_tokens", tokens, "each token once")


@dataclass(kw_only=True, slots=True)
class TokenizerCommandConfig:
    """`lmtune tokenizer`."""

    output: str | None = None
    """Folder of the tokenizer, instead of outputs/<data>-tokenizer/<date>."""
    format: OutputFormat = OutputFormat.table
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = MISSING
    model: ModelConfig | None = None
    """Whose tokenizer to compare with; none by default."""

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_ranges(self, "")
        self.data.check_source()
        self.data.anchor()
        if self.model is not None:
            self.model.check_source()
            self.model.anchor()
