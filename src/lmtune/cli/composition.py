"""From overrides to the finished, checked configuration of a command, composed by Hydra."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, TypeVar

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtune import upstream
from lmtune.cli.effects.typed import check_effects
from lmtune.cli.explain import explain_error, explain_named, explain_unknown
from lmtune.cli.overrides import quote
from lmtune.cli.schemas import RESUMED, find_conf, keys_of, known_keys, name_command, store_schema
from lmtune.cli.user_conf import folders
from lmtune.config import DataCommandConfig, DataConfig, TrainConfig, load_data_config
from lmtune.config.checks import CommandConfig, check_words
from lmtune.config.keys import KeyField, Plain, facts_of, holds_plain_list, walk
from lmtune.config.mixing import resolve_mixed
from lmtune.errors import ConfigError, Gathering
from lmtune.storage import slug

NOT_TYPED = upstream.Typed()
Config = TypeVar("Config", bound=CommandConfig)


def register(command: str, config_dirs: Sequence[str] = ()) -> None:
    """Register the command's schema and config folders with Hydra.

    Raises ConfigError for an entry of `config_dirs` that is not a folder.
    """
    store_schema(command)
    folders.register(find_conf(), config_dirs)


def build_config(
    node: DictConfig,
    schema: type[Config],
    typed: upstream.Typed = NOT_TYPED,
    told: Plain | None = None,
) -> Config:
    """The finished configuration: checked, with all derived values filled in. Every typed key must have an effect.

    told: config.yaml of a run that is resumed; names that it recorded keep their meaning, wherever the command is run.
    """
    try:
        config = _build_config(node, schema, typed)
    except OmegaConfBaseException as error:  # explained here, since Hydra would print a line of its own first
        raise ConfigError(explain_error(error, name_command(schema))) from error
    told = told or {}
    if isinstance(config, TrainConfig | DataCommandConfig):
        _resolve_sets(config, told)
    if isinstance(config, TrainConfig):
        config.groups = list_choices(told)
    return config


def _build_config(node: DictConfig, schema: type[Config], typed: upstream.Typed) -> Config:
    absent = sorted(key for key in OmegaConf.missing_keys(node) if key.split(".")[0] not in ("training", "generation"))
    if absent:
        raise ConfigError(f"{absent[0]} has no value. Give one: {absent[0]}=...")
    command = name_command(schema)
    check_added(node, command)
    if command in ("eval", "data", "tokenizer", "fetch") and node.data is not None:
        node.data.name = HydraConfig.get().runtime.choices["data"]
    config = schema(**_build_sections(node, schema))
    config.check_settings()
    config.resolve(typed.keys)
    check_effects(command, config, typed)
    return config


def _build_sections(node: DictConfig, schema: type) -> dict[str, Any]:
    """Values by key. Raises ConfigError for all sections that are invalid by themselves."""
    sections, found = {}, Gathering()
    for name, item in walk(schema):
        if holds_plain_list(item):
            with found.noting():
                check_words(name, OmegaConf.select(node, name, default=[], throw_on_missing=False) or [])
    found.raise_all()
    for item in keys_of(schema):
        with found.noting():
            sections[item.name] = _build_section(node, item)
    found.raise_all()
    return sections


def _resolve_sets(config: TrainConfig | DataCommandConfig, told: Plain) -> None:
    """Fill in the data sets that eval_data= and data.mix= name."""
    mixed = [name for name in config.data.mix if name != config.data.name]
    found = _resolve_names(mixed, "data.mix", config.data.seed, told.get("mixed_sets", {}))
    config.mixed_sets = {name: resolve_mixed(config.data, other) for name, other in found.items()}
    if isinstance(config, TrainConfig):
        if config.data.name in config.eval_data:
            raise ConfigError(f"eval_data names {config.data.name}, which data= watches already. Leave it out.")
        recorded = told.get("eval_sets", {})
        watched = _resolve_names(config.eval_data, "eval_data", config.data.seed, recorded)
        config.eval_sets = {name: _hold_out_alike(config, name, data) for name, data in watched.items()}
        _resolve_forgetting(config, told)


def _resolve_forgetting(config: TrainConfig, told: Plain) -> None:
    """Fill in the data sets that forgetting.on= and forgetting.replay= name."""
    watched = [name for name in config.watched if name not in config.eval_sets]
    found = _resolve_names(watched, "forgetting.on", config.data.seed, told.get("eval_sets", {}))
    config.eval_sets |= {name: _hold_out_alike(config, name, data) for name, data in found.items()}
    source = config.forgetting.source
    replayed, key = [] if source is None else [source], "forgetting.replay"
    config.replay_sets = _resolve_names(replayed, key, config.data.seed, told.get("replay_sets", {}))
    config.forgetting.check_sets(config)


def _hold_out_alike(config: TrainConfig, name: str, data: DataConfig) -> DataConfig:
    """A data set to score. One that is mixed in as a stream is also split as a stream, so that what is scored is not learned."""
    mixed = config.mixed_sets.get(name)
    return mixed if mixed is not None and mixed.streaming else data


def list_choices(told: Plain) -> dict[str, str]:
    """The choice made for each of lmtune's own groups; for a choice that was restored, the recorded one."""
    chosen = HydraConfig.get().runtime.choices
    own = {str(group): str(choice) for group, choice in chosen.items() if "/" not in str(group) and choice is not None}
    recorded = told.get("groups", {})
    named = {group: recorded.get(group) if choice == RESUMED else choice for group, choice in own.items()}
    return {group: choice for group, choice in named.items() if choice is not None}


def build_data_config(name: str, key: str) -> DataConfig:
    """The data section of `data=name`, whatever the data of the running command. `key` is the key that named it."""
    store_schema("data")  # whichever command is running
    try:
        node = compose("data", overrides=[f"data={quote(name)}"])
    except MissingConfigException as error:
        own = slug(PurePath(name).stem or "mine")  # the most frequent mistake is to give a path
        remedy = f"Text of your own gets a name by a file: conf/data/{own}.yaml, with files: and its path in it."
        if own != name:
            raise ConfigError(f"{key}: expected the name of a data set, found {name!r}. {remedy}") from error
        raise ConfigError(explain_named(key, name, error, remedy)) from error
    node.data.name = name
    config = OmegaConf.to_object(node.data)
    assert isinstance(config, DataConfig)
    if config.given_files is None and config.path is None:
        raise ConfigError(
            f"{key} names {name}, which has no text of its own. Expected a data set such as bio; give yours a name in "
            "conf/data/mine.yaml."
        )
    config.anchor()
    return config


def _resolve_names(names: list[str], key: str, seed: int, told: Plain) -> dict[str, DataConfig]:
    """Data sections by name.

    seed: that of the split of `data=`, which all sets of a run share, so that what one holds out is in no other.
    """
    return {
        name: load_data_config(told[name]) if name in told else replace(build_data_config(name, key), seed=seed)
        for name in names
    }


def check_added(node: DictConfig, command: str) -> None:
    """Raise ConfigError for keys added by `+key=value`, which nothing would read."""
    known = known_keys(command)
    for item in node:
        section = None if OmegaConf.is_missing(node, item) else node[item]
        inner = list(section) if isinstance(section, DictConfig) and not section._is_none() else []
        for key in [str(item), *(f"{item!s}.{name!s}" for name in inner)]:
            if key not in known:
                raise ConfigError(explain_unknown(key, command))


def _build_section(node: DictConfig, item: KeyField) -> Any:
    if facts_of(item).names:
        section = node[item.name]
        given = [name for name in section if not OmegaConf.is_missing(section, name)]
        return {name: _plain(section[name]) for name in given}
    value = node[item.name]
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _plain(value: object) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
