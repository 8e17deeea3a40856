"""`lmtune explain KEY`: what a key means, the value that a command line gives it, and where that comes from.

lmtune explain training.learning_rate
lmtune explain data.block_size train data=bio
lmtune explain data
lmtune explain warmup_ratio              a name without its section, or of another program
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtune import upstream
from lmtune.cli.commands import COMMANDS
from lmtune.cli.composition import register
from lmtune.cli.describe import KeyText, describe_key, list_below
from lmtune.cli.explain import explain_unknown
from lmtune.cli.origins import Composition, composing
from lmtune.cli.schemas import hydra_keys, known_keys
from lmtune.commands.result import Result
from lmtune.config.ranges import render_value
from lmtune.console import wrap
from lmtune.errors import ConfigError

USAGE = "lmtune explain KEY [COMMAND] [group=choice key=value ...]"
NEIGHBOURS = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about one key of one command."""

    key: str
    command: str
    commands: list[str]
    """All commands that take it."""
    value: Any
    origins: list[dict[str, Any]]
    """Every place that gives it a value, the one in effect last."""
    text: KeyText
    neighbours: list[str]
    asked: str
    """The name that was asked for: the key, or another name for it."""


def run(arguments: list[str]) -> Result:
    """Explain one key, or list those of a section. Raises ConfigError for a name that is not a key of any command."""
    asked, command, rest = _read_arguments(arguments)
    key = _find_key(asked, command)
    register(command)
    with composing(command, rest) as composition:
        if key not in known_keys(command) or list_below(command, key):
            rows = _list_section(key, command, composition)
            return Result(rows, lambda: _render_section(key, command, rows))
        answer = _explain(key, command, composition, asked)
    return Result(asdict(answer), lambda: _render(answer))


def _read_arguments(arguments: list[str]) -> tuple[str, str, list[str]]:
    """(key, command, the rest). The command is the first that has the key, unless one is named."""
    if not arguments or not arguments[0] or "=" in arguments[0]:
        raise ConfigError(
            f"explain: expected a key, found none. {USAGE}; for instance: lmtune explain data.block_size."
        )
    key, *rest = arguments
    named = rest.pop(0) if rest and rest[0] in COMMANDS else None
    if rest and "=" not in rest[0]:
        raise ConfigError(f"explain: expected a command or key=value behind the key, found {rest[0]}. {USAGE}.")
    commands = [named] if named else list(COMMANDS)
    for command in [*filter(partial(_is_known, key), commands), *filter(partial(_find_key, key), commands)]:
        return key, command, rest
    if key in hydra_keys():
        raise ConfigError(
            f"{key} is a key of Hydra's own, told of at https://hydra.cc; expected one of lmtune's. {USAGE}."
        )
    raise ConfigError(explain_unknown(key, named or "train"))


def _is_known(key: str, command: str) -> bool:
    return key in known_keys(command) or bool(list_below(command, key))


def _find_key(asked: str, command: str) -> str:
    """The key meant by a name without its section, or by a name from another program; '' if there is none."""
    if _is_known(asked, command):
        return asked
    meant = upstream.find_meant(asked, known_keys(command), command).what.partition("=")[0]
    return meant if _is_known(meant, command) else ""


def _explain(key: str, command: str, composition: Composition, asked: str) -> Answer:
    found = describe_key(command, key)
    origins = [{"value": origin.value, "place": origin.place} for origin in composition.find_origins(key)]
    section = key.rpartition(".")[0]
    beside = list_below(command, section) if section else []
    return Answer(
        key=key,
        command=command,
        commands=[name for name in COMMANDS if key in known_keys(name)],
        value=find_value(composition.node, key, found),
        origins=origins or [{"value": found.default, "place": f"the default of {found.default_of}"}],
        text=found,
        neighbours=_choose_near(key, beside),
        asked=asked,
    )


def _choose_near(key: str, beside: list[str]) -> list[str]:
    """The keys next to it: keys of one purpose are declared together."""
    place = beside.index(key) if key in beside else 0
    near = beside[max(0, place - NEIGHBOURS // 2) : place + NEIGHBOURS // 2 + 1]
    return [name for name in near if name != key]


def find_value(node: DictConfig, key: str, text: KeyText) -> Any:
    """The value of a key in a composed configuration; the library's default if it has none."""
    try:
        value = OmegaConf.select(node, key, throw_on_missing=True)
    except OmegaConfBaseException:  # '???', left to transformers, or a `${...}` of a key that has no value yet
        return text.default or None
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else getattr(value, "value", value)


def _list_section(key: str, command: str, composition: Composition) -> list[dict[str, Any]]:
    """One row for each key of a section that has a value here."""
    rows = []
    for name in list_below(command, key):
        text = describe_key(command, name)
        rows.append({"key": name, "value": find_value(composition.node, name, text), "text": text.text})
    return rows


def _render(answer: Answer) -> list[str]:
    text, (*others, origin) = answer.text, answer.origins
    facts = [
        ("from", _render_origin(origin, answer.value)),
        *(("in place of", f"{render_value(other['value'])} of {other['place']}") for other in reversed(others)),
        ("type", text.kind),
        ("values", text.values),
        ("default", f"{text.default} ({text.default_of})" if text.default else ""),
        ("commands", ", ".join(answer.commands)),
        ("elsewhere", ", ".join(text.elsewhere)),
        ("beside it", ", ".join(answer.neighbours)),
    ]
    said = [line for paragraph in (text.text, text.condition) if paragraph for line in wrap(paragraph)]
    told = [line for name, fact in facts if fact for line in wrap(fact, f"{name:<13}")]
    found = [] if answer.asked == answer.key else [f"{answer.asked} is here {answer.key}.", ""]
    return [*found, f"{answer.key} = {render_value(answer.value)}", "", *said, "", *told]


def _render_origin(origin: dict[str, Any], value: Any) -> str:
    """The place that sets a value, and the text written there if it refers to another key."""
    written = render_value(origin["value"])
    return f"{origin['place']}: {written}" if written.startswith("${") and written != value else origin["place"]


def _render_section(key: str, command: str, rows: list[dict[str, Any]]) -> list[str]:
    width = max(len(row["key"]) for row in rows) + 2
    lines = [f"Keys of lmtune {command} below {key}:", ""]
    for row in rows:
        lines += [f"{row['key']:<{width}}{render_value(row['value'])}", *wrap(row["text"].partition(". ")[0], "    ")]
    return [*lines, "", f"lmtune explain {rows[0]['key']} says more of one."]
