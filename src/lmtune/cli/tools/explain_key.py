"""`lmtune explain KEY`: what a key means, the value that a command line gives it, and where that comes from.

lmtune explain training.learning_rate
lmtune explain data.block_size train data=bio
lmtune explain data
lmtune explain warmup_ratio              a name without its section, or of another program
lmtune explain model.config.n_layer=8    a part of a key; the value counts as typed
lmtune explain finetune=lora             a section with one of its choices; `lora` alone does as well
"""

import re
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtune import upstream
from lmtune.cli.commands import COMMANDS
from lmtune.cli.composition import register
from lmtune.cli.describe import KeyText, describe_key, list_below, list_choices
from lmtune.cli.explain import explain_unknown
from lmtune.cli.origins import Composition, composing
from lmtune.cli.schemas import GROUPS, find_conf, find_open, hydra_keys, known_keys
from lmtune.cli.user_conf import folders
from lmtune.commands.result import Result
from lmtune.config.ranges import render_value
from lmtune.console import wrap
from lmtune.errors import ConfigError
from lmtune.familiar import find_word

USAGE = "lmtune explain KEY [COMMAND] [group=choice key=value ...]"
NEIGHBOURS = 6
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
"""A link of Markdown, of which a terminal shows the text."""


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
    folders.register(find_conf())
    asked, command, rest = _read_arguments(arguments)
    key = _find_key(asked, command)
    register(command)
    with composing(command, rest) as composition:
        if list_below(command, key):
            rows = _list_section(key, command, composition)
            return Result(rows, lambda: _render_section(key, command, rows))
        answer = _explain(key, command, composition, asked)
    return Result(asdict(answer), lambda: _render(answer))


def _read_arguments(arguments: list[str]) -> tuple[str, str, list[str]]:
    """(key, command, the rest). The command is the first that has the key, unless one is named."""
    first, *rest = arguments or [""]
    named = rest.pop(0) if rest and rest[0] in COMMANDS else None
    if "=" not in first and (group := _find_group(first)):
        first = f"{group}={first}"
    key, is_typed, _ = first.partition("=")
    if not key:
        raise ConfigError(
            f"explain: expected a key, found none. {USAGE}; for instance: lmtune explain data.block_size."
        )
    if is_typed:
        rest.insert(0, first)
    if rest and "=" not in rest[0]:
        raise ConfigError(f"explain: expected a command or key=value behind the key, found {rest[0]}. {USAGE}.")
    commands = [named] if named else list(COMMANDS)
    for find in (_is_known, _find_whole, _find_key):
        for command in filter(partial(find, key), commands):
            return key, command, rest
    if key in hydra_keys():
        raise ConfigError(
            f"{key} is a key of Hydra's own, told of at https://hydra.cc; expected one of lmtune's. {USAGE}."
        )
    raise ConfigError(explain_unknown(key, named or "train"))


def _is_known(key: str, command: str) -> bool:
    return key in known_keys(command) or bool(list_below(command, key))


def _find_group(name: str) -> str | None:
    """The group of a choice such as `lora`; None for a name that is part of a key, or a choice of several groups."""
    parts = {part for command in COMMANDS for key in known_keys(command) for part in key.split(".")}
    found = [group for group in GROUPS if name in list_choices(group)]
    return found[0] if len(found) == 1 and name not in parts and find_word(name) is None else None


def _find_whole(asked: str, command: str) -> str:
    """The key that a name lies inside, such as model.config for model.config.n_layer; '' if it is no part of a key."""
    whole = find_open(asked) or ""
    return whole if whole in known_keys(command) else ""


def _find_key(asked: str, command: str) -> str:
    """The key, or part of one, meant by a name without its section, or by a name from another program; '' if there is none."""
    if _is_known(asked, command) or _find_whole(asked, command):
        return asked
    meant = upstream.find_meant(asked, known_keys(command), command).what.partition("=")[0]
    return meant if _is_known(meant, command) or _find_whole(meant, command) else ""


def _explain(key: str, command: str, composition: Composition, asked: str) -> Answer:
    whole = key if key in known_keys(command) else _find_whole(key, command)
    found = describe_key(command, whole)
    default: dict[str, Any] = {"value": found.default, "place": f"the default of {found.default_of}"}
    if whole != key:
        found = replace(found, kind="", values="", default="", text=f"A part of {whole}: {found.text}")
        default = {"value": None, "place": "not set"}
    origins = [{"value": origin.value, "place": origin.place} for origin in composition.find_origins(key)]
    section = key.rpartition(".")[0]
    beside = list_below(command, section) if section else []
    is_recipe = key in GROUPS  # of which Hydra composes the content and keeps no name
    return Answer(
        key=key,
        command=command,
        commands=[name for name in COMMANDS if whole in known_keys(name)],
        value=origins[-1]["value"] if is_recipe and origins else find_value(composition.node, key, found),
        origins=origins or [default],
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
    paragraphs = (LINK.sub(r"\1", text.text), text.condition)
    said = [line for paragraph in paragraphs if paragraph for line in wrap(paragraph)]
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
    choices = [*wrap(", ".join(list_choices(key)), f"{key}= takes "), ""] if key in GROUPS else []
    return [*lines, "", *choices, f"lmtune explain {rows[0]['key']} says more of one."]
