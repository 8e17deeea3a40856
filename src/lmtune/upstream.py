"""Names and types that transformers accepts, read from its installed source without importing it.

Importing TrainingArguments takes seconds and pulls in torch; reading the same names from the source takes
milliseconds, so a misspelt key is refused before anything heavy happens.
"""

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lmtune.errors import ConfigError
from lmtune.familiar import find_renamed, find_word
from lmtune.versions import add_newer_names, render_install

LABELS = frozenset(["data.name", "model.name", "finetune.name", "suite.name"])
"""Keys that only name something; they are never suggested for a misspelt key."""

SECTIONS = (
    "training",
    "data",
    "model.config",
    "model",
    "generation",
    "eval",
    "finetune",
    "tracker",
    "suite",
    "tokenizer",
    "serve",
)
"""Sections searched, in this order, for a key without a section or with the wrong one."""

MISANNOTATED = {"fsdp": "bool | str | list | None"}
"""Training arguments that accept more types than transformers 5.23 annotates."""


class Meant(NamedTuple):
    """What was probably meant by an unknown key."""

    what: str
    """What to type instead; empty if there is no equivalent."""
    remark: str


class Typed(NamedTuple):
    """What was given on the command line."""

    keys: frozenset[str] = frozenset()
    """Dotted keys and names of groups that were given something other than null."""
    values: Mapping[str, object] = {}
    """Values of the keys that were given a single one."""
    swept: frozenset[str] = frozenset()
    """Keys that were given several values, one for each job."""

    def is_swept(self, key: str) -> bool:
        """True if jobs differ in a key, in one of its parents, or in one of its children."""
        return "experiment" in self.swept or any(
            key == each or key.startswith(f"{each}.") or each.startswith(f"{key}.") for each in self.swept if key
        )


@cache
def load_training_fields() -> Mapping[str, str]:
    """Annotations of TrainingArguments' fields by their newest names, as in the source except for MISANNOTATED."""
    fields = _annotated_fields(transformers_folder() / "training_args.py", "TrainingArguments")
    return add_newer_names({**fields, **MISANNOTATED})


@cache
def load_accelerator_fields() -> frozenset[str]:
    """Keys of training.accelerator_config."""
    return frozenset(_annotated_fields(transformers_folder() / "trainer_pt_utils.py", "AcceleratorConfig"))


@cache
def load_generation_fields() -> frozenset[str]:
    """Parameters of GenerationConfig. It declares no fields; its __init__ pops each from kwargs."""
    source = (transformers_folder() / "generation" / "configuration_utils.py").read_text(encoding="utf-8")
    popped = re.findall(r"self\.(\w+) = kwargs\.pop\(", source)
    return frozenset(name for name in popped if not name.startswith("_")) - {"transformers_version"}


@cache
def load_choices(place: str) -> tuple[str, ...]:
    """Values of an enumeration of transformers, named as `file.Class`."""
    file, _, name = place.partition(".")
    source = class_source((transformers_folder() / f"{file}.py").read_text(encoding="utf-8"), name)
    return tuple(re.findall(r'^    [A-Z0-9_]+ = "([^"]+)"', source, re.MULTILINE))


@cache
def load_model_config_fields(model_type: str) -> Mapping[str, str] | None:
    """Fields of the config class of `model_type`, inherited ones included; None for an unknown type."""
    folder = transformers_folder()
    name = model_type.replace("-", "_")
    file = folder / "models" / name / f"configuration_{name}.py"
    if not re.fullmatch(r"\w+", name) or not file.is_file():
        return None
    shared = _annotated_fields(folder / "configuration_utils.py", "PreTrainedConfig")
    source = file.read_text(encoding="utf-8")
    owner = next(
        (c for c in re.findall(r"^class (\w+)\(", source, re.MULTILINE) if _declares(source, c, model_type)), None
    )
    return shared if owner is None else {**shared, **_annotated_fields(file, owner)}


def check_names(given: Iterable[str], known: Iterable[str], prefix: str) -> None:
    """Raise ConfigError for the first name that is not known, with the nearest one that is."""
    known = set(known)
    for name in given:
        if name not in known:
            raise ConfigError(f"{prefix}{name} is not a key.{render_suggestion(name, known, prefix)}")


def render_suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """' Did you mean X?' with what the name is called here, else with the nearest known name, or an empty string."""
    known = set(known)
    word = find_word(name)
    for key in word.keys if word else ():
        if key.startswith(prefix) and key.removeprefix(prefix) in known:
            return f" Did you mean {key}?"
    if word is not None and not word.keys:
        return f" {word.remark}"
    close = find_nearest(name, known)
    return f" Did you mean {prefix}{close}?" if close else ""


def explain_word(key: str, word: str, choices: Iterable[str]) -> str:
    """The text for a word that is none of a key's choices: what was expected, and the one that it begins or resembles."""
    known = list(choices)
    nearest = next((each for each in known if word and each.startswith(word)), None) or find_nearest(word, known)
    said = f" Did you mean {key}={nearest}?" if nearest else ""
    return f"{key}={word}: expected one of {', '.join(known)}.{said}"


def suggest(key: str, known: Iterable[str], command: str) -> str:
    """A hint for a key that a command does not have: its name here, why there is none, or the nearest spelling."""
    meant = find_meant(key, known, command)
    if not meant.what:
        return f" {meant.remark}" if meant.remark else ""
    return f" Did you mean {meant.what}?" + (f" ({meant.remark})" if meant.remark else "")


def find_meant(key: str, known: Iterable[str], command: str) -> Meant:
    """What was meant by a key that a command does not have. The nearest spelling is the last resort."""
    known = set(known) - LABELS
    key = _correct_section(key.replace("-", "_"), known)
    name = key.rpartition(".")[2]
    if key in known:
        return Meant(key, "")
    word = find_word(key, command) or find_word(name, command) or find_renamed(name)
    if word is not None and not word.keys:
        return Meant("", word.remark)
    for what in word.keys if word else ():
        if what.partition("=")[0] in known or (what.startswith("model.config.") and "model.config" in known):
            return Meant(what, word.remark if word else "")
    elsewhere = (name, *(f"{section}.{name}" for section in SECTIONS))
    found = next((place for place in elsewhere if place in known), None) or _find_beside(key, known)
    found = found or _find_anywhere(name, known)
    if found is None and word is not None:
        return Meant("", f"Another command has it: {word.keys[0]}.")
    return Meant(found or "", "")


def find_nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name with the most similar spelling, or None. cutoff: least similarity, from 0 to 1."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=cutoff)), None)


def _correct_section(key: str, known: Iterable[str]) -> str:
    """The key with its section corrected to the nearest existing one."""
    section, _, name = key.rpartition(".")
    spelt = find_nearest(section, {each.rpartition(".")[0] for each in known}) if section else None
    return f"{spelt}.{name}" if spelt else key


def _find_beside(key: str, known: Iterable[str]) -> str | None:
    """The key of the same section whose last part has the most similar spelling."""
    section, dot, name = key.rpartition(".")
    beside = [each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == section]
    nearest = find_nearest(name, beside)
    return None if nearest is None else section + dot + nearest


def _find_anywhere(name: str, known: Iterable[str]) -> str | None:
    """The key of any section whose last part has the most similar spelling; the cutoff admits a slip, not another word."""
    own = {each.rpartition(".")[2]: each for each in sorted(known, key=_rank_section, reverse=True)}
    nearest = difflib.get_close_matches(name, sorted(own), n=1, cutoff=0.85)
    return own[nearest[0]] if nearest else None


def _rank_section(key: str) -> tuple[int, str]:
    section = key.rpartition(".")[0]
    return SECTIONS.index(section) if section in SECTIONS else len(SECTIONS), key


def transformers_folder() -> Path:
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise ConfigError(f"transformers is not installed. {render_install('transformers')}")
    return Path(spec.origin).parent


def class_source(source: str, name: str) -> str:
    """The text of one class: parsing only this is ten times faster than parsing the module."""
    start = re.search(rf"^class {name}\b", source, re.MULTILINE)
    if start is None:
        raise ConfigError(
            f"The installed transformers has no class {name}: lmtune does not work with this version of it."
        )
    end = re.compile(r"^(?=[^\s#)])", re.MULTILINE).search(source, start.end())
    return source[start.start() : end.start() if end else len(source)]


def _annotated_fields(file: Path, class_name: str) -> dict[str, str]:
    body = ast.parse(class_source(file.read_text(encoding="utf-8"), class_name)).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in body.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not node.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(node.annotation)
    }


def _declares(source: str, class_name: str, model_type: str) -> bool:
    return bool(
        re.search(rf'^    model_type = "{re.escape(model_type)}"', class_source(source, class_name), re.MULTILINE)
    )
