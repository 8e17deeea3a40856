"""Values against the types that transformers annotates its settings with; TrainingArguments itself accepts anything."""

import re
from collections.abc import Mapping

from lmtune.config.ranges import render_value
from lmtune.errors import ConfigError

_PLAIN_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "dict": (dict,),
    "list": (list,),
    "None": (type(None),),
}
_IN_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "keys in braces",
    list: "a list",
    type(None): "null",
}


def check_types(values: Mapping[str, object], annotations: Mapping[str, str], prefix: str) -> None:
    """Raise ConfigError where a value cannot be of its annotated type."""
    for name, value in values.items():
        allowed = _allowed_types(annotations[name])
        if allowed and not any(_is_a(value, kind) for kind in allowed):
            shown = f"'{value}'" if isinstance(value, str) else render_value(value)  # '3' is no number
            remedy = "Leave it out for the default." if value is None else "Give another value."
            if isinstance(value, float) and value.is_integer():
                remedy = f"Write {prefix}{name}={value:.0f}."
            raise ConfigError(f"{prefix}{name}={shown}: expected {_render_types(allowed)}. {remedy}")


def _allowed_types(annotation: str) -> tuple[type, ...]:
    """Python types that an annotation admits; empty if it names a type that cannot be judged here."""
    names = re.findall(r"[A-Za-z_]\w*", re.sub(r"\[[^\]]*\]", "", annotation))
    allowed: list[type] = []
    for name in names:
        if name in ("Any", "Literal", "ParallelismConfig"):
            return ()
        allowed.extend(_PLAIN_TYPES.get(name, (str,)))  # other names are enums, written as strings
    return tuple(allowed)


def _render_types(allowed: tuple[type, ...]) -> str:
    """`a whole number or null`. Whole numbers are not named beside others."""
    named = (kind for kind in dict.fromkeys(allowed) if not (kind is int and float in allowed))
    return " or ".join(_IN_WORDS[kind] for kind in named)


def _is_a(value: object, kind: type) -> bool:
    return (
        type(value) is kind or (kind is list and isinstance(value, list)) or (kind is dict and isinstance(value, dict))
    )
