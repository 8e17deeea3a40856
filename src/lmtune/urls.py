"""URLs typed in place of a path: `s3://bucket/corpus/*.parquet`. A path without a protocol is none."""

import re

from lmtune.errors import ConfigError

_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?P<host>[^/?#]*)", re.IGNORECASE)
_OWN = "pkg"
"""Protocol of files inside the package, which count as paths."""
_SECRET = re.compile(r"[?&][^=&]*(sig|token|credential|key|secret|passw|auth)[^=&]*=", re.IGNORECASE)


def find_protocol(given: str) -> str | None:
    """`s3` of `s3://bucket/a.txt`, in lower case; None for a path."""
    match = _URL.match(given)
    return None if match is None or match["protocol"] == _OWN else match["protocol"].lower()


def check_url(key: str, url: str) -> None:
    """Raise ConfigError for a URL that carries a secret, which records would then hold. The message does not repeat it."""
    match = _URL.match(url)
    if (match and "@" in match["host"]) or _SECRET.search(url):
        protocol = find_protocol(url)
        raise ConfigError(
            f"{key}={protocol}://...: expected an address without a password or a signature, which would be written into the "
            f"records of the run; found one. Leave it to the settings of what reads {protocol}://: its environment variables, or "
            "~/.config/fsspec."
        )
