"""Who may ask: a bearer token, compared in constant time. Only the page itself and /health answer without one."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field

from lmtune.config import ServeSettings
from lmtune.errors import ConfigError
from lmtune.paths import GivenPath

VARIABLE = "LMTUNE_SERVE_TOKEN"
LEAST = 16
"""Characters of a token."""
OPEN = frozenset(["/", "/health"])
"""Paths that answer everybody: a page without data, and whether the server is there."""


@dataclass(frozen=True, slots=True)
class Access:
    """The token of a server."""

    token: str = field(repr=False)
    made: bool
    """It was made for this process."""

    def check(self, path: str, authorization: str | None) -> None:
        """Raise a fault with status 401 unless the header of a request carries the token."""
        if path in OPEN:
            return
        scheme, _, given = (authorization or "").partition(" ")
        if not hmac.compare_digest(_digest(given.strip()), _digest(self.token)) or scheme.lower() != "bearer":
            # Imports torch; a token that protects nothing is refused before that.
            from lmtune.serving.faults import FaultError

            raise FaultError(
                401,
                "Expected the token of this server in the header Authorization: Bearer <token>.",
                "authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def resolve_access(settings: ServeSettings) -> Access:
    """The token from the environment or a file, else a new one. Raises ConfigError for one that protects nothing."""
    given = _load_token(settings)
    if given is None:
        if not settings.is_loopback:
            raise ConfigError(
                f"serve.host={settings.host}: others than this machine reach it, so it needs a token of your own; found none. Set "
                f"{VARIABLE}, or serve.token_file=."
            )
        return Access(secrets.token_urlsafe(32), made=True)
    if not re.fullmatch(rf"[\x21-\x7e]{{{LEAST},}}", given):
        raise ConfigError(
            f"The token of the server: expected {LEAST} or more characters of ASCII without blanks, found "
            f"{len(given)} characters. This makes one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return Access(given, made=False)


def _load_token(settings: ServeSettings) -> str | None:
    named = os.environ.get(VARIABLE)
    if settings.token_file is None:
        return named
    if named is not None:
        raise ConfigError(
            f"{VARIABLE} and serve.token_file={settings.token_file} both give a token. Leave one of them out."
        )
    given = GivenPath("serve.token_file", settings.token_file, ConfigError)
    return given.read_text(given.expand(), "a text file with the token").strip()


def _digest(text: str) -> bytes:
    """A digest, so that comparing takes the same time for texts of any length."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
