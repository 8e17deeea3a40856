"""The schema of each command, which Hydra checks overrides against, and the folder of shipped configs."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from lmtune import upstream
from lmtune.cli.commands import COMMANDS
from lmtune.config.keys import USUAL, Facts, KeyField, facts_of, walk
from lmtune.config.training_arguments import load_fields

SCHEMAS: dict[str, type] = {name: command.load_schema() for name, command in COMMANDS.items()}

GROUPS = ("data", "model", "training", "finetune", "generation", "tracker", "experiment", "suite")
"""Keys whose values are names of files in conf/."""

RESUMED = "resumed"
"""Choice that stands for the recorded section of a resumed run, in each group."""


def find_conf() -> Path:
    """The folder of shipped configs: inside the installed package, or at the root of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parents[1] / "conf"


def store_schema(command: str) -> None:
    """Register the schema of a command with Hydra."""
    ConfigStore.instance().store(name=f"schema_{command}", node=_build_schema(SCHEMAS[command]))


def name_command(schema: type) -> str:
    """The command that a configuration class belongs to."""
    return next(name for name, candidate in SCHEMAS.items() if candidate is schema)


def keys_of(schema: type) -> list[KeyField]:
    """Fields that are keys; composition fills in the others."""
    return [item for item in fields(schema) if not facts_of(item).internal]


@cache
def known_keys(command: str) -> set[str]:
    """Dotted names of all keys of a command."""
    names = {name for name, _ in walk(_build_schema(SCHEMAS[command]))}
    return names | ({"experiment"} if COMMANDS[command].trains else set())


@cache
def all_keys() -> Mapping[str, KeyField]:
    """The field of each key by its dotted name; for a key of several commands, that of the first."""
    return {name: item for schema in reversed(SCHEMAS.values()) for name, item in walk(schema)}


def facts_for(key: str) -> Facts:
    """The facts about a key, whichever command takes it; the defaults if none does."""
    found = all_keys().get(key)
    return USUAL if found is None else facts_of(found)


def find_open(key: str) -> str | None:
    """The key, or the one above it, whose keys may have any name; None if names are fixed."""
    while key and not facts_for(key).open:
        key = key.rpartition(".")[0]
    return key or None


@cache
def hydra_keys() -> set[str]:
    """Dotted names of Hydra's own keys."""
    return {name for name, _ in walk(HydraConf, "hydra.")}


@cache
def _build_schema(schema: type) -> type:
    """The dataclass that Hydra checks against: `schema` with the fields of transformers' own classes filled in."""
    names: dict[str, Callable[[], Any]] = {
        "training": load_fields,
        "generation": upstream.load_generation_fields,
    }
    items: list[Any] = []
    for item in keys_of(schema):
        source = facts_of(item).names
        if source:
            section = make_dataclass(source, [(name, Any, MISSING) for name in sorted(names[source]())])
            items.append((item.name, section, field(default_factory=section)))
        else:
            items.append((item.name, item.type, _default(item)))
    return make_dataclass(schema.__name__, items, kw_only=True)


def _default(item: KeyField) -> Any:
    if item.default_factory is not NO_DEFAULT:
        return field(default_factory=item.default_factory)
    return field(default=item.default)
