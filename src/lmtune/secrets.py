"""Secrets: how they are recognised, refused among the arguments, and masked in messages."""

import os
import re
from collections.abc import Iterator
from itertools import pairwise

from lmtune.errors import ConfigError

LEAST_LENGTH = 8
"""Minimum length of a secret in characters: shorter values of variables would be found in every text."""

SECRET_VARIABLE = re.compile(r"(^|_)(token|secret|password|passwd|api_?key|credentials?)$", re.IGNORECASE)
"""Names of environment variables whose value is a secret."""

SECRET_KEYS = {
    "hub_token": "HF_TOKEN",
    "hf_token": "HF_TOKEN",
    "use_auth_token": "HF_TOKEN",
    "serve.token": "LMTUNE_SERVE_TOKEN",
    "wandb_api_key": "WANDB_API_KEY",
}
"""Keys whose value is always a secret, and the environment variable to use instead."""

SECRET_WORDS = frozenset(["token", "access_token", "auth_token", "api_key", "apikey", "password", "passwd", "secret"])
SECRET_SECTIONS = frozenset(["", "training", "tracker", "hub", "serve", "wandb"])
"""Names of keys, and their sections, whose value is a secret if it looks like one."""

PATTERNS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), "a token of the Hub"),
    (re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})"), "a token of a code host"),
    (re.compile(r"\bsk-[\w-]{20,}"), "a key of an API"),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), "a key of a cloud"),
    (re.compile(r"(?<=://)[^/\s:@'\"]*:[^/\s@'\"]+(?=@)"), "a password in a URL"),
    (
        re.compile(r"\$\{oc\.env:\w*(token|secret|passw|api_?key|credential)\w*[,}]", re.IGNORECASE),
        "a secret of the environment",
    ),
    (
        re.compile(
            r"(?<=[?&])(?:(?:access_|auth_)?token|api_?key|key|password|secret|sig|signature|x-amz-signature)=[^&\s'\"]{8,}",
            re.IGNORECASE,
        ),
        "a token in a URL",
    ),
)
"""Patterns of secrets, and what messages call them."""

MASK = "***"

_ARGUMENT = re.compile(r"(?:--?|\+{0,2})(?P<key>[A-Za-z_][\w./@:-]*)=(?P<value>.*)", re.DOTALL)


def check_secrets(arguments: list[str]) -> None:
    """Raise ConfigError for an argument that carries a secret, before anything writes it into a record or a message."""
    for key, value in _pair(arguments):
        if (remedy := _find_remedy(key, value)) is not None:
            raise ConfigError(
                f"{key}= carries a secret, which would be written into the record of the run; expected none on the "
                f"command line. {remedy}"
            )


def find_secret(text: str) -> str | None:
    """Why a text is secret: the variable whose value it holds, or the kind of secret it looks like; None if it is not."""
    for name, value in _variables():
        if value in text:
            return f"the value of {name}"
    return next((called for pattern, called in PATTERNS if pattern.search(text)), None)


def hide_secrets(text: str) -> str:
    """The text with every secret in it masked."""
    for _, value in _variables():
        text = text.replace(value, MASK)
    for pattern, _ in PATTERNS:
        text = pattern.sub(MASK, text)
    return text


def _variables() -> Iterator[tuple[str, str]]:
    """Environment variables that hold secrets, the longest first: one may be a part of another."""
    found = [
        (name, value)
        for name, value in os.environ.items()
        if SECRET_VARIABLE.search(name) and len(value) >= LEAST_LENGTH
    ]
    yield from sorted(found, key=lambda pair: -len(pair[1]))


def _pair(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Keys and values of the arguments, including `--key value`."""
    for argument, after in pairwise([*arguments, ""]):
        match = _ARGUMENT.fullmatch(argument)
        if match is not None:
            yield match["key"], match["value"]
        elif argument.startswith("--") and "=" not in after:
            yield argument.lstrip("-"), after


def _find_remedy(key: str, value: str) -> str | None:
    """What to do instead of typing a secret; None for a value that is no secret."""
    name = key.replace("-", "_").lower()
    section, _, leaf = name.rpartition(".")
    if value.lower() in ("", "null", "none", "true", "false"):
        return None
    variable = SECRET_KEYS.get(name) or SECRET_KEYS.get(leaf)
    if variable is not None and not value.isdigit():
        return f"Set the environment variable {variable} instead."
    if leaf in SECRET_WORDS and section in SECRET_SECTIONS and looks_secret(value):
        return f"Set the environment variable {'HF_TOKEN' if leaf.endswith('token') else leaf.upper()} instead."
    if name.startswith("hydra.job.env_set") and SECRET_VARIABLE.search(leaf):
        return f"Set the environment variable {leaf.upper()} itself."
    found = find_secret(value)
    if found is None:
        return None
    if found.endswith("URL"):
        return "Leave it out of the address."
    return "Leave it in the environment, where the library that needs it looks."


def looks_secret(value: str) -> bool:
    """True for a long value without spaces that is no path, list, number or word."""
    return len(value) >= LEAST_LENGTH and bool(re.fullmatch(r"(?=.*[^\d.e+-])(?=.*[\d_.~+=-])[\w.~+=-]+", value))
