"""The settings of a run as a page shows them: those that differ from the defaults, all of them, and the command."""

import json
import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lmtune.config import TrainConfig
from lmtune.config.keys import default_of, facts_of, section_of, walk
from lmtune.reporting.record import RunRecord
from lmtune.storage import Record

SET_BY_NAME = ("training", "generation", "chosen")
"""Sections that hold only what was set: each of their keys differs from the default of transformers."""
TELLING = frozenset(["files", "validation_files", "sources", "path", "prompts", "where"])
"""Keys of data and prompts that are hidden for a private run: names of files may identify people."""
HIDDEN = "(private)"
OF_START = ("output", "resume", "resume_force", "training.push_to_hub", "training.hub_token")
"""Keys left out of the command that repeats a run."""


class Setting(NamedTuple):
    """A key whose value is not its default."""

    key: str
    value: str
    default: str
    """Empty if it is that of transformers."""


def list_differences(config: Record) -> list[Setting]:
    """Keys whose value is not the default of their class, and those of transformers' own that were set."""
    found = []
    for key, item in walk(TrainConfig):
        if section_of(item.type) is not None or key in SET_BY_NAME or key in OF_START:
            continue
        value, default = find_value(config, key), _plain(default_of(item))
        if key.rpartition(".")[2] != "name" and not facts_of(item).internal and value not in (default, None):
            found.append(Setting(key, render_value(value), render_value(default)))
    for section in SET_BY_NAME:
        found += [Setting(f"{section}.{name}", render_value(value), "") for name, value in _set_of(config, section)]
    return found


def hide_private(config: Record) -> Record:
    """The settings without names and texts that reveal something about the corpus."""
    return {
        key: hide_private(value)
        if isinstance(value, dict) and key not in TELLING | {"model"}
        else hide_value(key, value)
        for key, value in config.items()
    }


def hide_value(key: str, value: Any) -> Any:
    """The value of a dotted key of a private run, HIDDEN if it reveals something about the corpus."""
    return HIDDEN if tells(key) and value and not isinstance(value, bool) else value


def tells(key: str) -> bool:
    """True for a dotted key whose value reveals something about the corpus."""
    return key.rpartition(".")[2] in TELLING and not key.startswith("model.")


def find_value(config: Record, key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def render_value(value: Any) -> str:
    """A value as it is typed; a path of this user's home is written with ~."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return hide_home(text)


def render_config(config: Record) -> str:
    """All settings as YAML."""
    return hide_home(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))


def render_command(record: RunRecord) -> str | None:
    """The command that started the run, without its output folder; None for a run that no command started."""
    if not record.overrides and not record.config.get("groups"):
        return None
    return " ".join(["lmtune train", *map(shlex.quote, render_overrides(record))])


def render_overrides(record: RunRecord) -> list[str]:
    """The overrides of a run, `key=value`, without those in OF_START."""
    words = (hide_home(_unquote(each)) for each in record.overrides)
    kept = [each for each in words if each.partition("=")[0] not in OF_START]
    return list(map(hide_override, kept)) if record.private else kept


def list_own(typed: Sequence[list[str]]) -> list[list[str]]:
    """The overrides of each of several jobs that not all of them share; for a single job, all of them."""
    shared = set(typed[0]).intersection(*typed[1:]) if len(typed) > 1 else set()
    return [[word for word in words if word not in shared] for words in typed]


def hide_override(override: str) -> str:
    """`key=value` of a private run, hidden as by hide_value."""
    key, equals, value = override.partition("=")
    return f"{key}{equals}{hide_value(key, value)}"


def shorten_folder(folder: Path) -> str:
    """A run folder from outputs/ on, else its name: the folders above mean nothing to a reader."""
    parts = folder.parts
    place = len(parts) - 1 - parts[::-1].index("outputs") if "outputs" in parts else len(parts) - 1
    return str(Path(*parts[place:]))


def hide_home(text: str) -> str:
    """A text with the home folder of this user written as ~."""
    home = str(Path.home())
    return text.replace(home + "/", "~/") if len(home) > 1 else text


def _unquote(override: str) -> str:
    """`key='value'` of Hydra's grammar, unquoted."""
    key, _, value = override.partition("=")
    if len(value) > 1 and value[0] == value[-1] == "'":
        value = value[1:-1].replace("\\'", "'").replace("\\\\", "\\")
    return f"{key.lstrip('+')}={value}"


def _set_of(config: Record, section: str) -> list[tuple[str, Any]]:
    values = config.get(section) or {}
    return [(name, value) for name, value in values.items() if value is not None]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else list(value) if isinstance(value, tuple) else value
