"""transformers' documentation of its arguments, read from the installed source without importing it."""

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from lmtune.upstream import class_source, transformers_folder

_ARGUMENT = re.compile(r"^ {8}(?P<name>\w+) ?\((?P<kind>.*)\):\n(?P<text>(?: {9,}\S.*\n|\n(?= {9,}\S))*)", re.MULTILINE)
_DEFAULT = re.compile(r", *\*optional\*(?:, *defaults to (?P<default>.+))?$")


class ArgumentDoc(NamedTuple):
    """One argument in transformers' own words."""

    kind: str
    """Its type, as written: `float`, `str` or `SchedulerType`."""
    default: str
    """'' if none is named."""
    text: str


@cache
def load_training_docs() -> Mapping[str, ArgumentDoc]:
    """The arguments of TrainingArguments, by name."""
    return _read_docs(
        class_source((transformers_folder() / "training_args.py").read_text("utf-8"), "TrainingArguments")
    )


@cache
def load_generation_docs() -> Mapping[str, ArgumentDoc]:
    """The arguments of GenerationConfig, by name."""
    file = transformers_folder() / "generation" / "configuration_utils.py"
    return _read_docs(class_source(file.read_text("utf-8"), "GenerationConfig"))


def _read_docs(source: str) -> dict[str, ArgumentDoc]:
    """The arguments in the docstring of a class."""
    docstring = source.partition('"""')[2].partition('"""')[0]
    return {found["name"]: _read_argument(found["kind"], found["text"]) for found in _ARGUMENT.finditer(docstring)}


def _read_argument(kind: str, text: str) -> ArgumentDoc:
    default = _DEFAULT.search(kind)
    plain = re.sub(r"\[`~?([^`]+)`\]", r"\1", _DEFAULT.sub("", kind)).replace("`", "")
    words = " ".join(re.sub(r"\[`~?([^`]+)`\]", r"\1", text).split())
    return ArgumentDoc(plain, (default["default"] or "").replace("`", "") if default else "", words)
