"""Nodes of YAML as plain values: anchors written out and counted, tags refused, traps named."""

import contextlib
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lmtune.errors import ConfigError, first_line
from lmtune.plain_yaml.loader import MAX_DEPTH, TAG, BoundError, ConfigLoader, Loader
from lmtune.plain_yaml.text import MAX_BYTES
from lmtune.plain_yaml.wording import explain_syntax, find_trap, shorten

MAX_VALUES = 20_000
"""Values of a file once every `*anchor` is written out: the file that expands to billions of them stops here."""
MAX_DIGITS = 100
"""Characters of a number."""
_SCALAR_TAGS = frozenset(TAG + kind for kind in ("null", "bool", "int", "float", "str"))


class Reader:
    """Turns the text of one file into plain values, `*anchors` written out."""

    def __init__(self, file: Path, text: str, factor: int = 1, strict: bool = False) -> None:
        self.file = file
        self.strict = strict
        self.loader = (ConfigLoader if strict else Loader)(text, factor * MAX_VALUES)
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
            raise ConfigError(explain_syntax(self.file, problems, error.problem_mark or error.context_mark)) from error
        except (ValueError, OverflowError) as error:  # PyYAML's, of an escape beyond Unicode, a %YAML beyond numbers
            raise ConfigError(explain_syntax(self.file, (first_line(error),), self.loader.get_mark())) from error
        except BoundError as error:
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
        if node.tag != TAG + {yaml.SequenceNode: "seq", yaml.MappingNode: "map"}.get(type(node), ""):
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
            raise BoundError("values once its anchors are written out")

    def _build_mapping(self, node: Any, key: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if name_node.tag == f"{TAG}merge":
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
        if not isinstance(node, yaml.ScalarNode) or node.tag != f"{TAG}str":
            found = shorten(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
            self._refuse(
                node, key, f"expected the name of a key, found {found}, which is no text to YAML. Put it between quotes"
            )
        return str(self._build_scalar(node, key))

    def _build_scalar(self, node: Any, key: str) -> Any:
        text = node.value
        if node.tag == f"{TAG}str":
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
        kind = node.tag.removeprefix(TAG)
        if len(node.value) <= MAX_DIGITS:
            # IndexError is PyYAML's for `!!int ''`, KeyError its for `!!bool` before another word.
            with contextlib.suppress(ValueError, IndexError, KeyError, yaml.YAMLError):
                return self.loader.construct_object(node)
        return self._refuse(node, key, f"{shorten(node.value)} is no {kind}. Put it between quotes for text")

    def _refuse_tag(self, node: Any, key: str) -> NoReturn:
        if node.tag in (f"{TAG}value", f"{TAG}merge"):
            self._refuse(node, key, f"{node.value} alone means something else to YAML. Put it between quotes")
        tag = node.tag.replace(TAG, "!!")
        instead = "To take in another config, write defaults: [NAME]" if "include" in tag else "Leave the tag out"
        self._refuse(
            node, key, f"expected a plain value, found the tag {shorten(tag)}, which lmtune does not follow. {instead}"
        )

    def _refuse(self, node: Any, key: str, reason: str) -> NoReturn:
        prefix = f"{shorten(key)}: " if key else ""
        raise ConfigError(f"{self.file}, line {node.start_mark.line + 1}: {prefix}{reason}.")


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
