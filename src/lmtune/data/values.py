"""Values of tables: rendered as the text that they are written as, and compared with what data.where asks for.

Numbers and words are kept as they are written: `007`, `1e5` and `true` are not turned into anything else and back.
"""

import json
import math
import re
from datetime import date, time
from decimal import Decimal

from lmtune.errors import DataError

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
"""As JSON writes one: 007 is none."""

TURN_TEXTS = ("content", "value")
"""What the text of a turn is called in lists of chat messages, and in those of ShareGPT."""


class Numeral(str):
    """A number of a JSON file, as it is written there."""

    __slots__ = ()


def build_json_decoder() -> json.JSONDecoder:
    """Objects whose numbers are Numerals, but for whole ones, which Python writes the same way; NaN is no value."""
    return json.JSONDecoder(parse_float=Numeral, parse_constant=_read_constant)


def _read_constant(name: str) -> Numeral | None:
    return None if name == "NaN" else Numeral(name)


def render_value(value: object, column: str, where: str, row: int, encoding: str) -> str:
    """A value as text; "" for a missing value.

    Raises DataError for lists, objects, spans of time, and bytes that do not decode.
    row: number of the row, from 1, for messages.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return _decode(value, column, where, row, encoding)
    if isinstance(value, dict | list):
        inside = ", ".join(map(str, value)) if isinstance(value, dict) else f"{len(value)} items"
        raise DataError(
            f"{where}: {column!r} holds no text but {type(value).__name__} ({inside}). "
            f"Reach inside with data.text_column={column}.<name or number>{_suggest_template(value, column)}. It is row {row:,}."
        )
    raise DataError(
        f"{where}, row {row:,}: expected text in {column!r}, found {type(value).__name__}. Name another with data.text_column=."
    )


def _suggest_template(value: object, column: str) -> str:
    """How the turns of a conversation, objects in a list, become one text; "" for another value."""
    turn = value[0] if isinstance(value, list) and value else None
    texts = {name: text for name, text in turn.items() if isinstance(text, str)} if isinstance(turn, dict) else {}
    if not texts:
        return ""
    name = next((usual for usual in TURN_TEXTS if usual in texts), max(texts, key=lambda each: len(texts[each])))
    return f", several in a template: 'data.text_column={{{column}.0.{name}}}\\n{{{column}.1.{name}}}'"


def _decode(value: bytes, column: str, where: str, row: int, encoding: str) -> str:
    try:
        return value.decode(encoding)
    except (UnicodeError, LookupError, ValueError) as error:
        raise DataError(
            f"{where}, row {row:,}: {column!r} holds bytes, which data.encoding={encoding} does not decode ({error}). "
            "Say what they are with data.encoding=, or name a column of text with data.text_column=."
        ) from error


def is_wanted(value: object, wanted: object) -> bool:
    """True for the value that data.where asks for, or one of a list of them.

    Where one of the two is text, as all of a .csv is, they are compared as they are written; 1 is never true.
    """
    if isinstance(wanted, list):
        is_same = isinstance(value, list) and len(value) == len(wanted) and all(map(is_wanted, value, wanted))
        return is_same or any(is_wanted(value, each) for each in wanted)
    if wanted is None or value is None:
        return value is wanted or value == ""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return _write(value).lower() == _write(wanted).lower() and not isinstance(value, Numeral)
    if isinstance(wanted, int | float):
        return _is_number(value, wanted)
    if isinstance(value, bytes):
        return bool(value == str(wanted).encode())
    return value == wanted or (isinstance(wanted, str) and _write(value) == wanted)


def _is_number(value: object, wanted: int | float) -> bool:
    if isinstance(value, str):
        return NUMBER.fullmatch(value) is not None and Decimal(value) == Decimal(str(wanted))
    return bool(value == wanted)


def _write(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date | time) else str(value)
