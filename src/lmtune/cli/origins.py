"""Where the value of a key comes from: the files that Hydra merges, in their order, and what is typed.

lmtune train data=bio training.learning_rate=1e-4

conf/training/default.yaml, line 8   ->  training.learning_rate=1e-4 on the command line
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lmtune.cli.composition import check_added
from lmtune.cli.overrides import check_forms, list_implied, prepare_overrides, spell_out
from lmtune.cli.schemas import find_conf, find_open, known_keys
from lmtune.cli.sweeps import check_single, composed
from lmtune.cli.user_conf.folders import find_file
from lmtune.plain_yaml import Document, load_document

TYPED = "the command line"
IMPLIED = "follows from the command line"


@dataclass(frozen=True, slots=True)
class Origin:
    """One place that gives a key its value."""

    value: Any
    """As it stands there: a `${...}` is not followed."""
    place: str
    """'FILE, line N', TYPED or IMPLIED."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One config as Hydra merges it: its keys lie below `package`."""

    name: str
    """Its file as it is shown: one of lmtune's own without the folder that it is installed in."""
    document: Document
    package: str

    def find(self, key: str) -> Origin | None:
        """What it says of a dotted key; None where it says nothing."""
        inside = key
        if self.package:
            if not key.startswith(f"{self.package}."):
                return None
            inside = key.removeprefix(f"{self.package}.")
        found = find_below(self.document.values, inside)
        place = f"{self.name}, line {self.document.lines.get(inside, 1)}"
        return None if found is None else Origin(found[0], place)


@dataclass(frozen=True, slots=True)
class Composition:
    """The composed configuration of a command."""

    node: DictConfig
    """As Hydra composes it; not checked any further."""
    layers: tuple[Layer, ...]
    """Layers in the order in which they are merged: the last one that sets a key wins."""
    typed: dict[str, Any]
    implied: dict[str, Any]

    def find_origins(self, key: str) -> list[Origin]:
        """Every place that says something of a dotted key, the one in effect last; [] where it has its default."""
        layers = (layer.find(key) for layer in self.layers)
        found = list({origin.place: origin for origin in layers if origin is not None}.values())
        for values, place in ((self.implied, IMPLIED), (self.typed, TYPED)):
            for name, value in values.items():
                below = _find_inside(name, value, key)
                found += [] if below is None else [Origin(below[0], place)]
        return found


@contextmanager
def composing(command: str, arguments: list[str]) -> Iterator[Composition]:
    """What a command line comes to, with the places of its values. Hydra's own configuration is in force meanwhile.

    The command has been registered (composition.register). Raises ConfigError for a key that is none.
    """
    arguments = spell_out(arguments)
    check_forms(arguments)
    implied = list_implied(command, arguments)
    overrides = prepare_overrides([*implied, *arguments])
    check_single(overrides)
    typed = _read_values(arguments)
    followed = {key: value for key, value in _read_values(overrides).items() if key not in typed}
    layers = tuple(_load_layers(command, overrides))
    with composed(command, overrides, find_conf()) as node:
        check_added(node, command)
        yield Composition(node, layers, typed, followed)


def trace(command: str, arguments: list[str]) -> dict[str, str]:
    """Key to place, for each key of a training whose value some config or the command line gives."""
    with composing(command, arguments) as found:
        names = known_keys(command) | set(_list_open(command, found.node))
        places = {key: found.find_origins(key) for key in sorted(names)}
    return {key: origins[-1].place for key, origins in places.items() if origins}


def _list_open(command: str, node: DictConfig) -> Iterator[str]:
    """Keys of sections that may hold any name, such as model.config."""
    for key in known_keys(command):
        if find_open(key) == key:
            yield from (f"{key}.{name}" for name in OmegaConf.select(node, key, default=None) or {})


def find_below(values: Any, key: str) -> tuple[Any] | None:
    """(value,) of a dotted key in nested mappings; None where it is not there. A `null` is a value."""
    for name in key.split("."):
        if not isinstance(values, dict) or name not in values:
            return None
        values = values[name]
    return (values,)


def _find_inside(name: str, value: Any, key: str) -> tuple[Any] | None:
    """(value,) of a key that was given, by itself or inside another: `eval={context: 64}`."""
    if name == key:
        return (value,)
    return find_below(value, key.removeprefix(f"{name}.")) if key.startswith(f"{name}.") else None


def _read_values(overrides: list[str]) -> dict[str, Any]:
    """Values by dotted key, or by group."""
    prepared = prepare_overrides(overrides)
    parsed = OverridesParser.create().parse_overrides(prepared[len(prepared) - len(overrides) :])
    return {override.key_or_group: _plain(override.value()) for override in parsed}


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value


def _load_layers(command: str, overrides: list[str]) -> Iterator[Layer]:
    with initialize_config_dir(str(find_conf()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        chosen = loader.compute_defaults_list(config_name=command, overrides=overrides, run_mode=RunMode.RUN)
    for each in chosen.defaults:
        package = each.package or ""
        own, shipped = find_file(str(each.config_path)), find_conf() / f"{each.config_path}.yaml"
        if package.startswith("hydra"):
            continue
        if own is not None:
            yield Layer(str(own), load_document(own), package)
        elif shipped.is_file():  # a schema has no file
            yield Layer(f"lmtune's conf/{each.config_path}.yaml", load_document(shipped), package)
