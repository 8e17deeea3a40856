"""What a person is told of a mistake in YAML: what stands there, and what to write instead."""

import re
from pathlib import Path
from typing import Any

_THOUSANDS = re.compile(r"[0-9]{1,3}(_[0-9]{3})*")
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


def shorten(text: object) -> str:
    """What was found, for a message: on one line, and not too long."""
    line = repr(text) if isinstance(text, str) and not text.isprintable() else str(text)
    return line if len(line) <= 60 else line[:57] + "..."


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


def explain_syntax(file: Path, problems: tuple[str, ...], mark: Any) -> str:
    """What PyYAML says, the problem before what it was about; in our words where there are any."""
    words = next((words for part, words in _PROBLEMS.items() if any(part in said for said in problems)), None)
    place = f"{file}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(file)
    return f"{place}: expected YAML, found {words or f'something else: {shorten(problems[0])}. Mend it'}."
