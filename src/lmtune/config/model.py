"""`model=`: which model, from which weights, with which vocabulary."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmtune import upstream
from lmtune.config.keys import count, key, number
from lmtune.config.ranges import Range, check_number, check_ranges
from lmtune.config.value_types import check_types
from lmtune.errors import ConfigError
from lmtune.paths import GivenPath, Kind

MOST_ENTRIES = 2**22
"""Largest vocabulary that may be learned: memory is allocated for all of its entries."""


class ModelInit(Enum):
    """Where the weights come from."""

    pretrained = "pretrained"
    scratch = "scratch"


class LossChoice(Enum):
    """How the training loss is computed."""

    auto = "auto"
    """`fused` if the model allows it, else `plain`."""
    fused = "fused"
    """Head and cross-entropy together, a few rows at a time: no logits in memory."""
    plain = "plain"
    """As the model's own class computes it."""


class SaveDtype(Enum):
    """The precision of the weights in model/."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Transplant(Enum):
    """How embeddings move to another vocabulary. Rows of tokens that both vocabularies have are copied."""

    off = "off"
    """Not at all: a vocabulary other than the model's own is refused."""
    mean = "mean"
    """Other rows get the mean of all old rows (Guillou 2020)."""
    fvt = "fvt"
    """Other rows get the mean of the old rows of their pieces (Gee et al. 2022, arXiv:2402.09977)."""
    omp = "omp"
    """Other rows get the weighted sum of copied rows that rebuilds the token's row in the model of `model.tokenizer` (Goddard and
    Fernandes Neto 2025, arXiv:2506.06607)."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which model, from which weights, with which vocabulary."""

    name: str = "hub"
    """Name of the group, used for the run folder. Only a label: it selects nothing."""
    path: str | None = key(None, literal=True, chooses="hub", names_run="model")
    """Hub id, model folder or run (`last` too). With `init=scratch` only its config (and its tokenizer) is used."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub."""
    license: str | None = key(None, literal=True, yields_to=("path",), weights=False)
    """Licence of these weights, for the model card."""
    citation: str | None = key(None, literal=True, yields_to=("path",), weights=False)
    """How to cite these weights, for the model card."""
    init: ModelInit = ModelInit.pretrained
    """Where the weights come from: `pretrained` loads them, `scratch` draws them at random, by `seed`."""
    config: dict[str, Any] = key(dict, open=True)
    """Keys of the model's config class, for `init=scratch`; `model_type` names the class."""
    tokenizer: str | None = key(None, words=("learn",), literal=True)
    """Hub id or folder of a tokenizer other than the model's own; `learn` learns one from the training text."""
    vocab_size: int = count(1024, least=257, largest=MOST_ENTRIES)
    """Entries of the vocabulary that `model.tokenizer=learn` learns."""
    transplant: Transplant = Transplant.off
    """How pretrained embeddings move to the vocabulary of `model.tokenizer`. Tokens that both have are copied; others get the mean
    of all old rows (`mean`), the mean of the old rows of their pieces (`fvt`) or, if `model.tokenizer` names a whole model, a sum
    of copied rows that rebuilds the token there (`omp`)."""
    legacy_ids: bool = False
    """Save the special token ids of the old vocabulary, as the published GPorTuguese-2 does."""
    learning_rate: float = number(1e-4, above=0)
    """Recommended peak learning rate for these weights; `training.learning_rate` follows it. The default suited a model of 135M
    parameters (docs/experiments.md)."""
    loss: LossChoice = LossChoice.auto
    """How the training loss is computed: `fused` holds no logits in memory, `plain` does as the model's own class, `auto` is
    `fused` if the model allows it."""
    save_dtype: SaveDtype = key(SaveDtype.float32, weights=False)
    """Precision of the weights in model/. They are rounded before the final evaluation, so that its numbers are those of the saved
    model."""

    def __post_init__(self) -> None:
        check_ranges(self, "model.")
        if self.config:
            self._check_config()

    def anchor(self) -> None:
        """Make paths of local models absolute; a run folder is replaced by the model in it."""
        for name in ("path", "tokenizer"):
            value = getattr(self, name)
            if value is None:
                continue
            given = GivenPath(f"model.{name}", value)
            folder = given.expand()
            if given.find_kind(folder) not in (Kind.NOTHING, Kind.BROKEN_LINK):
                inside = folder / "model"
                is_run = given.is_file(folder / "config.yaml") and given.is_folder(inside)
                setattr(self, name, str(given.resolve(inside if is_run else folder)))

    def _check_config(self) -> None:
        if self.init is ModelInit.pretrained:
            raise ConfigError(
                f"model.config.{next(iter(self.config))} is only for model.init=scratch, found model.init=pretrained: "
                "the config of pretrained weights is given. Leave it out, or add model.init=scratch."
            )
        for name, value in self.config.items():
            if isinstance(value, float):
                check_number(f"model.config.{name}", value, Range())
        model_type = self.config.get("model_type")
        if model_type is None:
            return  # checked once the config of model.path is loaded, which decides
        known = upstream.load_model_config_fields(str(model_type))
        if known is None:
            raise ConfigError(
                f"model.config.model_type={model_type}: expected a model type of transformers, such as gpt2 or llama."
            )
        settings = {name: value for name, value in self.config.items() if name != "model_type"}
        upstream.check_names(settings, known, "model.config.")
        check_types(settings, known, "model.config.")
        for name in sorted(SIZES & settings.keys()):
            check_number(f"model.config.{name}", settings[name], Range(least=1, whole=True))

    def check_source(self) -> None:
        """Raise ConfigError unless there is something to load or build."""
        if self.tokenizer == "learn" and self.transplant is Transplant.omp:
            raise ConfigError(
                "model.transplant=omp looks new tokens up in a model that has their vocabulary, found model.tokenizer=learn. "
                "Name a model with model.tokenizer=, or give model.transplant=fvt."
            )
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
"""Keys of model configs whose values are counts of 1 or more."""


def load_model_config(plain: dict[str, Any]) -> ModelConfig:
    """The model section of a run's config.yaml."""
    words: dict[str, type[Enum]] = {
        "init": ModelInit,
        "transplant": Transplant,
        "loss": LossChoice,
        "save_dtype": SaveDtype,
    }
    return ModelConfig(**{**plain, **{name: kind(plain[name]) for name, kind in words.items() if name in plain}})
