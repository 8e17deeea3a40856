"""A quick check, before anything heavy, that an id exists on the Hub.

huggingface_hub retries an unreachable endpoint for 23 s, after imports that take
another five. This asks once, for two seconds, with nothing but the standard library. huggingface_hub.get_token() cannot be used:
it exchanges and renews tokens over the network. Its constants cannot either: they are read once, at import, and hold `~`
if there is no home. So its rules for the environment are repeated here, and a test compares them.
"""

import json
import logging
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.environment import is_carried
from lmtune.errors import LmtuneError, ModelError
from lmtune.paths import GivenPath, Kind, show

if TYPE_CHECKING:
    from http.client import HTTPResponse

logger = logging.getLogger(__name__)

TIMEOUT = 2.0
"""Seconds."""
SETTINGS = (".json", ".txt", ".model", ".jinja")
"""Suffixes of a model's files other than weights: config and tokenizer."""


def is_local(given: GivenPath) -> bool:
    """True for a path that exists, or a name that can only be a path. Raises the error of `given` if it cannot be looked at."""
    return given.find_kind(given.expand()) is not Kind.NOTHING or given.given.startswith((".", "/", "~"))


def is_hub_id(path: str) -> bool:
    """True for a name in the form of a Hub id that is not a local path."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) is not None and not is_local(GivenPath("path", path))


def check_available(kind: str, repository: str, revision: str | None, error: type[LmtuneError] = ModelError) -> None:
    """Raise unless a Hub id is cached or can be fetched. `kind` is `model` or `dataset`.

    If the endpoint does not answer, or no longer knows the repository, but a copy is cached, the process continues
    offline and logs this.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository):
        remedy = (
            "Several go into brackets, where a key takes several: [a,b]."
            if "," in repository
            else "Check the spelling."
        )
        raise error(f"{show(repository)} is neither a folder here nor a Hub id (owner/name). {remedy}")
    if _find_cache() is None:
        raise error(
            f"{repository} is no folder here, and as a Hub {kind} it has no place to be kept: HOME is not set and this user has "
            "no home. Set HF_HOME to a folder that you may write to."
        )
    cached = is_cached(kind, repository, revision)
    if (variable := find_offline()) is not None:
        if not cached:
            raise error(_explain_absence(kind, repository, revision, variable))
        return
    fault = _ask(kind, repository, revision)
    if fault is None:
        return
    if not cached:
        named = f"{repository} at the revision {revision}" if revision else repository
        raise error(
            f"{named} is no folder here, and as a Hub {kind} it cannot be had: {_endpoint()} {fault}. "
            "Check the spelling and the network; a private or gated one needs HF_TOKEN."
        )
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, which comes later
    logger.info("%s %s; going on with the cached copy of %s", _endpoint(), fault, repository)


def is_cached(kind: str, repository: str, revision: str | None = None) -> bool:
    """True if the Hugging Face cache holds a snapshot of the repository, of that revision if one is named.

    A model is loaded from its branch main unless a revision is named, whatever else the cache holds; datasets takes what there is.
    Raises ConfigError if the cache may not be read.
    """
    cache = _find_cache()
    if cache is None:
        return False
    folder, given = cache / f"{kind}s--{repository.replace('/', '--')}", GivenPath("HF_HOME", str(cache))
    if revision is None and kind == "model":
        revision = "main"
    if revision is not None and not given.is_folder(folder / "snapshots" / revision):
        return given.is_file(folder / "refs" / revision)
    return bool(given.list_folder(folder / "snapshots"))


def is_offline() -> bool:
    """True if the environment asks to stay off the network."""
    return find_offline() is not None


def find_offline() -> str | None:
    """The variable that asks to stay off the network, or None. HF_HUB_OFFLINE takes precedence."""
    name = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)), None)
    return name if name and os.environ[name].upper() in ("1", "ON", "YES", "TRUE") else None


def load_listing(kind: str, repository: str, revision: str | None) -> list[tuple[str, int]] | None:
    """(path, bytes) of each file of a repository on the Hub; None if offline, or if the Hub does not answer within seconds."""
    if is_offline():
        return None
    try:
        with _open(f"{kind}s/{repository}/tree/{(revision or 'main').replace('/', '%2F')}?recursive=true") as answer:
            entries = json.load(answer)
        return [(str(entry["path"]), int(entry["size"])) for entry in entries if entry["type"] == "file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def choose_files(names: Iterable[str], weights: bool) -> list[str]:
    """The files of a model that are read: settings, tokenizer, and weights, as safetensors if there are any."""
    top = [name for name in names if "/" not in name]
    safe = [name for name in top if name.endswith(".safetensors")]
    pickled = [name for name in top if name.endswith(".bin")]
    return [name for name in top if name.endswith(SETTINGS)] + ((safe or pickled) if weights else [])


def _explain_absence(kind: str, repository: str, revision: str | None, variable: str) -> str:
    """The message for a repository that is not in the cache while offline."""
    named = f"{repository} (revision {revision})" if revision else repository
    if not is_carried():
        return (
            f"{named} is not in the Hugging Face cache, and {variable} is set. "
            "Fetch it once with the network on, or name a folder."
        )
    key = "model.path" if kind == "model" else "data.path"
    return (
        f"{named} is not in the folder that HF_HOME names, which lmtune fetch has filled: {os.environ['HF_HOME']}. On a machine "
        f"with a network fetch it into the same folder: lmtune fetch {key}={repository}."
    )


def _open(address: str) -> "HTTPResponse":
    """The endpoint's answer to one request, within TIMEOUT."""
    token = _find_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{_endpoint()}/api/{address}", headers=headers)
    found: list[HTTPResponse | Exception] = []
    asking = threading.Thread(target=_request, args=(request, found), daemon=True)
    asking.start()
    asking.join(TIMEOUT + 0.5)  # a socket's timeout does not cover name resolution
    answer = found.pop() if found else TimeoutError(f"within {TIMEOUT:g} s")
    try:
        if isinstance(answer, Exception):
            raise answer
        return answer
    finally:
        del answer  # an error referenced by its own frames would keep its socket open


def _request(request: urllib.request.Request, found: "list[HTTPResponse | Exception]") -> None:
    try:
        found.append(urllib.request.urlopen(request, timeout=TIMEOUT))
    except Exception as fault:
        found.append(fault)
    finally:
        del found


def _ask(kind: str, repository: str, revision: str | None) -> str | None:
    """None if the endpoint knows the repository, else what it said."""
    address = f"{kind}s/{repository}" + (f"/revision/{revision.replace('/', '%2F')}" if revision else "")
    try:
        with _open(address):
            return None
    except urllib.error.HTTPError as answer:
        return _explain_status(answer.code)
    except (OSError, ValueError) as failure:
        return f"did not answer ({getattr(failure, 'reason', failure)})"


def _explain_status(code: int) -> str | None:
    if code in (401, 403, 404):
        return "does not know it, or does not show it without a token"
    if code >= 500:
        return f"did not answer (status {code})"
    return None  # a redirect or a rate limit: the real client deals with those


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _find_token() -> str | None:
    """HF_TOKEN, else the token that `hf auth login` saved."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(name, "").strip():
            return token
    home = _find_home()
    file = _expand(os.environ.get("HF_TOKEN_PATH") or (str(home / "token") if home else "~"))
    try:
        return file.read_text(encoding="utf-8").strip() if file is not None and file.is_file() else None
    except (OSError, ValueError):  # another user's, or not a text file: the request goes without
        return None


def _find_cache() -> Path | None:
    """The Hub's cache; None for a user without a home (in containers) who has set none."""
    home = _find_home()
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return _expand(named or (str(home / "hub") if home else "~"))


def _find_home() -> Path | None:
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expand(os.environ.get("HF_HOME") or f"{above}/huggingface")


def _expand(path: str) -> Path | None:
    """The path with `~` and variables expanded; None if `~` has no home."""
    # Path.expanduser raises where this leaves the path as it was.
    expanded = os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111
    return None if expanded.startswith("~") else Path(expanded)
