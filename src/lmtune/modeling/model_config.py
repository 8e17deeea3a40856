"""The config of a model, as its files or the settings of a run describe it, without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtune import foreign
from lmtune.config import ModelConfig
from lmtune.modeling import adapters

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def load_config(source: foreign.Source) -> PreTrainedConfig:
    """The config of a model, or of an adapter's base, without its weights. Raises ModelError if it does not load."""
    settings, base = adapters.open_source(source)
    if base is not None:
        source, settings = base, adapters.open_base(base)
    foreign.check_settings(source, settings)
    from transformers import AutoConfig

    with foreign.explained(source, settings, "the config of a model", f"Check its {foreign.CONFIG}."):
        return AutoConfig.from_pretrained(source.path, revision=source.revision, trust_remote_code=False)


def plan_config(config: ModelConfig) -> PreTrainedConfig:
    """The config that the model has or would have; raise ModelError if that of `path` does not load."""
    from transformers import AutoConfig

    settings = {name: value for name, value in config.config.items() if name != "model_type"}
    if config.path is None:
        return AutoConfig.for_model(config.config["model_type"], **settings)
    described = load_config(foreign.Source("model.path", config.path, config.revision))
    described.update(settings)
    return described
