"""A YAML file as a mapping: a record, or a config with the places of its keys."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmtune.errors import ConfigError
from lmtune.plain_yaml.reader import Reader
from lmtune.plain_yaml.text import load_text
from lmtune.plain_yaml.wording import shorten

RECORD_FACTOR = 10
"""Records may be so many times larger than configs: they name by absolute paths what a config named by short ones."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its values, and where and how its keys were written."""

    file: Path
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    """Line of each value, by dotted key; items of lists by their number."""
    written: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Values that are no text, after the characters that they were read from, by dotted key."""
    header: tuple[str, ...] = ()
    """Comment lines before the first key."""

    def place(self, key: str) -> str:
        """'FILE, line N' of a dotted key."""
        return f"{self.file}, line {self.lines.get(key, 1)}"


def load_yaml(file: Path) -> dict[str, Any]:
    """A record as plain values; ConfigError, which names the file, for anything but a mapping of plain YAML."""
    return _check_mapping(file, Reader(file, load_text(file, RECORD_FACTOR), RECORD_FACTOR).read())


def load_document(file: Path) -> Document:
    """A config of the user's; ConfigError for what YAML does not take, or reads as something that nobody meant."""
    text = load_text(file)
    reader = Reader(file, text, strict=True)
    values = _check_mapping(file, reader.read())
    return Document(file, values, reader.lines, reader.written, tuple(_header_lines(text)))


def _check_mapping(file: Path, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{file}: expected `key: value` lines, found {_name_kind(value)}. Write a key before it.")
    return value or {}


def _name_kind(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"nothing but {shorten(value)}"


def _header_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return
        yield line.strip()
