"""From what a person types after `key=` to what Hydra's grammar reads.

Hydra's grammar refuses `prompt=tem já`, sweeps over `prompt=Em 2020, o` and breaks on `data.files=/home/João/a(1).txt`.
For keys that hold free text, what stands after `=` is the value, so it is quoted before Hydra sees it.
"""

import os
import re
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from lmtune.errors import ConfigError

FREE_TEXT = frozenset(
    [
        "prompt",
        "ckpt",
        "resume",
        "name",
        "output",
        "data.files",
        "data.validation_files",
        "data.text_column",
        "model.path",
        "model.tokenizer",
        "prompts",
        "prompts_file",
        "data.prompts",
    ]
)
"""Keys whose value is taken literally."""

NO_SOURCE = {
    "data.path": "null",
    "data.subset": "null",
    "data.revision": "null",
    "data.validation_split": "null",
    "data.test_split": "null",
    "data.text_column": "text",
    "data.documents": "null",
    "data.rows_per_document": "1",
}
"""What a data group says about its own source, taken back."""

LISTS = frozenset(["ckpt", "data.files", "data.validation_files", "prompts", "data.prompts", "eval_data"])
"""Keys for which a value that opens with `[` is a list."""

OPEN_KEYS = ("model.config", "data.where", "data.mix")
"""Keys below which any name may stand: the names depend on the model or the table, and are checked once that is known."""

SECRET_NAME = re.compile(r"(^|_)(token|secret|password|passwd|api_?key|credentials?)$", re.IGNORECASE)
"""Names of keys and of environment variables whose value is nobody else's business."""

SECRET_VALUE = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
"""Tokens of the Hugging Face Hub."""

_OVERRIDE = re.compile(r"(?P<prefix>\+{0,2})(?P<key>[A-Za-z_][\w./@:-]*)=(?P<value>.*)", re.DOTALL)


def prepare_overrides(arguments: list[str]) -> list[str]:
    """Arguments of the command line as Hydra understands them; options such as `-m` pass through."""
    typed = [_OVERRIDE.fullmatch(argument) for argument in arguments]
    given = {match["key"] for match in typed if match}
    prepared = [
        argument if match is None else _prepare(match["prefix"], match["key"], match["value"])
        for argument, match in zip(arguments, typed, strict=True)
    ]
    return [*_own_groups(given), *_own_files(given), *prepared]


def check_secrets(arguments: list[str]) -> None:
    """Raise ConfigError for an override that carries a secret, before Hydra writes it into a record or an error message."""
    for argument in arguments:
        match = _OVERRIDE.fullmatch(argument)
        if match is None or match["value"] in ("", "null"):
            continue
        name = match["key"].split(".")[-1]
        if SECRET_NAME.search(name):
            remedy = f"Set the environment variable {'HF_TOKEN' if name == 'hub_token' else name.upper()} instead."
        elif find_secret(match["value"]):
            remedy = "Leave it in the environment, where the library that needs it looks."
        else:
            continue
        raise ConfigError(
            f"{match['key']}= carries a secret, which would be written into the record of the run; expected none on the "
            f"command line. {remedy}"
        )


def find_secret(text: str) -> str | None:
    """Why a text must not be written down: the variable whose value it holds, or what it looks like."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= 8 and value in text:
            return f"the value of {name}"
    return "a token of the Hub" if SECRET_VALUE.search(text) else None


def _own_groups(given: set[str]) -> list[str]:
    """The groups that a source alone stands for."""
    chosen = []
    if "data.files" in given and not given & {"data", "experiment"}:
        chosen.append("data=files")
    if "model.path" in given and not given & {"model", "experiment"}:
        chosen.append("model=hub")
    return chosen


def _own_files(given: set[str]) -> list[str]:
    """One's own files beside a named data set take the place of its source, column and document rule; filters stay."""
    if "data.files" not in given or not given & {"data", "experiment"}:
        return []
    return [f"{key}={value}" for key, value in NO_SOURCE.items() if key not in given]


def quote(text: str) -> str:
    """A quoted string of Hydra's grammar that stands for exactly `text`.

    An interpolation is escaped with a backslash; backslashes right before it are doubled, as OmegaConf reads them so.
    """
    literal = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    return QuotedString(text=literal, quote=Quote.single).with_quotes()


def _prepare(prefix: str, key: str, value: str) -> str:
    if key.startswith("suite.files."):
        return f"++{key}={quote(value)}"
    if key.startswith(OPEN_KEYS):
        return f"++{key}={value}"
    if key == "eval_data" and not value.startswith("["):
        return f"eval_data=[{value}]"
    if key in FREE_TEXT:
        return f"{prefix}{key}={_literal(key, value)}"
    if not _parses(key, value) and not value.startswith(("[", "{")):
        return f"{prefix}{key}={quote(value)}"
    return f"{prefix}{key}={value}"


def _literal(key: str, value: str) -> str:
    if value.startswith("choice(") and _parses(key, value):
        return value
    if not (value.startswith("[") and key in LISTS):
        return f"[{quote(value)}]" if key in ("prompts", "data.prompts") else quote(value)
    if _parses(key, value):
        return value
    return "[" + ",".join(quote(item) for item in _split_list(value)) + "]"


def _split_list(value: str) -> list[str]:
    """Items of `[a, 'b, c', d]`, for lists that Hydra's grammar cannot read (accents, brackets in names)."""
    inner = value[1:].removesuffix("]")
    items = re.findall(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]*?))\s*(?:,|$)""", inner)
    found = [next(filter(None, item), "") for item in items]
    return [item for item in found if item]


def _parses(key: str, value: str) -> bool:
    try:
        _parser().parse_override(f"{key}={value}")
    except HydraException:
        return False
    return True


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
