"""Parsing typed lines: a prompt, a new value of a setting, or an order.

O paciente chegou          a prompt
/temperature=0.5           a setting: seed, top, or a parameter of generate by its own name
/temperature=              the setting as it was when the chat began
/more                      an order
//etc/passwd               a prompt that starts with a slash
"""

import json
from dataclasses import dataclass

from lmtune.errors import ConfigError
from lmtune.upstream import find_nearest

ORDERS = {
    "more": "go on where the last text ended",
    "again": "the last prompt with the next seed",
    "settings": "the settings in effect",
    "help": "this list",
    "quit": "leave, as Ctrl-D does",
}
SYNONYMS = {"exit": "quit", "bye": "quit", "q": "quit", "?": "help", "h": "help", "set": "settings"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to continue."""

    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """A new value of a setting."""

    name: str
    value: object


@dataclass(frozen=True, slots=True)
class Reset:
    """A setting as it was when the chat began."""

    name: str


@dataclass(frozen=True, slots=True)
class Order:
    """One of ORDERS."""

    name: str


Line = Prompt | Change | Reset | Order


def parse_line(line: str) -> Line | None:
    """What a line asks for; None for a blank one. Raises ConfigError for an unknown order."""
    if not line.strip():
        return None
    if not line.startswith("/"):
        return Prompt(line)
    if line.startswith("//"):
        return Prompt(line[1:])
    name, equals, value = line[1:].partition("=")
    name = name.strip()
    if equals:
        return Change(name, _read_value(value.strip())) if value.strip() else Reset(name)
    name = SYNONYMS.get(name, name)
    if name not in ORDERS:
        raise ConfigError(f"/{name}: expected one of {_list_orders()}, or a setting with its value.{_hint(name)}")
    return Order(name)


def render_help() -> list[str]:
    """The orders, one per line."""
    settings = "another setting: seed, top, or any parameter of generate; /temperature= takes it back"
    lines = {"/temperature=0.5": settings, **{f"/{name}": what for name, what in ORDERS.items()}}
    lines["//text"] = "a prompt that opens with a slash"
    return ["A line is a prompt, which the model goes on with."] + [
        f"  {name:<18}{what}" for name, what in lines.items()
    ]


def _list_orders() -> str:
    return ", ".join(f"/{name}" for name in ORDERS)


def _hint(name: str) -> str:
    near = find_nearest(name, ORDERS)
    return f" Did you mean /{near}?" if near else " A prompt that opens with a slash is typed with two: //text."


def _read_value(text: str) -> object:
    """A number, true, false, null or a list in JSON; anything else is a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
