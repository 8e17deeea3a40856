"""How Hydra composes a command's configuration: schemas, search path, and its errors in our words."""

import re
from collections.abc import Callable
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose
from hydra.conf import HydraConf
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
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
)
from lmtune.config.effects import check_effects
from lmtune.config.generation import settle_generation
from lmtune.errors import ConfigError
from lmtune.familiar import find_word
from lmtune.overrides import OPEN_KEYS
from lmtune.records import number_names
from lmtune.secrets import hide_secrets

SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "eval": EvalCommandConfig,
    "data": DataCommandConfig,
    "generate": GenerateConfig,
    "tokenizer": TokenizerCommandConfig,
    "lr-find": LrFindConfig,
}

NOT_TYPED = keys.Typed()

HYDRA_FLAGS = frozenset(
    [
        "-h",
        "--help",
        "--hydra-help",
        "--version",
        "-c",
        "--cfg",
        "--resolve",
        "-p",
        "--package",
        "-r",
        "--run",
        "-m",
        "--multirun",
        "-sc",
        "--shell-completion",
        "-cp",
        "--config-path",
        "-cn",
        "--config-name",
        "-cd",
        "--config-dir",
        "--experimental-rerun",
        "-i",
        "--info",
    ]
)

Config = TypeVar(
    "Config", TrainConfig, EvalCommandConfig, GenerateConfig, DataCommandConfig, TokenizerCommandConfig, LrFindConfig
)


def find_conf() -> Path:
    """The folder of shipped configs: inside the installed package, or at the root of a source checkout."""
    package = Path(__file__).resolve().parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parents[1] / "conf"


def register(command: str) -> None:
    """Tell Hydra the command's schema and the folders it may search."""
    _store_schema(command)
    Plugins.instance().register(UserConf)
    find_free_folder.cache_clear()
    OmegaConf.register_new_resolver("free_folder", find_free_folder, replace=True)


def _store_schema(command: str) -> None:
    ConfigStore.instance().store(name=f"schema_{command}", node=_build_schema(SCHEMAS[command]))


def build_config(node: DictConfig, schema: type[Config], typed: keys.Typed = NOT_TYPED) -> Config:
    """The composed configuration as dataclasses, checked; what was typed has to have an effect."""
    absent = sorted(key for key in OmegaConf.missing_keys(node) if key.split(".")[0] not in ("training", "generation"))
    if absent:
        raise ConfigError(f"{absent[0]} has no value. Give one: {absent[0]}=...")
    _check_added(node, schema)
    config = schema(**{item.name: _build_section(node, item) for item in fields(schema)})
    config.check()
    if hasattr(config, "generation"):
        settle_generation(config.generation, typed.keys)
    check_effects(_find_command(schema), config, typed)
    return config


def _find_command(schema: type) -> str:
    return next(name for name, candidate in SCHEMAS.items() if candidate is schema)


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


@cache
def find_free_folder(path: str) -> str:
    """`path`, or with -2, -3, ... behind it where that is taken; the same answer to every job of a sweep."""
    taken = (candidate for candidate in number_names(path) if not Path(candidate).exists())
    return next(taken)


def check_flags(command: str, arguments: list[str]) -> None:
    """Raise ConfigError for an option that Hydra does not have, most often a key with dashes before it."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("-") and name not in HYDRA_FLAGS:
            raise ConfigError(
                f"{hide_secrets(argument)}: {name} is no option; keys are written without dashes: "
                f"{_spell_out(command, name.lstrip('-'))} Options are -m (every combination of values), --help and --cfg job."
            )


def _spell_out(command: str, name: str) -> str:
    """What to type instead of `--name`: the key, or why there is none."""
    known = _known_keys(command)
    plain = name if name in known else name.replace("-", "_")
    if plain in known or plain.startswith(OPEN_KEYS):
        return f"{plain}=..."
    meant = keys.find_meant(plain, known, command)
    if not meant.what:
        return f"{plain}=... {meant.remark}".rstrip()
    typed = meant.what if "=" in meant.what else f"{meant.what}=..."
    return f"{typed} ({meant.remark})" if meant.remark else typed


def check_user_conf() -> None:
    """Raise ConfigError where a file of the user's conf/ has the name of one of ours."""
    user = _find_user_conf()
    if user is None:
        return
    for file in sorted(user.rglob("*.yaml")):
        ours = find_conf() / file.relative_to(user)
        if ours.exists():
            raise ConfigError(
                f"{file} and {ours} have the same name; expected a name of its own for yours. "
                f"Rename your file: {file.with_stem('my-' + file.stem).name} gives {file.parent.name}=my-{file.stem}."
            )


class UserConf(SearchPathPlugin):
    """Searches conf/ of the folder where the user stands, after the package's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        user = _find_user_conf()
        if user is not None:
            search_path.append("user", f"file://{user}")


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
    inside_file = re.search(r"In '([^']+)': .*not in.*?full_key: (\S+)", str(error), re.DOTALL)
    if inside_file:
        file, key = inside_file.groups()
        return f"{file}.yaml sets {key}, which is not a key of lmtune {command}.{keys.suggest(key, _known_keys(command), command)}"
    typed = re.match(r"Could not override '([^']+)'", str(error))
    if typed and (cause is None or "not in" in str(cause)):
        return _explain_unknown(typed[1], command)
    if isinstance(error, ConfigCompositionException) and key and cause is not None:
        return f"{key}: {str(cause).splitlines()[0]}."
    return " ".join(line.strip() for line in str(cause or error).splitlines() if line.strip())


def _explain_unknown(key: str, command: str) -> str:
    """What to say of a key that a command does not have."""
    renamed = keys.RENAMED_TRAINING_ARGUMENTS.get(key.removeprefix("training."))
    if renamed and key.startswith("training."):
        return f"{key} is gone from transformers. Use {renamed}."
    said = keys.suggest(key, _hydra_keys() if key.startswith("hydra.") else _known_keys(command), command)
    owners = [other for other in SCHEMAS if key in _known_keys(other)]
    if owners and find_word(key, command) is None:
        said = f" It belongs to lmtune {', '.join(owners)}."
    return f"{key} is not a key of lmtune {command}.{said} See lmtune {command} --help."


HYDRA_ERRORS: tuple[type[Exception], ...] = (HydraException, OmegaConfBaseException, YAMLError)


def _check_added(node: DictConfig, schema: type) -> None:
    """Raise ConfigError for keys that `+key=value` has added: nothing would ever read them."""
    command = _find_command(schema)
    known = _known_keys(command)
    for item in node:
        section = None if OmegaConf.is_missing(node, item) else node[item]
        inner = list(section) if isinstance(section, DictConfig) and not section._is_none() else []
        for key in [str(item), *(f"{item!s}.{name!s}" for name in inner)]:
            if key not in known:
                raise ConfigError(_explain_unknown(key, command))


def _explain_missing(error: MissingConfigException, command: str) -> str:
    name = error.missing_cfg_file or "?"
    group, _, choice = name.partition("/")
    options = list(error.options or [])
    if not options:
        return f"{name} is not a config of lmtune {command}. See lmtune {command} --help."
    nearest = keys.find_nearest(choice, options)
    said = f" Did you mean {group}={nearest}?" if nearest else ""
    if group in ("data", "model") and not nearest:
        said = f" One of the Hub or disk is named by its path: {group}.path={choice}."
    return f"{group}={choice}: expected one of {', '.join(options)}.{said}"


@cache
def _known_keys(command: str) -> set[str]:
    return _walk(_build_schema(SCHEMAS[command]), "") | ({"experiment"} if command in ("train", "lr-find") else set())


@cache
def _hydra_keys() -> set[str]:
    return _walk(HydraConf, "hydra.")


def _walk(schema: type, prefix: str) -> set[str]:
    """Dotted names of a dataclass and of those in it."""
    found = set()
    for item in fields(schema):
        found.add(prefix + item.name)
        section = _section_type(item.type)
        if section is not None:
            found |= _walk(section, f"{prefix}{item.name}.")
    return found


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
    for item in fields(schema):
        source = item.metadata.get("keys")
        if source:
            section = make_dataclass(source, [(name, Any, MISSING) for name in sorted(names[source]())])
            items.append((item.name, section, field(default_factory=section)))
        else:
            items.append((item.name, item.type, _default(item)))
    return make_dataclass(schema.__name__, items, kw_only=True)


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


def _find_user_conf() -> Path | None:
    user = Path.cwd() / "conf"
    ours = (Path.cwd() / "src" / "lmtune" / "composition.py").exists()  # a checkout of lmtune itself
    return user if user.is_dir() and not ours and user.resolve() != find_conf().resolve() else None
