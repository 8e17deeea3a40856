"""The description of a key, for `lmtune explain` and the tables of the docs."""

import re
from dataclasses import dataclass, replace
from enum import Enum
from types import GenericAlias, UnionType
from typing import Any

from lmtune import upstream, upstream_docs
from lmtune.cli.reference import load_texts, render_values
from lmtune.cli.schemas import GROUPS, RESUMED, SCHEMAS
from lmtune.cli.user_conf import folders
from lmtune.config.keys import KeyField, default_of, facts_of, section_of, walk
from lmtune.config.ranges import render_value
from lmtune.config.training_arguments import ARGUMENTS, OWN, Argument, load_fields
from lmtune.familiar import WORDS

NO_DOC = upstream_docs.ArgumentDoc("any", "", "transformers names it and says no more.")

KINDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "dict": "mapping",
    "None": "null",
    "NoneType": "null",
    "Any": "any value",
}
"""Types of Python in words."""
LITERALS = {"None": "null", "True": "true", "False": "false"}
"""Values of Python as they would be typed."""


@dataclass(frozen=True, slots=True)
class KeyText:
    """One key, independent of its value."""

    kind: str
    """Its type."""
    values: str
    """The numbers or words that it accepts; '' for any."""
    default: str
    """As it would be typed; '' if the library names none."""
    default_of: str
    """Whose default it is: lmtune's or transformers'."""
    text: str
    condition: str
    """When it works, or why it is refused; '' if it always works."""
    elsewhere: tuple[str, ...]
    """What other programs call it."""


def describe_key(command: str, key: str) -> KeyText:
    """Describe a key of a command. Raises KeyError if the command does not have it."""
    section, _, name = key.rpartition(".")
    elsewhere = tuple(f"--{word}" for word, meant in WORDS.items() if key in meant.keys)
    if section == "training":
        return _describe_training(name, elsewhere if name in OWN else (f"--{name}", *elsewhere))
    if section == "generation":
        return _describe_theirs(upstream_docs.load_generation_docs().get(name, NO_DOC), "", "", elsewhere)
    items = dict(walk(SCHEMAS[command]))
    if key not in items and key in GROUPS:
        text = f"A recipe, which sets keys of any section. lmtune config list {key} describes each."
        return KeyText("one of the words", ", ".join(list_choices(key)), "null", "lmtune", text, "", elsewhere)
    item = items[key]
    owner = section_of(items[section].type) if section else SCHEMAS[command]
    shown = render_value(default_of(item))
    texts = load_texts(owner) if owner is not None else {}
    return KeyText(_render_kind(item), render_values(item), shown, "lmtune", texts.get(name, ""), "", elsewhere)


def list_choices(group: str) -> list[str]:
    """The names that can be typed for a group, those of the user's conf/ among them; composition.register must have run."""
    return [choice for choice in folders.list_choices(group) if choice != RESUMED]


def list_below(command: str, section: str) -> list[str]:
    """Keys directly below a section that hold a value, in order; [] if it is not a section."""
    items = dict(walk(SCHEMAS[command]))
    if section in items and (source := facts_of(items[section]).names):
        return [f"{section}.{name}" for name in _list_theirs(source)]
    start = f"{section}."
    return [name for name in items if name.startswith(start) and "." not in name.removeprefix(start)]


def _list_theirs(source: str) -> list[str]:
    """Names of the fields of a class of transformers, in the order of its documentation."""
    if source == "training":
        return list(load_fields())
    known = upstream.load_generation_fields()
    return [name for name in dict.fromkeys([*upstream_docs.load_generation_docs(), *sorted(known)]) if name in known]


def _describe_training(name: str, elsewhere: tuple[str, ...]) -> KeyText:
    argument = ARGUMENTS.get(name, Argument())
    values = argument.range.render() if argument.range else ", ".join(argument.words)
    condition = getattr(argument.condition, "__doc__", None)
    said = f"Refused: {argument.refusal}" if argument.refusal else f"Works where: {condition}" if condition else ""
    if argument.home:
        said = f"The same setting as lmtune's own key {argument.home}: set that one. {said}".rstrip()
    if argument.text:
        kind = _put_in_words(load_fields()[name])
        return KeyText(kind, values, "null", "lmtune", argument.text, said, elsewhere)
    doc = upstream_docs.load_training_docs().get(name, NO_DOC._replace(kind=load_fields()[name]))
    found = _describe_theirs(doc, values, said, elsewhere)
    return replace(found, default=argument.chosen, default_of="lmtune") if argument.chosen else found


def _describe_theirs(
    doc: upstream_docs.ArgumentDoc, values: str, condition: str, elsewhere: tuple[str, ...]
) -> KeyText:
    default = LITERALS.get(doc.default, doc.default)
    return KeyText(_put_in_words(doc.kind), values, default, "transformers", doc.text, condition, elsewhere)


def _put_in_words(kind: str) -> str:
    """A type as transformers writes it, `int | None`, in the words of _render_kind."""
    return re.sub(r"\w+", lambda name: KINDS.get(name[0], name[0]), kind.replace(" | ", " or "))


def _render_kind(item: KeyField) -> str:
    """A type in words: `text`, `whole number or null`."""
    options = getattr(item.type, "__args__", ()) if isinstance(item.type, UnionType) else (item.type,)
    return " or ".join(_name_kind(option) for option in options)


def _name_kind(kind: Any) -> str:
    if isinstance(kind, GenericAlias):
        inner = " to ".join(_name_kind(part) for part in kind.__args__)
        return f"{'a list' if kind.__origin__ is list else 'a mapping'} of {inner}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of the words"
    name = getattr(kind, "__name__", str(kind))
    return KINDS.get(name, name)
