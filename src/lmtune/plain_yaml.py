"""YAML that anyone may have written, as plain values: bounded in time and memory, and no code of its author's runs.

load_yaml(run / "config.yaml")              a record
load_document(conf / "data" / "mine.yaml")  a config of the user's: where each key stands, and nothing misread
"""

import codecs
import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lmtune.errors import ConfigError, first_line

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
"""Values of a file once every `*anchor` is written out: the file that expands to billions of them stops here."""
MAX_DEPTH = 40
MAX_DIGITS = 100
"""Characters of a number."""
RECORD_FACTOR = 10
"""Records may be so many times larger than configs: they name by absolute paths what a config named by short ones."""

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + kind for kind in ("null", "bool", "int", "float", "str"))
_THOUSANDS = re.compile(r"[0-9]{1,3}(_[0-9]{3})*")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_PROBLEMS = {
    r"character '\t'": "a tab where YAML wants blanks. Indent with blanks",
    "cannot start any token": "a value begins with a character that YAML keeps for itself. Put it between single quotes",
    "expected alphabetic or numeric character": "a value begins with * or &, which stand for anchors. "
    "Put it between single quotes, such as '*.txt'",
    "undefined alias": "a value begins with * and names no anchor. Put it between single quotes, such as '*.txt'",
    "mapping values are not allowed": "a second colon in one line, or a line indented too far. "
    "Put text that holds a colon between single quotes",
    "could not find expected ':'": "a line without its colon. Write key: value",
    "expected <block end>": "a line out of step with those above it, or text behind a closing quote. "
    "Indent all keys of one level alike",
    "unexpected end of stream": "a quote that nothing closes. Close it",
    "expected ',' or": "a bracket that nothing closes. Close it, or put text that holds brackets or ${...} between single quotes",
    "unknown escape character": "a backslash between double quotes. Put the text between single quotes",
    "single document": "a second document behind ---. Keep one to a file",
    "duplicate anchor": "the same anchor twice. Give each &name once",
}
"""What PyYAML says of a mistake, and what a person is told: what stands there, and what to do."""


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
    return _check_mapping(file, _Reader(file, _load_text(file, RECORD_FACTOR), RECORD_FACTOR).read())


def load_document(file: Path) -> Document:
    """A config of the user's; ConfigError for what YAML does not take, or reads as something that nobody meant."""
    text = _load_text(file)
    reader = _Reader(file, text, strict=True)
    values = _check_mapping(file, reader.read())
    return Document(file, values, reader.lines, reader.written, tuple(_header_lines(text)))


def shorten(text: object) -> str:
    """What was found, for a message: on one line, and not too long."""
    line = repr(text) if isinstance(text, str) and not text.isprintable() else str(text)
    return line if len(line) <= 60 else line[:57] + "..."


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


def _load_text(file: Path, factor: int = 1) -> str:
    try:
        data = _load_bytes(file, factor * MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{file}: expected a YAML file that can be read, found: {reason}. Mend the file.") from error
    if len(data) > factor * MAX_BYTES:
        raise ConfigError(
            f"{file}: expected at most {factor * MAX_BYTES // 1_000_000} MB of settings, found more. "
            "Text belongs into a file that data.files= names."
        )
    return _decode(file, data)


def _load_bytes(file: Path, most: int) -> bytes:
    """Up to `most` bytes of a regular file; nothing else is waited for."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    mode = file.stat().st_mode  # before opening: to open a device may already do something
    if not stat.S_ISREG(mode):
        raise ValueError(kinds.get(stat.S_IFMT(mode), "a device"))
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:  # noqa: PTH123
        return opened.read(most)


def _decode(file: Path, data: bytes) -> str:
    mark = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    try:
        if mark:
            raise ConfigError(_explain_encoding(file, mark, mark))
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{data[error.start]:02x} in line {line}"
        raise ConfigError(_explain_encoding(file, found, "LATIN1")) from error
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise ConfigError(
            f"{file}, line {line}: expected text, found the character U+{ord(odd[0]):04X}. Take it out, or write the file anew."
        )
    return text


def _explain_encoding(file: Path, found: str, encoding: str) -> str:
    return (
        f"{file}: expected text in UTF-8, found {found}. Save it as UTF-8: "
        f"iconv -f {encoding} -t UTF-8 {file.name} > new.yaml"
    )


class _Loader(yaml.SafeLoader):
    """Composes nodes as far as the bounds allow."""

    def __init__(self, text: str, most: int) -> None:
        super().__init__(text)
        self.most = most
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.most -= 1
        if self.depth > MAX_DEPTH or self.most < 0:
            raise _BoundError(f"levels inside each other, over {MAX_DEPTH}" if self.most >= 0 else "values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]  # a date stays text
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _ConfigLoader(_Loader):
    """Takes 1e5 and 5e-5 for numbers, as OmegaConf does; yaml.safe_dump, which writes records, takes them for text."""


_ConfigLoader.add_implicit_resolver(
    f"{_TAG}float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _BoundError(Exception):
    """There is more in a file than a config can need."""


class _Reader:
    """Turns the text of one file into plain values, `*anchors` written out."""

    def __init__(self, file: Path, text: str, factor: int = 1, strict: bool = False) -> None:
        self.file = file
        self.strict = strict
        self.loader = (_ConfigLoader if strict else _Loader)(text, factor * MAX_VALUES)
        self.values_left = factor * MAX_VALUES
        self.characters_left = factor * MAX_BYTES
        self.lines: dict[str, int] = {}
        self.written: dict[str, tuple[str, Any]] = {}
        self.above: list[Any] = []

    def read(self) -> Any:
        try:
            node = self.loader.get_single_node()
            return None if node is None else self.build(node, "")
        except yaml.MarkedYAMLError as error:
            problems = (str(error.problem or ""), str(error.context or ""))
            raise ConfigError(_explain_syntax(self.file, problems, error.problem_mark or error.context_mark)) from error
        except (ValueError, OverflowError) as error:  # PyYAML's, of an escape beyond Unicode, a %YAML beyond numbers
            raise ConfigError(_explain_syntax(self.file, (first_line(error),), self.loader.get_mark())) from error
        except _BoundError as error:
            raise ConfigError(
                f"{self.file}: expected the settings of one config, found too many {error}. Take some out."
            ) from error
        finally:
            self.loader.dispose()

    def build(self, node: Any, key: str) -> Any:
        """The value of a node. `key` is its dotted place."""
        self._count(node, key)
        self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALAR_TAGS:
            return self._build_scalar(node, key)
        if node.tag != _TAG + {yaml.SequenceNode: "seq", yaml.MappingNode: "map"}.get(type(node), ""):
            self._refuse_tag(node, key)
        self.above.append(node)
        if isinstance(node, yaml.SequenceNode):
            built: Any = [self.build(item, f"{key}.{number}") for number, item in enumerate(node.value)]
        else:
            built = self._build_mapping(node, key)
        self.above.pop()
        return built

    def _count(self, node: Any, key: str) -> None:
        if any(node is other for other in self.above):
            self._refuse(node, key, "expected a value, found an anchor that holds itself. Write the value out")
        self.values_left -= 1
        self.characters_left -= len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if self.values_left < 0 or self.characters_left < 0 or len(self.above) > MAX_DEPTH:
            raise _BoundError("values once its anchors are written out")

    def _build_mapping(self, node: Any, key: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if name_node.tag == f"{_TAG}merge":
                merged = {**self._build_merged(value_node, key), **merged}
                continue
            name = self._build_name(name_node, key)
            inner = f"{key}.{name}" if key else name
            if name in own:
                self._refuse(
                    name_node, inner, f"stands there already, in line {self.lines[inner]}. Keep one of the two"
                )
            self.lines[inner] = name_node.start_mark.line + 1
            own[name] = self.build(value_node, inner)
        return {**merged, **own}

    def _build_merged(self, node: Any, key: str) -> dict[str, Any]:
        """What `<<:` takes in: a mapping, or a list of them of which the first has the say."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for item in nodes:
            if not isinstance(item, yaml.MappingNode):
                self._refuse(item, key, "expected a mapping behind <<, found none. Write << : *anchor")
            found = {**self.build(item, key), **found}
        return found

    def _build_name(self, node: Any, key: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != f"{_TAG}str":
            found = shorten(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
            self._refuse(
                node, key, f"expected the name of a key, found {found}, which is no text to YAML. Put it between quotes"
            )
        return str(self._build_scalar(node, key))

    def _build_scalar(self, node: Any, key: str) -> Any:
        text = node.value
        if node.tag == f"{_TAG}str":
            if "\0" in text or not _is_encodable(text):
                self._refuse(
                    node, key, "expected text, found an escape that is no character. Write the character itself"
                )
            if text == "None" and node.style is None and self.strict:
                self._refuse(
                    node, key, "None is read as text. Write null for no value, or 'None' between quotes for the word"
                )
            return text
        value = self._construct(node, key)
        self.written[key] = (text, value)
        trap = find_trap(text, value) if self.strict else None
        if trap:
            self._refuse(node, key, trap)
        return value

    def _construct(self, node: Any, key: str) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if len(node.value) <= MAX_DIGITS:
            # IndexError is PyYAML's for `!!int ''`, KeyError its for `!!bool` before another word.
            with contextlib.suppress(ValueError, IndexError, KeyError, yaml.YAMLError):
                return self.loader.construct_object(node)
        return self._refuse(node, key, f"{shorten(node.value)} is no {kind}. Put it between quotes for text")

    def _refuse_tag(self, node: Any, key: str) -> NoReturn:
        if node.tag in (f"{_TAG}value", f"{_TAG}merge"):
            self._refuse(node, key, f"{node.value} alone means something else to YAML. Put it between quotes")
        tag = node.tag.replace(_TAG, "!!")
        instead = "To take in another config, write defaults: [NAME]" if "include" in tag else "Leave the tag out"
        self._refuse(
            node, key, f"expected a plain value, found the tag {shorten(tag)}, which lmtune does not follow. {instead}"
        )

    def _refuse(self, node: Any, key: str, reason: str) -> NoReturn:
        prefix = f"{shorten(key)}: " if key else ""
        raise ConfigError(f"{self.file}, line {node.start_mark.line + 1}: {prefix}{reason}.")


def find_trap(text: str, value: Any) -> str | None:
    """What YAML 1.1 makes of `text` that its author did not mean, and how to write it instead; None where it is sound."""
    quoted = f"'{text}' between quotes"
    body = text.lstrip("+-")
    if isinstance(value, bool):
        plain = str(value).lower()
        return None if text.lower() == plain else f"{text} is read as {plain}. Write {quoted} for the word, or {plain}"
    if value is None or body[:2] in ("0x", "0b"):
        return None
    if ":" in text:
        return f"{text} is read as {value}, a number to the base 60. Write {quoted}"
    if re.match(r"0[0-9_]", body):
        octal = ", an octal number" if isinstance(value, int) else ""
        return f"{text} is read as {value}{octal}. Write {body.lstrip('0_') or '0'}, or {quoted} for the characters"
    if "_" in text and not _THOUSANDS.fullmatch(re.split(r"[.eE]", body)[0]):
        return f"{text} is read as the number {value}. Write {quoted} for the characters"
    if value in (float("inf"), float("-inf")) and "inf" not in text.lower():
        return f"{text} is read as infinity. Write {quoted} for the characters, or .inf"
    return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _explain_syntax(file: Path, problems: tuple[str, ...], mark: Any) -> str:
    """What PyYAML says, the problem before what it was about; in our words where there are any."""
    words = next((words for part, words in _PROBLEMS.items() if any(part in said for said in problems)), None)
    place = f"{file}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(file)
    return f"{place}: expected YAML, found {words or f'something else: {shorten(problems[0])}. Mend it'}."
