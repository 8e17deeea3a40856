"""Configuration of the commands besides `lmtune train` and `lmtune lr-find`: one class for each."""

from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Any

from omegaconf import MISSING

from lmtune.config.checks import CommandConfig, check_checkpoints, check_given, check_paths, list_checkpoints, require
from lmtune.config.data import DataConfig
from lmtune.config.evaluation import EvalConfig, SuiteConfig
from lmtune.config.generation import check_generation, settle_generation
from lmtune.config.keys import DEVICES, count, key, number, seed
from lmtune.config.model import ModelConfig
from lmtune.config.parts import check_divisible, read_shard
from lmtune.config.ranges import check_ranges
from lmtune.errors import ConfigError


class OutputFormat(Enum):
    """The form of what is written to stdout."""

    table = "table"
    json = "json"


class CacheAction(Enum):
    """What `lmtune data cache=` does with prepared text."""

    off = "off"
    list = "list"
    prune = "prune"


class ExportFormat(Enum):
    """The file format of an exported model."""

    gguf = "gguf"
    """One file for llama.cpp, Ollama and programs built on them, with a Modelfile beside it."""
    safetensors = "safetensors"
    """A folder for transformers, vLLM and others, with an adapter merged."""


class ExportDtype(Enum):
    """The precision of exported weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    q8_0 = "q8_0"
    """Eight bits per weight, and one scale per 32 weights."""


EXPORTED = {
    ExportFormat.gguf: (ExportDtype.float32, ExportDtype.float16, ExportDtype.q8_0),
    ExportFormat.safetensors: (ExportDtype.float32, ExportDtype.bfloat16, ExportDtype.float16),
}
"""The precisions that each format supports."""


@dataclass(kw_only=True, slots=True)
class EvalCommandConfig(CommandConfig):
    """`lmtune eval`."""

    ckpt: Any = key(None, literal=True, several=True, names_run="model")
    """Model to score: a run (its folder, `last` or part of its name), a `checkpoint-<step>`, a model folder or a Hub id. Several,
    `ckpt=[A,B]`, are compared with the first."""
    against: Any = key(None, literal=True, several=True, names_run="model")
    """Models to compare `ckpt` with: `ckpt=[A1,A2,A3] against=[B1,B2,B3]` compares two ways of training with one run per seed, over
    runs and documents."""
    output: str | None = key(None, literal=True, one_per_job=True)
    """Folder for the file of `eval.per_document`, with all documents; without it no file is written."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    device: str = key("auto", words=DEVICES)
    """Device to run on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""
    data: DataConfig | None = key(None, absent="the text is what the run held out")
    """Text to score; by default the held-out text of the run that `ckpt` names."""
    private: bool = False
    """Show no text of documents; implied by a run that was trained with `private=true`."""
    changed_text: bool = False
    """Score the held-out text of the run even if it has changed since training."""
    suite: SuiteConfig | None = key(None, absent="no benchmark is chosen")
    """Benchmarks to run instead of scoring text."""
    eval: EvalConfig = key(EvalConfig)

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints that `ckpt` names."""
        return list_checkpoints(self.ckpt)

    @property
    def opponents(self) -> list[str]:
        """The checkpoints that `against` names; [] if there are none."""
        return [] if self.against is None else list_checkpoints(self.against)

    @property
    def named(self) -> dict[str, str]:
        """Each checkpoint that is scored, with the key that names it."""
        return dict.fromkeys(self.checkpoints, "ckpt") | dict.fromkeys(self.opponents, "against")

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before anything is loaded."""
        check_checkpoints(self.checkpoints, "lmtune eval")
        self._check_opponents()
        if self.suite is not None:
            self.suite.check_settings()
            if self.data is not None:
                raise ConfigError("suite= brings its own text, and data= names another. Leave one of them out.")
        check_ranges(self, "")
        if self.data is not None:
            self.data.check_source()

    def _check_opponents(self) -> None:
        opponents = self.opponents
        listed = f"against=[{','.join(opponents)}]"
        if not all(opponents) or (self.against is not None and not opponents):
            raise ConfigError(
                f"{listed}: expected checkpoints to compare with, found none. Name some, or leave it out."
            )
        if len(self.named) < len(self.checkpoints) + len(opponents):
            raise ConfigError(f"{listed}: expected each checkpoint once, on one side.")
        if opponents and self.suite is not None:
            raise ConfigError("against= compares numbers of a text, found suite=. Leave one of them out.")

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Make paths absolute."""
        if self.data is not None:
            self.data.anchor()


@dataclass(kw_only=True, slots=True)
class GridConfig:
    """Sampling parameters to try, in every combination."""

    temperature: list[float] = number(list, above=0)
    """Temperatures to try: `grid.temperature=[0.5,1.0]`."""
    top_k: list[int] = count(list, zero="off")
    """Values of `top_k` to try; with `grid.temperature`, every combination is tried."""

    def __post_init__(self) -> None:
        check_ranges(self, "grid.")

    def settings(self) -> list[dict[str, Any]]:
        """`generation.*` of each combination; one empty combination if there is nothing to try."""
        axes = {name: values for name, values in (("temperature", self.temperature), ("top_k", self.top_k)) if values}
        return [dict(zip(axes, cell, strict=True)) for cell in product(*axes.values())]


@dataclass(kw_only=True, slots=True)
class GenerateConfig(CommandConfig):
    """`lmtune generate`."""

    ckpt: str | None = key(None, literal=True, several=True, names_run="model")
    """Model to use: a run (its folder, `last` or part of its name), a `checkpoint-<step>`, a model folder or a Hub id."""
    prompt: str | None = key(None, literal=True)
    """Beginning of a text, which the model continues."""
    prompts: list[str] = key(list, literal=True, several=True)
    """Additional prompts."""
    prompts_file: str | None = key(None, literal=True)
    """Text file with one prompt per line; blank lines are skipped."""
    top: int = count(0, zero="off")
    """Print this many of the likeliest next tokens with their probabilities, instead of a text."""
    grid: GridConfig = key(GridConfig)
    seed: int = seed(42)
    """Seed of sampling, set again for each prompt, so that a text does not depend on other prompts."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    device: str = key("auto", words=DEVICES)
    """Device to run on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""
    generation: dict[str, Any] = key(dict, names="generation")

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_given(self.ckpt, "lmtune generate")
        check_ranges(self, "")
        check_generation(self.generation)
        if not (self.prompt or self.prompts or self.prompts_file):
            raise ConfigError(
                'lmtune generate needs prompt=, found none. Give the beginning of a text: prompt="Era uma vez".'
            )

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Resolve the length of a text. typed: keys given on the command line."""
        settle_generation(self.generation, typed)


@dataclass(kw_only=True, slots=True)
class DataCommandConfig(CommandConfig):
    """`lmtune data`."""

    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    private: bool = False
    """Show no text of documents or blocks."""
    cache: CacheAction = CacheAction.off
    """`list` shows the prepared texts in the cache, `prune` removes them."""
    shard: str | None = key(None, literal=True)
    """Prepare one part of the files, such as `3/8`, the third of eight, into the folder `output`."""
    output: str | None = key(None, literal=True, one_per_job=True)
    """Folder for the part that `shard` names."""
    merge: Any = key(None, literal=True, several=True)
    """Folders of all parts, or a pattern for them, to join into the prepared text that `lmtune train` starts from."""
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    """Model whose tokenizer counts the tokens."""
    mixed_sets: dict[str, DataConfig] = key(dict, internal=True)
    """The data sets named by data.mix, except that of `data=` itself."""

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before anything is loaded."""
        check_ranges(self, "")
        self.data.check_source()
        self.model.check_source()
        check_paths("merge", self.merge)
        self._check_parts()

    def _check_parts(self) -> None:
        """Raise ConfigError for combinations of shard, merge and output that cannot work."""
        given = [name for name in ("shard", "merge") if getattr(self, name) is not None]
        require(
            len(given) < 2, "shard, merge", f"{self.shard}, {self.merge}", "one of them: parts first, then all of them"
        )
        require(
            (self.shard is None) == (self.output is None),
            "shard, output",
            f"{self.shard}, {self.output}",
            "both, a part and the folder for it: shard=1/8 output=parts/1",
        )
        if self.shard is not None:
            read_shard(self.shard)
        if given:
            check_divisible(self.data, given[0])

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Make paths absolute."""
        self.data.anchor()
        self.model.anchor()


@dataclass(kw_only=True, slots=True)
class ExportConfig(CommandConfig):
    """`lmtune export`."""

    ckpt: str | None = key(None, literal=True, names_run="model")
    """Model to export: a run (its folder, `last` or part of its name), a `checkpoint-<step>`, a model folder or a Hub id. An
    adapter is merged in float32."""
    to: ExportFormat | None = None
    """Format to write: `gguf`, one file for llama.cpp and Ollama, or `safetensors`, a folder for transformers, vLLM and others."""
    dtype: ExportDtype = ExportDtype.float32
    """Precision of the weights; `bfloat16` only for safetensors, `q8_0` only for gguf."""
    output: str | None = key(None, literal=True, one_per_job=True)
    """Folder to write to, instead of `outputs/<name>-<to>/<date>`."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_given(self.ckpt, "lmtune export")
        if self.to is None:
            raise ConfigError("lmtune export needs to=, found none. Give to=gguf or to=safetensors.")
        allowed = [each.value for each in EXPORTED[self.to]]
        require(self.dtype.value in allowed, "dtype", self.dtype.value, f"{', '.join(allowed)} for to={self.to.value}")
