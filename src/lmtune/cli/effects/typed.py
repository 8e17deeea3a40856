"""A typed key without effect is an error: one rule for all keys of all commands.

What was typed on the command line must do something. A setting that another one makes meaningless, that its command never reads, or
that belongs to another command is refused, naming the cause and the remedy. Settings from a file (an experiment, a group) may have
no effect: nobody typed them for this run.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from lmtune.cli.effects.audit_rules import plants
from lmtune.cli.effects.data_rules import DATA_RULES
from lmtune.cli.effects.rules import RULES
from lmtune.cli.effects.unread import UNREAD
from lmtune.cli.schemas import SCHEMAS, facts_for
from lmtune.config.conditions import Idle
from lmtune.config.keys import facts_of, walk
from lmtune.config.training import render_refusal
from lmtune.config.training_arguments import ARGUMENTS, HOMES, works
from lmtune.errors import ConfigError, Gathering
from lmtune.upstream import Typed

Found = TypeVar("Found")

OFF: tuple[Any, ...] = (None, False, 0, "", [], {}, "off", "none", "no")
"""Values that ask for nothing, so that nothing is lost if they have no effect."""


def check_effects(command: str, config: Any, typed: Typed) -> None:
    """Raise ConfigError for typed keys without effect. A value that a sweep varies makes no other key idle."""
    gathering = Gathering()
    with gathering.noting():
        _check_twins(typed)
    for key in sorted(typed.keys):
        with gathering.noting():
            _check_effect(command, config, key, typed)
    gathering.raise_all()


def _check_effect(command: str, config: Any, key: str, typed: Typed) -> None:
    _check_unrefused(config, key)
    found = _find_unread(command, key, typed) or _find_idle(command, config, key, typed)
    if found is not None and not typed.is_swept(found.by):
        raise ConfigError(f"{key} has no effect: {found.because}. {found.remedy}")


def check_sections(command: str, typed: Typed) -> None:
    """Raise ConfigError for keys of a section that is absent because its group is not chosen, before Hydra fails on them."""
    items = dict(walk(SCHEMAS[command]))
    for section, absent in ((name, facts_of(item).absent) for name, item in items.items()):
        below = [key for key in sorted(typed.keys) if absent and key.startswith(f"{section}.")]
        chosen = section in typed.keys or any(key in items and facts_of(items[key]).chooses for key in below)
        if below and not chosen:
            raise ConfigError(f"{below[0]} has no effect: {absent}. Leave it out, or choose with {section}=.")


def _check_twins(typed: Typed) -> None:
    """Raise ConfigError if two names of one setting were typed with different values."""
    for twin, home in HOMES.items():
        key = home.removesuffix(".name")
        if typed.keys >= {key, f"training.{twin}"}:
            value, other = (_take_one(typed.values.get(each)) for each in (key, f"training.{twin}"))
            if value != other:
                raise ConfigError(f"{key}={value} and training.{twin}={other} differ; they mean the same. Keep {key}=.")


def _take_one(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _check_unrefused(config: Any, key: str) -> None:
    """Raise ConfigError for a refused training argument, unless its value asks for what is done anyway."""
    section, _, name = key.partition(".")
    argument = ARGUMENTS.get(name, works())
    if section == "training" and argument.refusal:
        value = config.training.get(name)
        if value is not None and value not in argument.harmless:
            raise ConfigError(render_refusal(name, value, argument))


def _find_unread(command: str, key: str, typed: Typed) -> Idle | None:
    return None if _is_off(key, typed) else _match(UNREAD[command], key)


def _find_idle(command: str, config: Any, key: str, typed: Typed) -> Idle | None:
    """Why a key has no effect beside the other settings; None if it has one."""
    if _is_off(key, typed):
        return None
    section, _, name = key.partition(".")
    if section == "training" and name not in HOMES:
        condition = ARGUMENTS.get(name, works()).condition
        return None if condition is None else condition(config)
    key = HOMES[name] if section == "training" else key
    rule = _match(RULES[command], key)
    found = None if rule is None else rule(config, typed)
    source = _match(DATA_RULES, key)
    if found is not None or source is None or config.data is None or (key == "data.seed" and plants(config)):
        return found
    return source(config.data)


def _is_off(key: str, typed: Typed) -> bool:
    section, _, name = key.partition(".")
    argument = ARGUMENTS.get(name) if section == "training" else None
    always_asks = facts_for(key).always_asks if argument is None else argument.always_asks
    return not always_asks and key in typed.values and typed.values[key] in OFF


def _match(table: Mapping[str, Found], key: str) -> Found | None:
    """The entry of a table for a key or a section above it; the longest name wins."""
    while key:
        if key in table:
            return table[key]
        key = key.rpartition(".")[0]
    return None
