"""The tables of docs/configuration.md and docs/coming-from.md.

The first list each key with its default, the values that it accepts and the docstring under its field, the others the names of
other programs with their names here.

    python -m lmtune.cli.reference docs/configuration.md docs/coming-from.md      regenerates their tables

A table follows a line that names a command and, unless the keys are the command's own, one of its sections:

    <!-- keys: train -->
    <!-- keys: train data -->

A table of training arguments follows a line that names which: refused, unread, conditional or works.

    <!-- arguments: refused -->

A table of names of other programs follows a line that says whose: run_clm, trainer, factories or nanogpt.

    <!-- words: run_clm -->
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path

from lmtune.cli.schemas import SCHEMAS
from lmtune.config.keys import KeyField, default_of, facts_of, holds_list, section_of, walk
from lmtune.config.ranges import Range, render_value
from lmtune.config.training_arguments import ARGUMENTS, Argument
from lmtune.familiar.huggingface import RUN_CLM, TRAINER
from lmtune.familiar.loops import FACTORIES, NANOGPT
from lmtune.familiar.word import Word

HEADER = ("| key | default | values | what it does |", "|---|---|---|---|")
_TABLE = re.compile(r"(<!-- keys: (?P<command>\S+)(?: (?P<section>\S+))? -->\n)(?:\|.*\n)*")
_WORDS = re.compile(r"(<!-- words: (?P<whose>\w+) -->\n)(?:\|.*\n)*")
WORDS = {"run_clm": RUN_CLM, "trainer": TRAINER, "factories": FACTORIES, "nanogpt": NANOGPT}
_ARGUMENTS = re.compile(r"(<!-- arguments: (?P<which>\w+) -->\n)(?:\|.*\n)*")


def rewrite(text: str) -> str:
    """The text of a page with its tables regenerated from the fields."""
    text = _TABLE.sub(lambda found: found[1] + render_table(found["command"], found["section"] or ""), text)
    text = _WORDS.sub(lambda found: found[1] + render_words(WORDS[found["whose"]]), text)
    return _ARGUMENTS.sub(lambda found: found[1] + render_arguments(found["which"]), text)


def render_table(command: str, section: str) -> str:
    """The table of one section of a command; section '' is the keys outside of sections."""
    rows = (_render_row(name, item, text) for name, item, text in _list_keys(command, section))
    return "".join(f"{line}\n" for line in (*HEADER, *rows))


def render_words(words: Mapping[str, Word]) -> str:
    """The table of the names of another program; names with the same row otherwise share it."""
    rows: dict[Word, list[str]] = {}
    for name, word in words.items():
        rows.setdefault(word, []).append(f"`{name}`")
    lines = (
        _render_cells(", ".join(names), " or ".join(f"`{key}`" for key in word.keys) or "-", word.remark)
        for word, names in rows.items()
    )
    return "".join(f"{line}\n" for line in ("| there | here | |", "|---|---|---|", *lines))


def render_arguments(which: str) -> str:
    """The table of training arguments that are refused, refused if typed (unread), conditional, or that work.

    Arguments with the same row otherwise share it.
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for name, argument in ARGUMENTS.items():
        if _name_kind(argument) == which:
            rows.setdefault((_render_accepted(argument), _render_reason(argument)), []).append(f"`{name}`")
    column = {"conditional": "works where", "works": "how"}.get(which, "why")
    header = (f"| field | accepted | {column} |", "|---|---|---|")
    lines = (_render_cells(", ".join(names), accepted, reason) for (accepted, reason), names in rows.items())
    return "".join(f"{line}\n" for line in (*header, *lines))


def _name_kind(argument: Argument) -> str:
    if argument.refusal:
        return "refused" if argument.contradicts else "unread"
    return "conditional" if argument.condition else "works"


def _render_reason(argument: Argument) -> str:
    if argument.refusal:
        return argument.refusal.removesuffix(" Leave it out.")
    if argument.condition:
        return str(argument.condition.__doc__)
    if argument.text:
        return argument.text
    home = argument.home.removesuffix(".name")
    return f"as `{home}=`, its name here" if home else "as transformers documents it"


def _render_accepted(argument: Argument) -> str:
    """The accepted values of a training argument, if they are few or numbers."""
    if argument.range is not None:
        return argument.range.render()
    harmless = [render_value(value) for value in argument.harmless if value not in ("", None)]
    return ", ".join(f"`{word}`" for word in (*argument.words, *harmless))


@cache
def load_texts(schema: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of its bases, on one line. Read from the source."""
    texts: dict[str, str] = {}
    for kind in reversed(schema.__mro__):
        if hasattr(kind, "__dataclass_fields__"):
            texts |= _read_texts(kind)
    return texts


def _read_texts(schema: type) -> Iterator[tuple[str, str]]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(tree, ast.ClassDef)
    for node, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            yield ast.unparse(node.target), " ".join(str(below.value.value).split())


def _list_keys(command: str, section: str) -> Iterator[tuple[str, KeyField, str]]:
    """Yield (dotted key, field, text) for each key of a section that holds a value, including those of its lists."""
    inside = f"{section}." if section else ""
    items = dict(walk(SCHEMAS[command]))
    owners = {"": SCHEMAS[command], **{name: kind for name, item in items.items() if (kind := section_of(item.type))}}
    for name, item in items.items():
        owner, _, own = name.rpartition(".")
        holds_keys = facts_of(item).names or (owners.get(name) is not None and not holds_list(item))
        if name.startswith(inside) and (section or not owner) and not holds_keys:
            yield name, item, load_texts(owners[owner]).get(own, "")


def _render_row(name: str, item: KeyField, text: str) -> str:
    default = default_of(item)
    shown = "" if default is None else f"`{render_value(default)}`"
    return _render_cells(f"`{name}`", shown, render_values(item), text)


def _render_cells(*cells: str) -> str:
    written = (f" {cell.replace('|', chr(92) + '|')} " if cell else " " for cell in cells)
    return f"|{'|'.join(written)}|"


def render_values(item: KeyField) -> str:
    """The numbers or words that a key accepts; '' for any text."""
    allowed = item.metadata.get("range")
    if isinstance(allowed, Range):
        return allowed.render()
    return ", ".join(f"`{word}`" for word in list_words(item))


def list_words(item: KeyField) -> list[str]:
    """The words that a key accepts; [] for any text."""
    options = getattr(item.type, "__args__", (item.type,))
    return [word.value for kind in options if isinstance(kind, type) and issubclass(kind, Enum) for word in kind]


def main(files: Iterable[Path]) -> None:
    """Regenerate the tables of pages."""
    for file in files:
        file.write_text(rewrite(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(map(Path, sys.argv[1:]))
