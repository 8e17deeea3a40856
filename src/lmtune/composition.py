"""How Hydra composes a command's configuration: schemas, search path, and its errors in our words."""

import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, UnsupportedInterpolationType
from yaml import YAMLError

from lmtune import keys
from lmtune.config import (
    DataCommandConfig,
    DataConfig,
    EvalCommandConfig,
    GenerateConfig,
    LrFindConfig,
    TokenizerCommandConfig,
    TrainConfig,
    load_data_config,
)
from lmtune.errors import ConfigError, first_line
from lmtune.user_conf import folders
from lmtune.user_conf.files import find_group

SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "eval": EvalCommandConfig,
    "data": DataCommandConfig,
    "generate": GenerateConfig,
    "tokenizer": TokenizerCommandConfig,
    "lr-find": LrFindConfig,
}

RESUMED = "resumed"
"""Name of the recorded section of a run that goes on, in each group."""

Config = TypeVar(
    "Config", TrainConfig, EvalCommandConfig, GenerateConfig, DataCommandConfig, TokenizerCommandConfig, LrFindConfig
)


def find_conf() -> Path:
    """The folder of shipped configs: inside the installed package, or at the root of a source checkout."""
    package = Path(__file__).resolve().parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parents[1] / "conf"


def register(command: str, config_dirs: Sequence[str] = ()) -> None:
    """Tell Hydra the command's schema and the folders it may search; ConfigError for one of `config_dirs` that is none."""
    _store_schema(command)
    folders.register(find_conf(), config_dirs)


def _store_schema(command: str) -> None:
    ConfigStore.instance().store(name=f"schema_{command}", node=_build_schema(SCHEMAS[command]))


def build_config(node: DictConfig, schema: type[Config]) -> Config:
    """The composed configuration as dataclasses, checked."""
    try:
        return _build_config(node, schema)
    except OmegaConfBaseException as error:  # said here: Hydra would put a line of its own before it
        raise ConfigError(explain(error, _name_command(schema))) from error


def _build_config(node: DictConfig, schema: type[Config]) -> Config:
    absent = sorted(key for key in OmegaConf.missing_keys(node) if key.split(".")[0] not in ("training", "generation"))
    if absent:
        raise ConfigError(f"{absent[0]} has no value. Give one: {absent[0]}=...")
    _check_added(node, schema)
    config = schema(**{item.name: _build_section(node, item) for item in _keys_of(schema)})
    config.check()
    return config


def resolve_sets(config: TrainConfig | DataCommandConfig, told: dict[str, Any] | None = None) -> None:
    """Fill in the data configurations that eval_data= and data.mix= name.

    told: what a run that goes on was told; names that it knew mean what they meant then, wherever one stands now.
    """
    told = told or {}
    mixed = [name for name in config.data.mix if name != config.data.name]
    config.mixed_sets = _resolve_names(mixed, "data.mix", told.get("mixed_sets", {}))
    if isinstance(config, TrainConfig):
        if config.data.name in config.eval_data:
            raise ConfigError(f"eval_data names {config.data.name}, which data= watches already. Leave it out.")
        config.eval_sets = _resolve_names(config.eval_data, "eval_data", told.get("eval_sets", {}))


def _resolve_names(names: list[str], key: str, told: dict[str, Any]) -> dict[str, DataConfig]:
    return {name: load_data_config(told[name]) if name in told else build_data_config(name, key) for name in names}


def find_choices(told: dict[str, Any]) -> dict[str, str]:
    """Group to the choice that was made of it, for lmtune's own groups; where that is the recorded one, what it was then."""
    chosen = HydraConfig.get().runtime.choices
    own = {str(group): str(choice) for group, choice in chosen.items() if "/" not in str(group) and choice is not None}
    recorded = told.get("groups", {})
    named = {group: recorded.get(group) if choice == RESUMED else choice for group, choice in own.items()}
    return {group: choice for group, choice in named.items() if choice is not None}


def build_data_config(name: str, key: str) -> DataConfig:
    """The data section that `data=name` stands for, whatever this command's own data is. `key` is what named it."""
    _store_schema("data")  # whichever command is running
    try:
        node = compose("data", overrides=[f"data={name}"])
    except MissingConfigException as error:
        raise ConfigError(f"{key}: " + _explain_missing(error, "data")) from error
    node.data.name = name
    config = OmegaConf.to_object(node.data)
    assert isinstance(config, DataConfig)
    if config.files is None and config.path is None:
        raise ConfigError(
            f"{key} names {name}, which has no text of its own. Expected a data set such as bio; give yours a name in "
            "conf/data/mine.yaml."
        )
    config.anchor()
    return config


def explain(error: Exception, command: str) -> str:
    """One paragraph for an error of Hydra or OmegaConf: what was found, what was expected, what to do."""
    cause = error.__cause__
    key = getattr(cause, "full_key", None) or getattr(error, "full_key", None)
    if isinstance(error, MissingConfigException):
        return _explain_missing(error, command)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} is not key=value as Hydra reads it. Expected for instance training.max_steps=100; "
            "a value with blanks, commas or brackets goes between quotes: key=\"'a, b'\"."
        )
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType):
        return _explain_interpolation(error, command)
    inside_file = re.search(r"In '([^']+)': [^\n]*\n(.*?)\s*full_key: (\S+)", str(error), re.DOTALL)
    if inside_file:
        file, reason, key = inside_file.groups()
        return _explain_inside(file, reason, key, command)
    if isinstance(error, ConfigCompositionException) and key and "not in" in str(cause):
        known = _known_keys(command)
        renamed = keys.RENAMED_TRAINING_ARGUMENTS.get(key.removeprefix("training."))
        if renamed:
            return f"{key} is gone from transformers. Use {renamed}."
        return f"{key} is not a key of lmtune {command}.{_suggest(key, known)} See lmtune {command} --help."
    if isinstance(error, ConfigCompositionException) and key and cause is not None:
        return f"{key}: {str(cause).splitlines()[0]}."
    return " ".join(line.strip() for line in str(cause or error).splitlines() if line.strip())


HYDRA_ERRORS: tuple[type[Exception], ...] = (HydraException, OmegaConfBaseException, YAMLError)


def _check_added(node: DictConfig, schema: type) -> None:
    """Raise ConfigError for keys that `+key=value` has added: nothing would ever read them."""
    command = _name_command(schema)
    known = _known_keys(command)
    for item in node:
        section = None if OmegaConf.is_missing(node, item) else node[item]
        inner = list(section) if isinstance(section, DictConfig) and not section._is_none() else []
        for key in [str(item), *(f"{item!s}.{name!s}" for name in inner)]:
            if key not in known:
                raise ConfigError(
                    f"{key} is not a key of lmtune {command}.{_suggest(key, known)} See lmtune {command} --help."
                )


def _name_command(schema: type) -> str:
    return next(name for name, candidate in SCHEMAS.items() if candidate is schema)


def _explain_missing(error: MissingConfigException, command: str) -> str:
    name = error.missing_cfg_file or "?"
    group = find_group(name) or name.rpartition("/")[0]
    choice = name.removeprefix(f"{group}/")
    options = [option for option in error.options or [] if option != RESUMED]
    parent = re.match(r"In '([^']+)'", str(error))
    file = folders.find_file(parent[1]) if parent else None
    where = f"{file}: " if file else ""
    hint = folders.find_hint(group, choice)
    if group.startswith("hydra/"):
        hint += " Those of a plugin are there once it is installed, such as hydra-submitit-launcher."
    if options:
        hint = keys.render_suggestion(choice, options, group + "=") + hint
        return f"{where}{group}={choice}: expected one of {', '.join(options)}.{hint}"
    if file:
        return f"{where}its defaults list names {name}, which is no config. Name one that is there.{hint}"
    return f"{name} is not a config of lmtune {command}. See lmtune {command} --help.{hint}"


def _explain_inside(name: str, reason: str, key: str, command: str) -> str:
    """A file that Hydra cannot merge into the rest: a key that is not there, or a value of the wrong kind."""
    file = folders.find_file(name) or f"{name}.yaml"
    if "not in" in reason:
        return f"{file} sets {key}, which is not a key of lmtune {command}.{_suggest(key, _known_keys(command))}"
    return f"{file} sets {key}: {reason.strip().splitlines()[0].rstrip('.')}. Give another value."


def _explain_interpolation(error: Exception, command: str) -> str:
    """A `${...}` that comes to nothing, with the file of the user's that says it."""
    key = str(getattr(error, "full_key", None) or "a value")
    place = folders.UserConf.references.find_place(key.replace("[", ".").replace("]", ""))
    where = f"{place}: {key}" if place else key
    reason = first_line(error)
    variable = re.search(r"Environment variable '(.*)' not found", reason)
    name = re.search(r"Interpolation key '(.*)' not found", reason)
    if variable:
        return (
            f"{where} needs the environment variable {variable[1]}, found none of that name. "
            f"Set it, or write ${{oc.env:{variable[1]},VALUE}} with a value for where there is none."
        )
    if name:
        wanted = f" Write ${{oc.env:{name[1]}}} for the environment variable." if name[1].isupper() else ""
        suggestion = wanted or _suggest(name[1], _known_keys(command))
        return f"{where}: ${{{name[1]}}} is no key of lmtune {command}.{suggestion}"
    return f"{where}: expected ${{key}} of a key with a fitting value, found: {reason}. Write the value itself."


def _suggest(key: str, known: set[str]) -> str:
    parent, _, _ = key.rpartition(".")
    beside = {name for name in known if name.rpartition(".")[0] == parent} or known
    return keys.render_suggestion(key, beside) or keys.render_suggestion(key, known)


@cache
def _known_keys(command: str) -> set[str]:
    def walk(schema: type, prefix: str) -> set[str]:
        found = set()
        for item in _keys_of(schema):
            found.add(prefix + item.name)
            section = _section_type(item.type)
            if section is not None:
                found |= walk(section, f"{prefix}{item.name}.")
        return found

    groups = {folder.name for folder in find_conf().iterdir() if folder.is_dir()}
    return walk(_build_schema(SCHEMAS[command]), "") | (groups if command in ("train", "lr-find") else set())


def _section_type(annotation: Any) -> type | None:
    options = getattr(annotation, "__args__", (annotation,))
    return next((option for option in options if hasattr(option, "__dataclass_fields__")), None)


@cache
def _build_schema(schema: type) -> type:
    """The dataclass that Hydra checks against: as `schema`, with the names of transformers' own classes filled in."""
    names: dict[str, Callable[[], Any]] = {
        "training": keys.load_training_fields,
        "generation": keys.load_generation_fields,
    }
    items: list[Any] = []
    for item in _keys_of(schema):
        source = item.metadata.get("keys")
        if source:
            section = make_dataclass(source, [(name, Any, MISSING) for name in sorted(names[source]())])
            items.append((item.name, section, field(default_factory=section)))
        else:
            items.append((item.name, item.type, _default(item)))
    return make_dataclass(schema.__name__, items, kw_only=True)


def _keys_of(schema: type) -> list[Field[Any]]:
    """Fields that are keys; the others are filled in by composition."""
    return [item for item in fields(schema) if not item.metadata.get("internal")]


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not NO_DEFAULT:
        return field(default_factory=item.default_factory)
    return field(default=item.default)


def _build_section(node: DictConfig, item: Field[Any]) -> Any:
    if item.metadata.get("keys"):
        section = node[item.name]
        given = [name for name in section if not OmegaConf.is_missing(section, name)]
        return {name: _plain(section[name]) for name in given}
    value = node[item.name]
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
