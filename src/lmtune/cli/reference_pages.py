"""The pages of docs/reference: each command with its groups, keys and examples, and what lmtune is from Python.

python -m lmtune.cli.reference_pages docs/reference      writes them anew
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

import lmtune
from lmtune import errors
from lmtune.cli.commands import COMMANDS, Command
from lmtune.cli.schemas import GROUPS, SCHEMAS, find_conf, keys_of, known_keys
from lmtune.cli.tools import TOOLS
from lmtune.config.keys import KeyField, default_of, facts_of, holds_list, section_of, walk
from lmtune.config.ranges import render_value
from lmtune.units import render_count

MADE = "<!-- make docs writes this page; what stands here comes from the package itself -->"
KEYS = "configuration.md"
"""The page of all keys, in the folder above."""
_MARKER = re.compile(r"^#+ (?P<head>.*)$|^<!-- keys: (?P<command>\S+)(?: (?P<section>\S+))? -->$", re.MULTILINE)


def render_commands(configuration: str) -> str:
    """The page of the commands. configuration: the text of docs/configuration.md, to whose sections it links."""
    places = {(where["command"], where["section"] or ""): head for head, where in _list_tables(configuration)}
    parts = [render_command(command, places) for command in COMMANDS.values()]
    parts += [
        f"## lmtune {tool.name}\n\n{_open(tool.summary)}.\n\n{_quote(_read_usage(tool.module))}"
        for tool in TOOLS.values()
    ]
    head = f"""{MADE}

# Commands in detail

What each command does, how it is called, the groups that it chooses from, and its keys with their defaults; what a key means stands
in [configuration.md](../{KEYS}). `lmtune <command> --help` shows the same with all values in force.
"""
    return "\n\n".join([head.rstrip(), *parts]) + "\n"


def render_command(command: Command, places: dict[tuple[str, str], str]) -> str:
    """The section of one command. places: for (command, section), the heading in docs/configuration.md that its table is under."""
    shown = _load_conf(command.name)["hydra"]["help"]
    _, _, usage = shown["header"].partition("\n\n")
    parts = [f"## lmtune {command.name}", f"{_open(command.summary)}.", _quote(usage)]
    parts += [table for table in (_render_groups(command.name), _render_keys(command.name, places)) if table]
    return "\n\n".join(parts)


def render_python() -> str:
    """The page of the Python API."""
    names = [name for name in lmtune.__all__ if not name.startswith("__")]
    calls = [_render_call(name, getattr(lmtune, name)) for name in names]
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    raised = [kind for kind in kinds if issubclass(kind, errors.LmtuneError)]
    rows = [
        f"| `{kind.__name__}` | `{kind.__mro__[1].__name__}` | {kind.exit_code} | {_summary(kind)} |" for kind in raised
    ]
    head = f"""{MADE}

# Python in detail

The names of `lmtune`, as they are called. [From Python](../python.md) shows them at work. A configuration is a dataclass; its
fields are the keys of [configuration.md](../{KEYS}).
"""
    tail = """## Errors

In `lmtune.errors`. The text of each says what was expected, what was found, and what to do; its exit code is that of the command
line.

| error | is a | exit code | raised for |
|---|---|---|---|"""
    return "\n\n".join([head.rstrip(), *calls, "\n".join([tail, *rows])]) + "\n"


def _render_call(name: str, call: Any) -> str:
    (node,) = ast.parse(inspect.getsource(call)).body
    assert isinstance(node, ast.FunctionDef)
    called = f"lmtune.{name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns or ast.Constant(None))}"
    return f"## {name}\n\n    {called}\n\n{inspect.cleandoc(str(call.__doc__))}"


def _summary(kind: type) -> str:
    return " ".join(inspect.cleandoc(str(kind.__doc__)).split()).replace("|", "\\|")


def _render_groups(command: str) -> str:
    """The groups of a command with their choices and defaults."""
    known = [group for group in GROUPS if group in known_keys(command)]
    chosen = _find_chosen(command)
    rows = []
    for group in known:
        names = sorted(file.stem for file in (find_conf() / group).glob("*.yaml"))
        rows.append(
            f"| `{group}=` | {', '.join(f'`{name}`' for name in names)} | {f'`{chosen[group]}`' if chosen.get(group) else '-'} |"
        )
    return "\n".join(["| group | choices | unless said otherwise |", "|---|---|---|", *rows]) if rows else ""


def _render_keys(command: str, places: dict[tuple[str, str], str]) -> str:
    """The keys of a command: its own with their defaults, and for each section their number and where they are explained."""
    items = dict(walk(SCHEMAS[command]))
    rows = []
    own = [item for item in keys_of(SCHEMAS[command]) if not _is_section(item)]
    if own:
        rows.append(f"| {', '.join(map(_render_key, own))} | {_link(command, '', places)} |")
    for item in keys_of(SCHEMAS[command]):
        if _is_section(item):
            count = sum(name.startswith(f"{item.name}.") for name in items)
            shown = f"`{item.name}.*`" + (f", {render_count(count, 'key')}" if count else "")
            rows.append(f"| {shown} | {_link(command, item.name, places)} |")
    return "\n".join(["| keys (default) | explained |", "|---|---|", *rows])


def _is_section(item: KeyField) -> bool:
    return bool(facts_of(item).names) or (section_of(item.type) is not None and not holds_list(item))


def _render_key(item: KeyField) -> str:
    value = default_of(item)
    return f"`{item.name}`" if value is None else f"`{item.name}` (`{render_value(value)}`)"


def _link(command: str, section: str, places: dict[tuple[str, str], str]) -> str:
    """A link to where a section of a command is explained: its own part of the page of all keys, else that of train."""
    named = {"training": "training.*", "generation": "generation.*"}.get(section)
    head = (
        named or places.get((command, section)) or places.get(("train", section)) or places.get(("eval", section)) or ""
    )
    return f"[{head}](../{KEYS}#{_slug(head)})" if head else ""


def _list_tables(configuration: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield (heading, marker) for each table of keys."""
    head = ""
    for found in _MARKER.finditer(configuration):
        if found["head"] is not None:
            head = found["head"]
        else:
            yield head, found


def _slug(head: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head.lower()))


def _find_chosen(command: str) -> dict[str, str | None]:
    """The default choice of each group of a command."""
    entries = _load_conf(command)["defaults"]
    if "groups" in entries:
        entries = [*_load_conf("groups")["defaults"], *entries]
    return {name: choice for entry in entries if isinstance(entry, dict) for name, choice in entry.items()}


def _load_conf(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((find_conf() / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def _read_usage(module: str) -> str:
    from importlib import import_module

    return inspect.cleandoc(str(import_module(module).__doc__)).partition("\n\n")[2]


def _open(text: str) -> str:
    return text[:1].upper() + text[1:]


def _quote(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")


def main(folders: Iterable[Path]) -> None:
    """Write the pages into their folder, which is beside the page of all keys."""
    for folder in folders:
        configuration = (folder.parent / KEYS).read_text(encoding="utf-8")
        (folder / "commands.md").write_text(render_commands(configuration), encoding="utf-8")
        (folder / "python.md").write_text(render_python(), encoding="utf-8")


if __name__ == "__main__":
    main(map(Path, sys.argv[1:]))
