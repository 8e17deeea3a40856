"""What each command may be told: the schema that Hydra checks it against, and where the shipped configs lie."""

from collections.abc import Callable
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from lmtune import upstream
from lmtune.config import (
    DataCommandConfig,
    EvalCommandConfig,
    GenerateConfig,
    LrFindConfig,
    TokenizerCommandConfig,
    TrainConfig,
)

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


def find_conf() -> Path:
    """The folder of shipped configs: inside the installed package, or at the root of a source checkout."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parents[1] / "conf"


def store_schema(command: str) -> None:
    """Tell Hydra the schema of a command."""
    ConfigStore.instance().store(name=f"schema_{command}", node=_build_schema(SCHEMAS[command]))


def name_command(schema: type) -> str:
    """The command that is told this."""
    return next(name for name, candidate in SCHEMAS.items() if candidate is schema)


def keys_of(schema: type) -> list[Field[Any]]:
    """Fields that are keys; the others are filled in by composition."""
    return [item for item in fields(schema) if not item.metadata.get("internal")]


@cache
def known_keys(command: str) -> set[str]:
    """Dotted names of all keys of a command."""
    return _walk(_build_schema(SCHEMAS[command]), "") | ({"experiment"} if command in ("train", "lr-find") else set())


@cache
def hydra_keys() -> set[str]:
    """Dotted names of Hydra's own keys."""
    return _walk(HydraConf, "hydra.")


def _walk(schema: type, prefix: str) -> set[str]:
    """Dotted names of a dataclass and of those in it."""
    found = set()
    for item in keys_of(schema):
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
        "training": upstream.load_training_fields,
        "generation": upstream.load_generation_fields,
    }
    items: list[Any] = []
    for item in keys_of(schema):
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
