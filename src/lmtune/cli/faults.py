"""Checks of every key of a command by itself, so that all mistakes are reported at once.

Hydra stops at the first thing that it cannot take, and a check at the first that it refuses. Once that has happened, the name, the
kind and the range of each typed key are checked, and of each key in the user's own configs that were chosen.
"""

import re
from collections.abc import Iterator
from dataclasses import make_dataclass
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, Transformer
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtune import upstream
from lmtune.cli.explain import explain_choice, explain_form, explain_inside, explain_unknown, explain_value
from lmtune.cli.overrides import is_word, prepare_overrides
from lmtune.cli.schemas import GROUPS, SCHEMAS, all_keys, facts_for, find_open, known_keys
from lmtune.cli.user_conf.files import resolve_prefix
from lmtune.cli.user_conf.folders import find_file, list_choices
from lmtune.config.checks import check_words
from lmtune.config.generation import check_generation
from lmtune.config.keys import facts_of, holds_plain_list, walk
from lmtune.config.ranges import check_number
from lmtune.config.training import check_training
from lmtune.errors import ConfigError, LmtuneError, MistakesError, texts_of
from lmtune.plain_yaml import load_document
from lmtune.runs.naming import LAST

SLIP = 0.75
"""Least similarity of a typed name to a word for which it may be meant: one of four letters may differ."""


class Fault(NamedTuple):
    """A mistake in one key."""

    key: str
    text: str


def gather(error: LmtuneError, command: str, arguments: list[str]) -> LmtuneError:
    """The error that stopped a command together with the other mistakes in its keys; the error itself if there are none."""
    told = texts_of(error)
    texts = [*told, *(fault.text for fault in list_faults(command, arguments) if not _is_told(fault, told))]
    found = list(dict.fromkeys(texts))
    return error if len(found) == len(told) else MistakesError(found)


def suggest_word(error: LmtuneError, arguments: list[str]) -> None:
    """Add to an error about a typed name the word of its key that was probably meant: `resume=auto` for `resume=atuo`."""
    text = str(error)
    for key, _, value in (argument.partition("=") for argument in arguments):
        facts = facts_for(key)
        words = {*facts.words, *([LAST] if facts.names_run else [])}
        nearest = upstream.find_nearest(value, words, SLIP) if value not in words else None
        if nearest and "Did you mean" not in text and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text):
            error.args = (f"{text} Did you mean {key}={nearest}?",)
            return


def _is_told(fault: Fault, told: list[str]) -> bool:
    if any(fault.key in text.partition(": expected")[0].split() for text in told):
        return True  # its key is named in a message about several keys
    above = fault.key.rpartition(".")[0]
    begins = (*(f"{fault.key}{end}" for end in (": ", "=", " is ", " has ", " names ", "[")), f"{above}={{}}: expected")
    return any(fault.text in text or text.startswith(begins) for text in told)


def list_faults(command: str, arguments: list[str]) -> Iterator[Fault]:
    """The faults of each typed key, and of the keys in the user's own files that were chosen."""
    for argument in prepare_overrides([each for each in arguments if not is_word(command, each)]):
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            yield Fault(argument, explain_form(argument))
            continue
        key = override.key_or_group
        if override.is_delete() or not key or key.startswith("hydra"):
            continue
        for value in _list_values(override):
            if key in GROUPS and key in known_keys(command):
                yield from _find_in_group(command, key, value, swept=override.is_sweep_override())
            else:
                yield from _find_typed(command, key, value)


def _list_values(override: Override) -> Iterator[Any]:
    """The value of an override, or each value that a sweep tries."""
    if isinstance(override.value(), Glob):
        return  # only a sweep looks up the names
    if not override.is_sweep_override():
        yield override.value()
    elif override.is_discrete_sweep() and not override.is_range_sweep():
        for value in override.sweep_iterator(Transformer.identity):
            yield value.text if isinstance(value, QuotedString) else value


def _find_typed(command: str, key: str, value: Any) -> Iterator[Fault]:
    for name, part in _flatten(command, key, value):
        text = find_fault(command, name, part)
        if text is not None:
            yield Fault(name, text)


def _find_in_group(command: str, group: str, choice: Any, *, swept: bool) -> Iterator[Fault]:
    """The faults of a choice, and of its file unless a sweep varies the group."""
    if not isinstance(choice, str):
        return
    choices = list_choices(group)
    if choice in choices or find_file(f"{group}/{choice}") is not None:
        yield from () if swept else _find_in_file(command, group, choice)
    else:
        yield Fault(group, explain_choice(group, choice, list(choices)))


def _find_in_file(command: str, group: str, choice: str) -> Iterator[Fault]:
    """The faults of a user's own config; none for one of lmtune's."""
    file = find_file(f"{group}/{choice}")
    if file is None:
        return
    try:
        document = load_document(file)
    except ConfigError as error:
        yield Fault(str(file), str(error))
        return
    prefix = resolve_prefix(group)
    for name, value in document.values.items():
        for key, part in _flatten(command, prefix + name, value) if name not in ("defaults", "hydra") else ():
            text = find_fault(command, key, part, f"{group}/{choice}")
            if text is not None:
                yield Fault(key, text)


def _flatten(command: str, key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for the contents of a section; a key that takes any names is one item."""
    if isinstance(value, dict) and value and not _is_leaf(command, key) and find_open(key) is None:
        for name, part in value.items():
            yield from _flatten(command, f"{key}.{name}", part)
    else:
        yield key, value


def find_fault(command: str, key: str, value: Any, config: str = "") -> str | None:
    """What is wrong with a key and its value, whatever else is set; None if nothing is.

    config: the config that sets it, such as `data/mine`; '' if it was typed.
    """
    if key not in known_keys(command) and find_open(key) is None:
        return explain_inside(config, "not in", key, command) if config else explain_unknown(key, command)
    if isinstance(value, str) and "${" in value:
        return None
    section, _, name = key.partition(".")
    try:
        if section == "training" and name:
            check_training({name: value})
        elif section == "generation" and name:
            check_generation({name: value})
        else:
            _check_own(command, key, value)
    except OmegaConfBaseException as error:
        if "not in" not in str(error):
            key = ".".join(filter(None, [(find_open(key) or key).rpartition(".")[0], error.full_key]))
        return explain_inside(config, str(error), key, command) if config else explain_value(key, str(error), command)
    except ConfigError as error:
        return str(error)
    return None


def _is_leaf(command: str, key: str) -> bool:
    """True for a key that holds a value, and no other keys."""
    known = known_keys(command)
    return key in known and not any(name.startswith(f"{key}.") for name in known)


def _check_own(command: str, key: str, value: Any) -> None:
    """Raise for a value that a key of lmtune's own cannot have, as OmegaConf or the checks of the configuration would."""
    above = find_open(key) or key
    item = dict(walk(SCHEMAS[command])).get(above, all_keys()[above])
    for name in reversed(key.removeprefix(above).split(".")[1:]):
        value = {name: value}
    schema = OmegaConf.structured(make_dataclass("Single", [(item.name, item.type, MISSING)]))
    merged: Any = OmegaConf.merge(schema, {item.name: value})
    if holds_plain_list(item):
        check_words(key, merged[item.name] or [])
    if "range" in item.metadata and not facts_of(item).open:
        found = merged[item.name]
        check_number(
            key, OmegaConf.to_container(found) if OmegaConf.is_config(found) else found, item.metadata["range"]
        )
