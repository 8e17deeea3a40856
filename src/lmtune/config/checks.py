"""Checks that all parts of a configuration share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeAlias

from lmtune.errors import ConfigError, LmtuneError
from lmtune.paths import GivenPath, Kind
from lmtune.urls import check_url, find_protocol

Paths: TypeAlias = str | list[str] | None
"""One path, glob or folder, or several."""


def require(holds: bool, key: str, found: object, expected: str) -> None:
    """Raise ConfigError, saying what was found and expected, unless `holds`."""
    if not holds:
        raise ConfigError(f"{key}={found}: expected {expected}.")


def check_words(key: str, values: Iterable[object]) -> None:
    """Raise ConfigError for mappings and lists inside a list of words or numbers, which OmegaConf lets through."""
    for value in values:
        if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
            raise ConfigError(f"{key}: expected a list of plain values, found {value} in it. Write {key}=[a,b].")


class CommandConfig:
    """The configuration of a command."""

    __slots__ = ()

    def check_settings(self) -> None:
        """Raise ConfigError for what cannot work, before anything is loaded; changes nothing."""

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Settle what follows from what was given, once it has been checked. typed: keys of the command line."""


ANY_MODEL = "a run folder (outputs/...), a checkpoint, a model folder or a Hub id"


def check_given(ckpt: str | None, command: str, expected: str = ANY_MODEL) -> None:
    """Raise ConfigError unless a checkpoint is named."""
    if not ckpt:
        raise ConfigError(f"{command} needs ckpt=, found none. Give {expected}.")


def list_checkpoints(ckpt: Any) -> list[str]:
    """The checkpoints that a `ckpt` names, one or several."""
    return [str(each or "") for each in (ckpt if isinstance(ckpt, list) else [ckpt])]


def check_checkpoints(checkpoints: list[str], command: str) -> None:
    """Raise ConfigError if a command is given no checkpoint, or one of them twice."""
    for ckpt in checkpoints or [""]:
        check_given(ckpt, command)
    if len(set(checkpoints)) < len(checkpoints):
        raise ConfigError(f"ckpt=[{','.join(checkpoints)}]: expected each checkpoint once.")


def check_paths(key: str, value: Paths) -> None:
    """Raise ConfigError for anything but a path or a list of paths, and for a path that cannot exist."""
    if value is None:
        return
    paths = value if isinstance(value, list) else [value]
    if not (paths and all(isinstance(path, str) and path for path in paths)):
        raise ConfigError(f"{key}={value!r}: expected a path, a glob, a folder or a list of them.")
    for path in paths:
        if find_protocol(path) is None:
            GivenPath(key, path).expand()
        check_url(key, path)


def is_there(path: str) -> bool:
    """True for a path that exists and may be looked at; False for one that is absent, forbidden or no path at all."""
    given = GivenPath("path", path)
    try:
        return given.find_kind(given.expand()) not in (Kind.NOTHING, Kind.BROKEN_LINK)
    except LmtuneError:
        return False


def anchor_paths(paths: Paths) -> Paths:
    """Paths, one or a list, with relative ones made absolute from the working directory. See check_paths.

    Addresses and paths inside the package stay.
    """
    if isinstance(paths, list):
        return [_anchor(path) for path in paths]
    return paths if paths is None else _anchor(paths)


def _anchor(path: str) -> str:
    return path if path.startswith("pkg://") or find_protocol(path) else str(GivenPath("data.files", path).anchor())


def render_plain(config: object) -> Any:
    """A config as plain values, for YAML and JSON."""
    if isinstance(config, Enum):
        return config.value
    if isinstance(config, dict):
        return {key: render_plain(value) for key, value in config.items()}
    if isinstance(config, list):
        return [render_plain(value) for value in config]
    if is_dataclass(config) and not isinstance(config, type):
        return {item.name: render_plain(getattr(config, item.name)) for item in fields(config)}
    return config
