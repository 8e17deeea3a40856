"""What a run is told: dataclasses that explain and guard each key. No torch in here.

The values live in conf/ (one YAML group for each class); these classes give Hydra the names and types that it
checks the command line and every YAML file against, and raise ConfigError where a value cannot work.
"""

from dataclasses import dataclass, field, fields
from enum import Enum
from itertools import accumulate, product
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from lmtune import keys
from lmtune.errors import ConfigError


class DocumentRule(Enum):
    """What one document is."""

    file = "file"
    """The whole file."""
    blank_line = "blank_line"
    """What stands between blank lines."""
    line = "line"
    """Every line that is not blank."""
    row = "row"
    """A row of the table (Hub, jsonl, csv, parquet)."""
    wikitext = "wikitext"
    """One article, from one ` = Title = ` to the next."""


class UnicodeForm(Enum):
    """In which form text is encoded."""

    as_is = "as_is"
    nfc = "nfc"
    """Accents composed with their letters, as nearly all Portuguese text on the web has them."""


class SplitRule(Enum):
    """How documents are held out."""

    hash = "hash"
    """By a seeded hash of the text: a document stays on its side when others are added."""
    stretches = "stretches"
    """Contiguous stretches of few, large documents."""
    given = "given"
    """By the source itself: its own splits, or data.validation_files."""


class ModelInit(Enum):
    """Where the weights come from."""

    pretrained = "pretrained"
    scratch = "scratch"


class Transplant(Enum):
    """How embeddings move to another vocabulary. Rows of tokens that both have are copied."""

    off = "off"
    """They do not: a vocabulary other than the model's own is refused."""
    mean = "mean"
    """Other rows begin as the mean of all old ones (Guillou 2020)."""
    fvt = "fvt"
    """Other rows begin as the mean of the old rows of their pieces (Gee et al. 2022, arXiv:2402.09977)."""


class EvalSplit(Enum):
    """Which documents `lmtune eval` scores."""

    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


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


class OutputFormat(Enum):
    """What stands on stdout."""

    table = "table"
    json = "json"


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where the text comes from, what a document is, and what is held out."""

    name: str = "files"
    """Name of the group, used for the run folder and in results.json."""
    language: str | None = None
    """ISO 639-1 code for the model card."""
    path: str | None = None
    """Hub id of a dataset. Not used when `files` is set."""
    subset: str | None = None
    """Configuration of the Hub dataset, such as `20231101.pt`."""
    revision: str | None = None
    """Branch, tag or commit of the Hub dataset."""
    train_split: str = "train"
    validation_split: str | None = None
    """A split of the Hub dataset to hold out; without one, documents are held out of the training split."""
    test_split: str | None = None
    files: Any = None
    """Path, glob, folder or list of them; replaces the Hub dataset."""
    validation_files: Any = None
    """Files to hold out, instead of documents of `files`."""
    text_column: str = "text"
    """Column, dotted path (`translation.pt`, `messages.0.content`) or template (`{title}\\n\\n{text}`)."""
    documents: DocumentRule | None = None
    """What one document is; by default the file for .txt, the row for tables."""
    rows_per_document: int = 1
    """Consecutive rows joined by a line end into one document, for sources whose rows are sentences."""
    deduplicate: bool = False
    """Drop exact repetitions of a row (or document), before rows are joined."""
    where: dict[str, Any] = field(default_factory=dict)
    """Keep only rows of tables with these values in these columns: `data.where={lang:pt}`."""
    unicode: UnicodeForm = UnicodeForm.as_is
    """`nfc` composes accents with their letters."""
    min_chars: int = 0
    """Drop documents with fewer characters."""
    max_documents: int | None = None
    """Keep only the first documents of the source."""
    max_bytes: int | None = None
    """Keep only the documents that begin within the first so many UTF-8 bytes."""
    encoding: str = "utf-8"
    """Of text files. A byte-order mark is recognised."""
    validation_fraction: float = 0.05
    test_fraction: float = 0.0
    split_by: SplitRule | None = None
    """By default `hash`, and `stretches` for fewer than 20 documents or one with over a quarter of the text."""
    block_size: int | None = None
    """Tokens of a training row; by default the positions of the model, at most 1024."""
    isolate_documents: bool = False
    """No token attends to another document of its row: positions begin anew at each."""
    epochs: float = 3.0
    """Passes over the text that suit it; `training.num_train_epochs` follows it."""
    prompts: list[str] = field(default_factory=list)
    """Beginnings in the language of the data, continued by the model while it learns."""

    def __post_init__(self) -> None:
        _require(self.rows_per_document >= 1, "data.rows_per_document", self.rows_per_document, "1 or more")
        _require(self.min_chars >= 0, "data.min_chars", self.min_chars, "0 or more")
        _require(
            self.max_documents is None or self.max_documents > 0, "data.max_documents", self.max_documents, "1 or more"
        )
        _require(self.max_bytes is None or self.max_bytes > 0, "data.max_bytes", self.max_bytes, "1 or more")
        _require(
            self.block_size is None or self.block_size >= 2, "data.block_size", self.block_size, "2 or more tokens"
        )
        _require(self.epochs > 0, "data.epochs", self.epochs, "more than 0")
        for key in ("validation_fraction", "test_fraction"):
            _require(0 <= getattr(self, key) < 1, f"data.{key}", getattr(self, key), "at least 0 and below 1")
        _require(
            self.validation_fraction + self.test_fraction < 1,
            "data.validation_fraction + data.test_fraction",
            self.validation_fraction + self.test_fraction,
            "below 1, so that something is left to train on",
        )
        _check_paths("data.files", self.files)
        _check_paths("data.validation_files", self.validation_files)

    @property
    def holds_out(self) -> bool:
        """True if some text will be held out for validation."""
        return self.validation_fraction > 0 or self.validation_files is not None or self.validation_split is not None

    def anchor(self) -> None:
        """Make relative paths absolute, so that the record of a run means the same files from anywhere."""
        self.files, self.validation_files = _anchor(self.files), _anchor(self.validation_files)

    def check_source(self) -> None:
        """Raise ConfigError unless there is something to read."""
        if self.files is None and self.path is None:
            raise ConfigError(
                "data=files needs data.files=, found none. Give a path, a glob or a folder, such as "
                "data.files='texts/*.txt', or choose a named data set: data=sample, data=bio."
            )


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which model, from which weights, with which vocabulary."""

    name: str = "hub"
    """Name of the group, used for the run folder."""
    path: str | None = None
    """Hub id or folder. With `init=scratch` it lends only its config (and its tokenizer)."""
    revision: str | None = None
    init: ModelInit = ModelInit.pretrained
    config: dict[str, Any] = field(default_factory=dict)
    """Keys of the model's config class, for `init=scratch`; `model_type` names the class."""
    tokenizer: str | None = None
    """Hub id or folder, if other than the model's own; `learn` learns one from the training text."""
    vocab_size: int = 1024
    """Entries of a learned vocabulary."""
    transplant: Transplant = Transplant.off
    """How pretrained embeddings move to the vocabulary of `tokenizer`: off, mean or fvt."""
    legacy_ids: bool = False
    """Save the special ids that the old vocabulary had, as the published GPorTuguese-2 does."""
    learning_rate: float = 5e-5
    """Peak rate that suits these weights; `training.learning_rate` follows it."""

    def __post_init__(self) -> None:
        _require(
            self.vocab_size > 256,
            "model.vocab_size",
            self.vocab_size,
            "more than 256, one for each byte and the separator",
        )
        _require(self.learning_rate > 0, "model.learning_rate", self.learning_rate, "more than 0")
        if self.config:
            self._check_config()

    def anchor(self) -> None:
        """Make paths of local models absolute; a run folder stands for the model in it."""
        for name in ("path", "tokenizer"):
            value = getattr(self, name)
            folder = Path(value).expanduser() if value is not None else None
            if folder is not None and folder.exists():
                inside = folder / "model"
                is_run = (folder / "config.yaml").exists() and inside.is_dir()
                setattr(self, name, str((inside if is_run else folder).resolve()))

    def _check_config(self) -> None:
        if self.init is ModelInit.pretrained:
            raise ConfigError(
                f"model.config.{next(iter(self.config))} is only for model.init=scratch, found model.init=pretrained: "
                "the config of pretrained weights is given. Leave it out, or add model.init=scratch."
            )
        model_type = self.config.get("model_type")
        if model_type is None:
            return  # the config of model.path decides; checked once that is loaded
        known = keys.load_model_config_fields(str(model_type))
        if known is None:
            raise ConfigError(
                f"model.config.model_type={model_type}: expected a model type of transformers, such as gpt2 or llama."
            )
        settings = {name: value for name, value in self.config.items() if name != "model_type"}
        keys.check_names(settings, known, "model.config.")
        keys.check_types(settings, known, "model.config.")
        for name in SIZES & settings.keys():
            value = settings[name]
            _require(value is None or value >= 1, f"model.config.{name}", value, "1 or more")

    def check_source(self) -> None:
        """Raise ConfigError unless there is something to load or build."""
        if self.path is None and self.init is ModelInit.pretrained:
            raise ConfigError(
                "model=hub needs model.path=, found none. Give a Hub id or a folder, such as "
                "model.path=openai-community/gpt2, or choose a named model: model=gpt2-tiny, model=gpt2."
            )
        if self.path is None and "model_type" not in self.config:
            raise ConfigError(
                "model.init=scratch needs model.config.model_type= (such as gpt2) or model.path= to take the config from."
            )
        if self.transplant is not Transplant.off and (self.init is ModelInit.scratch or self.tokenizer is None):
            missing = "model.init=scratch" if self.init is ModelInit.scratch else "no model.tokenizer="
            raise ConfigError(
                f"model.transplant={self.transplant.value} moves pretrained embeddings to the vocabulary of model.tokenizer=, "
                f"found {missing}. Name both, or leave it out."
            )


class FinetuneMethod(Enum):
    """Which parameters learn, and when."""

    full = "full"
    """All of them, from the first step."""
    gradual = "gradual"
    """Layer group by layer group, in phases."""
    lora = "lora"
    """A low-rank adapter."""


@dataclass(kw_only=True, slots=True)
class PhaseConfig:
    """A stretch of finetune=gradual."""

    epochs: float = 1.0
    """Passes over the text."""
    groups: int = 1
    """Layer groups that learn, counted from the top: 1 is embeddings, head and final norm."""
    learning_rate: float = 1e-3
    """Highest rate of the top group."""
    lowest_learning_rate: float | None = None
    """Highest rate of the lowest group; those between have equal ratios. By default all groups have the same."""

    def __post_init__(self) -> None:
        _require(self.epochs > 0, "finetune.phases.epochs", self.epochs, "more than 0")
        _require(self.groups >= 1, "finetune.phases.groups", self.groups, "1 or more")
        _require(self.learning_rate > 0, "finetune.phases.learning_rate", self.learning_rate, "more than 0")
        lowest = self.lowest_learning_rate
        _require(lowest is None or lowest > 0, "finetune.phases.lowest_learning_rate", lowest, "more than 0")


@dataclass(kw_only=True, slots=True)
class FinetuneConfig:
    """Which parameters learn."""

    name: str = "full"
    """Name of the group."""
    method: FinetuneMethod = FinetuneMethod.full
    """full: all of them. gradual: layer group by layer group, in phases. lora: a low-rank adapter."""
    block_groups: int = 3
    """gradual: even parts that the blocks are cut into; the top group comes on top of them."""
    phases: list[PhaseConfig] = field(default_factory=list)
    """gradual: one after the other, each with its own one-cycle."""
    pct_start: float = 0.25
    """gradual: share of a phase in which the rate rises."""
    div: float = 25.0
    """gradual: the rate begins at its highest value divided by this."""
    div_final: float = 1e5
    """gradual: and ends at its highest value divided by this."""
    momentum: list[float] = field(default_factory=lambda: [0.95, 0.85])
    """gradual: Adam's first beta at the lowest and at the highest rate."""
    rank: int = 8
    """lora: rank of the adapter's matrices."""
    alpha: float = 16.0
    """lora: the adapter counts alpha / rank times."""
    dropout: float = 0.0
    """lora: of the adapter's input."""
    target_modules: list[str] = field(default_factory=list)
    """lora: names of the layers that get one; by default all linear layers of the blocks."""
    embeddings: bool = False
    """lora: let embedding and head learn whole, tied as before."""
    merge: bool = True
    """lora: save the model with the adapter merged in, in float32; false saves the adapter alone."""

    def __post_init__(self) -> None:
        _require(self.block_groups >= 1, "finetune.block_groups", self.block_groups, "1 or more")
        _require(0 <= self.pct_start <= 1, "finetune.pct_start", self.pct_start, "a share from 0 to 1")
        _require(self.div > 0 and self.div_final > 0, "finetune.div, finetune.div_final", self.div, "more than 0")
        _require(self.rank >= 1, "finetune.rank", self.rank, "1 or more")
        _require(self.alpha > 0, "finetune.alpha", self.alpha, "more than 0")
        _require(0 <= self.dropout < 1, "finetune.dropout", self.dropout, "at least 0 and below 1")
        sound = len(self.momentum) == 2 and all(0 <= value < 1 for value in self.momentum)
        _require(sound, "finetune.momentum", self.momentum, "two numbers, at least 0 and below 1")

    def rule(self, training: dict[str, Any]) -> None:
        """Settle what the phases own in `training`; raise ConfigError where that was set besides."""
        if self.method is not FinetuneMethod.gradual:
            return
        _require(bool(self.phases), "finetune.phases", self.phases, "one phase or more")
        for name in OWNED_BY_PHASES:
            if training.pop(name, None) is not None:
                raise ConfigError(
                    f"training.{name} is set, but with finetune=gradual the phases own epochs, learning rate and schedule. "
                    "Set finetune.phases=[{epochs: 1, groups: 1, learning_rate: 1e-3}, ...] instead, or use finetune=full."
                )
        *_, epochs = accumulate(phase.epochs for phase in self.phases)
        training |= {
            "num_train_epochs": epochs,
            "learning_rate": max(phase.learning_rate for phase in self.phases),
            "lr_scheduler_type": "constant",  # rates are set before each step
            "ddp_find_unused_parameters": True,  # frozen ones get no gradient
        }


OWNED_BY_PHASES = (
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
)
"""Training arguments that finetune=gradual settles."""


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    """Where the curves go besides metrics.jsonl."""

    name: str = "none"
    """none, tensorboard, wandb, mlflow or trackio."""
    project: str = "lmtune"


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """How held-out text is scored."""

    context: int | None = None
    """Tokens of a window; by default the positions of the model, at most 1024."""
    batch_size: int = 8
    """Windows scored at once by `lmtune eval` (while training: training.per_device_eval_batch_size)."""
    max_tokens: int = 250_000
    """Held-out tokens scored while training, the same ones each time; 0 for all. The final evaluation scores all."""
    split: EvalSplit | None = None
    """Which documents `lmtune eval` scores; by default `validation`, and `all` for data.files."""

    def __post_init__(self) -> None:
        _require(self.context is None or self.context >= 1, "eval.context", self.context, "1 or more tokens")
        _require(self.batch_size >= 1, "eval.batch_size", self.batch_size, "1 or more")
        _require(self.max_tokens >= 0, "eval.max_tokens", self.max_tokens, "0 (all) or more")


@dataclass(kw_only=True, slots=True)
class EarlyStoppingConfig:
    """When to stop before the last step."""

    patience: int | None = None
    """Evaluations without a better objective before the run stops; off by default."""

    def __post_init__(self) -> None:
        _require(self.patience is None or self.patience >= 1, "early_stopping.patience", self.patience, "1 or more")


@dataclass(kw_only=True, slots=True)
class SamplesConfig:
    """Texts written by the model while it learns."""

    enabled: bool = True
    show: int = 1
    """How many of them appear on stderr at each evaluation; all of them are in samples.md."""
    seed: int = 0
    """Of the samples alone: they neither read nor touch the random numbers of the training."""


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """`lmtune train`."""

    name: str | None = None
    """First folder under outputs/; by default <data>-<model>."""
    output: str | None = None
    """The run folder itself, instead of outputs/<name>/<date>."""
    seed: int = 42
    resume: str = "off"
    """off, auto (the newest run of the same name and configuration, else a new one) or a run folder."""
    resume_force: bool = False
    """Resume although settings that change the result differ."""
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
    eval: EvalConfig = field(default_factory=EvalConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        _require(bool(self.resume), "resume", self.resume, "off, auto or a run folder")
        self.data.check_source()
        self.data.anchor()
        self.model.check_source()
        self.model.anchor()
        self.finetune.rule(self.training)
        _check_training(self.training)
        _adopt_twins(self)
        _check_seed("seed", self.seed)
        _check_seed("samples.seed", self.samples.seed)
        if self.early_stopping.patience and (self.training.get("eval_strategy") == "no" or not self.data.holds_out):
            raise ConfigError(
                "early_stopping.patience needs evaluations, found training.eval_strategy=no or nothing held out. "
                "Choose one of the two."
            )


@dataclass(kw_only=True, slots=True)
class RangeConfig:
    """The LR range test (Smith 2017, arXiv:1506.01186)."""

    start: float = 1e-7
    end: float = 1.0
    steps: int = 100
    """From start to end in equal ratios, or until the loss is four times the lowest."""
    phase: int = 1
    """With finetune=gradual: the phase whose layer groups learn, from 1."""

    def __post_init__(self) -> None:
        _require(0 < self.start < self.end, "range.start, range.end", (self.start, self.end), "0 < start < end")
        _require(self.steps >= 10, "range.steps", self.steps, "10 or more")
        _require(self.phase >= 1, "range.phase", self.phase, "1 or more")


@dataclass(kw_only=True, slots=True)
class LrFindConfig(TrainConfig):
    """`lmtune lr-find`: what `lmtune train` is told, and the range to try."""

    range: RangeConfig = field(default_factory=RangeConfig)

    def check(self) -> None:
        """As lmtune train does; raise ConfigError for a phase that there is not."""
        TrainConfig.check(self)
        phases = max(1, len(self.finetune.phases))
        _require(self.range.phase <= phases, "range.phase", self.range.phase, f"at most {phases}, the last phase")


@dataclass(kw_only=True, slots=True)
class EvalCommandConfig:
    """`lmtune eval`."""

    ckpt: str | None = None
    """Run folder, checkpoint-<step>, model folder or Hub id."""
    seed: int | None = None
    """Of the split; by default that of the run, or 42."""
    format: OutputFormat = OutputFormat.table
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    data: DataConfig | None = None
    """By default the held-out text of the run that `ckpt` names."""
    eval: EvalConfig = field(default_factory=EvalConfig)

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        _check_given("ckpt", self.ckpt, "lmtune eval")
        if self.seed is not None:
            _check_seed("seed", self.seed)
        if self.data is not None:
            self.data.check_source()
            self.data.anchor()


@dataclass(kw_only=True, slots=True)
class GridConfig:
    """Values to try beside each other, every combination."""

    temperature: list[float] = field(default_factory=list)
    """`grid.temperature=[0.5,1.0]`"""
    top_k: list[int] = field(default_factory=list)
    """`grid.top_k=[10,50]`"""

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
    top: int = 0
    """Print so many likeliest next tokens with their probabilities, instead of a text."""
    grid: GridConfig = field(default_factory=GridConfig)
    seed: int = 42
    """Each prompt begins with it, so its text depends on no other prompt."""
    format: OutputFormat = OutputFormat.table
    device: str = "auto"
    generation: dict[str, Any] = field(default_factory=dict, metadata={"keys": "generation"})

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        _check_given("ckpt", self.ckpt, "lmtune generate")
        _check_seed("seed", self.seed)
        _require(self.top >= 0, "top", self.top, "0 (off) or more")
        if not (self.prompt or self.prompts or self.prompts_file):
            raise ConfigError(
                'lmtune generate needs prompt=, found none. Give the beginning of a text: prompt="Era uma vez".'
            )


def render_plain(config: Any) -> Any:
    """A config as plain values, for YAML and JSON."""
    if isinstance(config, Enum):
        return config.value
    if isinstance(config, dict):
        return {key: render_plain(value) for key, value in config.items()}
    if isinstance(config, list):
        return [render_plain(value) for value in config]
    if hasattr(config, "__dataclass_fields__"):
        return {item.name: render_plain(getattr(config, item.name)) for item in fields(config)}
    return config


@dataclass(kw_only=True, slots=True)
class DataCommandConfig:
    """`lmtune data`."""

    seed: int = 42
    format: OutputFormat = OutputFormat.table
    cache: CacheAction = CacheAction.off
    """list: what is kept of prepared text; prune: remove it."""
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    """Whose tokenizer counts."""

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        _check_seed("seed", self.seed)
        self.data.check_source()
        self.data.anchor()
        self.model.check_source()


@dataclass(kw_only=True, slots=True)
class TokenizerConfig:
    """A byte-level BPE vocabulary to learn."""

    vocab_size: int = 50257
    """Entries: 256 bytes, the special tokens, and merges for the rest; GPT-2 has 50,257."""
    min_frequency: int = 2
    """Pairs seen less often than this are not merged, even if the vocabulary stays smaller for it."""
    special_tokens: list[str] = field(default_factory=lambda: ["<|endoftext|>"])
    """They get the first ids; the first of them stands between documents."""
    text: TokenizerText = TokenizerText.train
    """Learned from the training documents, or from all, as the original of GPorTuguese-2 did."""
    max_length: int = 1024
    """Tokens that a model with this vocabulary will take (model_max_length)."""

    def __post_init__(self) -> None:
        _require(bool(self.special_tokens), "tokenizer.special_tokens", self.special_tokens, "one or more tokens")
        least = 256 + len(self.special_tokens)
        _require(
            self.vocab_size >= least,
            "tokenizer.vocab_size",
            self.vocab_size,
            f"{least} or more, one for each byte and special token",
        )
        _require(self.min_frequency >= 1, "tokenizer.min_frequency", self.min_frequency, "1 or more")
        _require(self.max_length >= 2, "tokenizer.max_length", self.max_length, "2 or more tokens")


@dataclass(kw_only=True, slots=True)
class TokenizerCommandConfig:
    """`lmtune tokenizer`."""

    seed: int = 42
    """Of the split: the same as that of the runs to come, so that held-out text stays unseen."""
    output: str | None = None
    """Folder of the tokenizer, instead of outputs/<data>-tokenizer/<date>."""
    format: OutputFormat = OutputFormat.table
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = MISSING
    model: ModelConfig | None = None
    """Whose tokenizer to compare with; none by default."""

    def check(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        _check_seed("seed", self.seed)
        self.data.check_source()
        self.data.anchor()
        if self.model is not None:
            self.model.check_source()


LEAST_VALUES = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
}
"""Of training arguments that transformers takes as they come and stumbles over later."""

SIZES = frozenset(
    [
        "n_layer",
        "n_head",
        "n_embd",
        "n_positions",
        "n_inner",
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "max_position_embeddings",
        "head_dim",
    ]
)
"""Keys of model configs that count something there has to be."""

_TWINS = {
    "seed": "seed",
    "resume_from_checkpoint": "resume",
    "report_to": "tracker",
    "run_name": "name",
    "output_dir": "output",
}
"""Keys of TrainingArguments that have their home elsewhere."""


def _check_training(training: dict[str, Any]) -> None:
    known = keys.load_training_fields()
    keys.check_names(training, known, "training.")
    keys.check_types(training, known, "training.")
    for name, least in LEAST_VALUES.items():
        value = training.get(name)
        _require(value is None or value >= least, f"training.{name}", value, f"at least {least}")
    steps = training.get("max_steps")
    _require(
        steps is None or steps == -1 or steps >= 1, "training.max_steps", steps, "at least 1, or -1 for whole epochs"
    )
    for name in ("eval_steps", "save_steps", "logging_steps", "num_train_epochs"):
        value = training.get(name)
        _require(value is None or value > 0, f"training.{name}", value, "more than 0")
    if training.get("hub_token") is not None:
        raise ConfigError(
            "training.hub_token would be written into config.yaml; expected no secret on the command line. "
            "Set the environment variable HF_TOKEN instead."
        )
    for name in ("do_train", "do_eval"):
        if training.get(name) is False:
            raise ConfigError(
                f"training.{name}=false: lmtune train trains and evaluates. To evaluate alone: lmtune eval ckpt=..."
            )
    for name in ("fp16_full_eval", "bf16_full_eval"):
        if training.get(name):
            raise ConfigError(
                f"training.{name}=true: held-out text is scored in float32, so that numbers compare. Leave it out."
            )
    if training.get("label_smoothing_factor"):
        raise ConfigError(
            "training.label_smoothing_factor is not supported: it would change what the loss means. Leave it out."
        )


def _adopt_twins(config: TrainConfig) -> None:
    """Move values of `training.*` that have a home elsewhere to that home; refuse two that differ."""
    untouched = TrainConfig()
    for twin, home in _TWINS.items():
        value = config.training.pop(twin, None)
        if value is None:
            continue
        if home == "tracker":
            value = value[0] if isinstance(value, list) and len(value) == 1 else value
            current, default = config.tracker.name, "none"
        else:
            current, default = getattr(config, home), getattr(untouched, home)
        if current not in (default, value):
            raise ConfigError(f"{home}={current} and training.{twin}={value} differ; they mean the same. Keep {home}=.")
        if home == "tracker":
            config.tracker.name = str(value)
        else:
            setattr(config, home, value)


def load_data_config(plain: dict[str, Any]) -> DataConfig:
    """The data section of a run's config.yaml. Its strings are literal: no interpolation is resolved again."""
    rules: dict[str, type[Enum]] = {"documents": DocumentRule, "split_by": SplitRule, "unicode": UnicodeForm}
    enums = {name: kind(plain[name]) for name, kind in rules.items() if plain.get(name)}
    return DataConfig(**{**plain, **enums})


def _anchor(paths: Any) -> Any:
    if isinstance(paths, list):
        return [_anchor(path) for path in paths]
    if paths is None or paths.startswith("pkg://"):
        return paths
    return str(Path.cwd() / Path(paths).expanduser())


def _check_given(key: str, value: str | None, command: str) -> None:
    if not value:
        raise ConfigError(
            f"{command} needs {key}=, found none. Give a run folder (outputs/...), a checkpoint, a model folder or a Hub id."
        )


def _check_paths(key: str, value: Any) -> None:
    paths = value if isinstance(value, list) else [value]
    if value is not None and not (paths and all(isinstance(path, str) and path for path in paths)):
        raise ConfigError(f"{key}={value!r}: expected a path, a glob, a folder or a list of them.")


def _check_seed(key: str, value: int) -> None:
    _require(0 <= value < 2**32, key, value, "a whole number from 0 to 4294967295")


def _require(holds: bool, key: str, found: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{key}={found}: expected {expected}.")
