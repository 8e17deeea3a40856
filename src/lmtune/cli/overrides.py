"""From what a person types after `key=` to what Hydra's grammar reads.

Hydra's grammar refuses `prompt=tem já`, sweeps over `prompt=Em 2020, o` and breaks on `data.files=/home/João/a(1).txt`.
For keys that hold free text, what stands after `=` is the value, so it is quoted before Hydra sees it.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from lmtune.cli.commands import COMMANDS
from lmtune.cli.schemas import GROUPS, SCHEMAS, all_keys, facts_for, find_open
from lmtune.config.keys import default_of, facts_of, holds_list, walk
from lmtune.config.ranges import render_value
from lmtune.errors import ConfigError, Gathering
from lmtune.upstream import Typed

_OVERRIDE = re.compile(r"(?P<prefix>\+{0,2})(?P<key>[A-Za-z_][\w./@:-]*)=(?P<value>.*)", re.DOTALL)


def spell_out(arguments: list[str]) -> list[str]:
    """`tracker=[tensorboard,wandb]` as `tracker.name=[...]`: a group takes one choice, its name several trackers."""
    return [
        text.replace("=", ".name=", 1) if text.startswith("tracker=") and "[" in text else text for text in arguments
    ]


def prepare_overrides(arguments: list[str]) -> list[str]:
    """Arguments of the command line in Hydra's grammar; options such as `-m` pass through."""
    typed = [_OVERRIDE.fullmatch(argument) for argument in arguments]
    given = {match["key"] for match in typed if match}
    prepared = [
        argument if match is None else _prepare(match["prefix"], match["key"], match["value"])
        for argument, match in zip(arguments, typed, strict=True)
    ]
    return [*_own_groups(given), *_own_source(given), *prepared]


def gather_words(command: str, arguments: list[str]) -> list[str]:
    """Turn words without a key, such as the runs that a shell expands outputs/* to, into values of the key that takes them.

    An existing path is such a word even if it contains `=`. Raises ConfigError if that key is given too.
    """
    key = COMMANDS[command].words
    words = [each for each in arguments if is_word(command, each)]
    if key is None or not words:
        return arguments
    keys = [each for each in arguments if each not in words]
    if any(each.startswith(f"{key}=") for each in keys):
        raise ConfigError(f"{words[0]} beside {key}=: expected one of the two ways to say it. Leave {key}= out.")
    if holds_list(dict(walk(SCHEMAS[command]))[key]):
        return [*keys, f"{key}=[{','.join(map(quote, words))}]"]
    if len(words) > 1:
        raise ConfigError(f"lmtune {command}: expected one word, found {len(words)}: {' '.join(words)}. Give one.")
    return [*keys, f"{key}={words[0]}"]


def is_word(command: str, argument: str) -> bool:
    """True for an argument without a key, if the command takes such arguments."""
    return bool(COMMANDS[command].words) and ("=" not in argument or is_path(argument))


def is_path(word: str) -> bool:
    """True for a path that exists."""
    try:
        return bool(word) and Path(word).exists()
    except (OSError, ValueError):
        return False


def list_implied(command: str, arguments: list[str]) -> list[str]:
    """Overrides that follow from those typed, and precede them: `eval` scores all of the user's own files."""
    own = any(argument.startswith(("data.files=", "data.sources=")) for argument in arguments)
    return ["eval.split=all"] if command == "eval" and own else []


def check_forms(arguments: list[str]) -> None:
    """Raise ConfigError for forms of Hydra's grammar that have no meaning here.

    These are `~key`, glob(...) of a plain key, and a group that is given anything but the name of a choice.
    """
    found = Gathering()
    for argument in arguments:
        with found.noting():
            _check_form(argument)
    found.raise_all()


def _check_form(argument: str) -> None:
    left_out = re.fullmatch(r"~(?P<key>[\w./@:-]+)(=.*)?", argument)
    if left_out:
        key = left_out["key"]
        instead = f"Choose another with {key}=" if key in GROUPS else "Leave it out for its default"
        if key.startswith(("training.", "generation.")):
            instead = f"Give {key}=null for the default of the library"
        raise ConfigError(f"{argument}: nothing can be taken out of a configuration, expected a value. {instead}.")
    if argument.startswith("="):
        raise ConfigError(
            f"{argument}: expected key=value, found no key. Write it before the =, as in training.max_steps=100."
        )
    match = _OVERRIDE.fullmatch(argument)
    if match is None:
        return
    key, override = match["key"], _parse(argument)
    if override is None:
        return
    value = override.value()
    if isinstance(value, Glob):
        if key not in GROUPS:
            raise ConfigError(
                f"{argument}: glob stands for the choices of a group, as in data=glob(*), and {key} has none. "
                f"Expected values: {key}=1,2."
            )
    elif not override.is_sweep_override() and _is_group(key) and not _names_choice(key, value):
        raise ConfigError(
            f"{argument}: a group takes the name of one of its files, such as training=default; found {render_value(value)}. "
            f"Name one of {key}=, or type its keys one by one."
        )


def _is_group(key: str) -> bool:
    return key in (*GROUPS, "hydra") or "/" in key


def _names_choice(group: str, value: object) -> bool:
    """True for the name of a choice of a group; several experiments may be combined."""
    several = group == "experiment" and isinstance(value, list)
    return several or isinstance(value, str)


def find_typed(arguments: list[str]) -> Typed:
    """Keys and groups that were typed, also inside a section (`eval={context:64}`); null asks for nothing."""
    keys, values, swept = set(), {}, set()
    for argument in arguments:
        match = _OVERRIDE.fullmatch(argument)
        if match is None:
            continue
        override = _parse(_prepare(match["prefix"], match["key"], match["value"]))
        if override is None or override.is_sweep_override():
            keys.add(match["key"])
            swept.update([match["key"]] if override else [])
            continue
        found = {key: value for key, value in _flatten(match["key"], override.value()) if value is not None}
        keys.update(found)
        values.update(found)
    return Typed(frozenset(keys), values, frozenset(swept))


def _flatten(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value and "." not in key:
        for name, part in value.items():
            yield from _flatten(f"{key}.{name}", part)
    else:
        yield key, value


def _own_groups(given: set[str]) -> list[str]:
    """Choices of groups that a source implies by itself; of several sources, the last in field order decides."""
    chosen: dict[str, str] = {}
    for key, item in all_keys().items():
        group, _, _ = key.partition(".")
        if key in given and facts_of(item).chooses and not given & {group, "experiment"}:
            chosen[group] = facts_of(item).chooses
    return [f"{group}={choice}" for group, choice in chosen.items()]


def _own_source(given: set[str]) -> list[str]:
    """Overrides that reset what a named data set or model says of its own source, if another source is typed; filters stay."""
    taken_back = {}
    for key, item in all_keys().items():
        section = key.rpartition(".")[0]
        replaced = given & {f"{section}.{other}" for other in facts_of(item).yields_to}
        if replaced and key not in given and given & {section, "experiment"}:
            taken_back[key] = default_of(item)
    return [f"{key}={render_value(value)}" for key, value in taken_back.items()]


def quote(text: str) -> str:
    """A quoted string of Hydra's grammar whose value is exactly `text`."""
    return QuotedString(text=escape(text), quote=Quote.single).with_quotes()


def escape(text: str) -> str:
    """Text that OmegaConf takes literally: an interpolation gets a backslash, and those right before it are doubled."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)


def _prepare(prefix: str, key: str, value: str) -> str:
    facts, above = facts_for(key), find_open(key)
    if above is not None:
        return f"++{key}={quote(value) if above != key and facts_for(above).literal else value}"
    if facts.literal:
        return f"{prefix}{key}={_literal(key, value)}"
    if facts.several and not value.startswith("["):
        return f"{key}=[{value}]"
    if not _parses(key, value) and not value.startswith(("[", "{")):
        return f"{prefix}{key}={quote(value)}"
    return f"{prefix}{key}={value}"


def _literal(key: str, value: str) -> str:
    if value.startswith("choice(") and _parses(key, value):
        return value
    if not (value.startswith("[") and facts_for(key).several):
        return f"[{quote(value)}]" if holds_list(all_keys()[key]) else quote(value)
    if _parses(key, value):
        return value
    return "[" + ",".join(quote(item) for item in split_list(value)) + "]"


def split_list(value: str) -> list[str]:
    """Items of `[a, 'b, c', d]`, for lists that Hydra's grammar cannot parse (accents, brackets in names)."""
    inner = value[1:].removesuffix("]")
    items = re.findall(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]*?))\s*(?:,|$)""", inner)
    found = [next(filter(None, item), "") for item in items]
    return [item for item in found if item]


def _parses(key: str, value: str) -> bool:
    return _parse(f"{key}={value}") is not None


def _parse(argument: str) -> Override | None:
    """An argument as Hydra parses it; None if it cannot."""
    try:
        return _parser().parse_override(argument)
    except HydraException:
        return None


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
